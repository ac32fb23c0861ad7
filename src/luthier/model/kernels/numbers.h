/* Numbers of both types, and the functions of a decoder in a form that compilers turn into vector instructions. */
#ifndef LUTHIER_NUMBERS
#define LUTHIER_NUMBERS
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bfloat16;
typedef union {
    float number;
    uint32_t bits;
} Float32;

static inline float from_bfloat16(bfloat16 value) {
    Float32 x;
    x.bits = (uint32_t)value << 16;
    return x.number;
}

/* To the nearest, ties to even; a NaN stays one, as its mantissa keeps a bit. */
static inline bfloat16 to_bfloat16(float value) {
    Float32 x;
    x.number = value;
    uint32_t rounded = (x.bits + 0x7fffu + ((x.bits >> 16) & 1u)) >> 16;
    uint32_t is_nan = (x.bits & 0x7fffffffu) > 0x7f800000u;
    return (bfloat16)(is_nan ? 0x7fc0u : rounded);
}

/* e^x within 2 units of the last place: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] (Taylor's, to the seventh power).
 * Written out so that compilers turn it into vector instructions without a library of their own. */
static inline float exponential(float x) {
    x = x > 88.0f ? 88.0f : x;
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504088896341f);
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9841270e-4f;
    p = p * r + 1.3888889e-3f;
    p = p * r + 8.3333333e-3f;
    p = p * r + 4.1666667e-2f;
    p = p * r + 1.6666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    Float32 scale;
    scale.bits = (uint32_t)((int32_t)n + 127) << 23;
    return p * scale.number;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* The activations: 0 is SiLU, 1 is GELU in its tanh form, which is x · sigmoid(2 · inner). */
#define GELU_SCALE 0.7978845608028654f
#define GELU_CUBE 0.044715f

static inline float activation(float x, int kind) {
    if (kind == 0) return x * sigmoid(x);
    return x * sigmoid(2.0f * GELU_SCALE * (x + GELU_CUBE * x * x * x));
}

#define JOIN_(name, suffix) name##_##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)
#define NAME(name) JOIN(name, SUFFIX)
#endif
