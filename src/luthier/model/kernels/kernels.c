/* The elementwise chains of a decoder, each in one pass over memory; forward and backward.
 *
 * Written once (rows.h), compiled for float32 and for bfloat16. All arithmetic is in float32. Rows are shared out among
 * OpenMP's threads in equal parts, so the result does not depend on timing; it does not depend on their number either,
 * as no sum crosses a row.
 */
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

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

static inline float activation_slope(float x, int kind) {
    if (kind == 0) {
        float s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    float s = sigmoid(2.0f * GELU_SCALE * (x + GELU_CUBE * x * x * x));
    return s + x * s * (1.0f - s) * 2.0f * GELU_SCALE * (1.0f + 3.0f * GELU_CUBE * x * x);
}

/* Exponentials of a row that are kept between two passes; of longer rows the rest is computed twice. */
#define SCRATCH 8192

/* Numbers that the widest vectors hold. */
#define LANES 16

/* Matrix products of a few rows in float32, for attention: ROWS rows and COLUMNS columns at a time stay in registers. */
#define COLUMNS (2 * LANES)
#ifdef __AVX512F__
#define ROWS 8
#else
#define ROWS 4
#endif

/* Tokens whose numbers stay in the nearest cache together. */
#define STEPS 128

/* Ranks whose sums do so, too. */
#define MOST_RANKS 64

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline Lanes add_product(Lanes sum, float one, Lanes other) {
#ifdef __AVX512F__
    return (Lanes)_mm512_fmadd_ps(_mm512_set1_ps(one), (__m512)other, (__m512)sum);
#else
    return sum + other * one;
#endif
}

static inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

/* The first key that a query sees, with `before` keys in front of its own. */
static inline int64_t first_seen(int64_t before, int64_t window) {
    return window > 0 && before + 1 > window ? before + 1 - window : 0;
}

/* c[ROWS, COLUMNS] (+)= a[ROWS, low .. high] b[low .. high, COLUMNS]; the steps of a are free, so it may be transposed. */
static inline void product(const float *a, int64_t a_row, int64_t a_column, const float *b, int64_t b_row, int64_t low,
                           int64_t high, float *c, int64_t c_row, int add) {
    Lanes sum[ROWS][2];
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < 2; j++) sum[r][j] = add ? *(const Lanes *)(c + r * c_row + j * LANES) : (Lanes){0};
    for (int64_t i = low; i < high; i++) {
        Lanes one = *(const Lanes *)(b + i * b_row), other = *(const Lanes *)(b + i * b_row + LANES);
        for (int r = 0; r < ROWS; r++) {
            float factor = a[r * a_row + i * a_column];
            sum[r][0] = add_product(sum[r][0], factor, one);
            sum[r][1] = add_product(sum[r][1], factor, other);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < 2; j++) *(Lanes *)(c + r * c_row + j * LANES) = sum[r][j];
}

static void transpose(const float *x, int64_t rows, int64_t columns, float *out) {
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t k = 0; k < LANES; k++) out[j * rows + i + k] = x[(i + k) * columns + j];
}

/* Products of L queries with the keys that they see (and with some that they do not, up to multiples). */
static void score(const float *asked, const float *keys_across, float *scores, int64_t L, int64_t before,
                  int64_t columns, int64_t width, int64_t window) {
    for (int64_t l = 0; l < L; l += ROWS) {
        int64_t low = first_seen(before + l, window) / COLUMNS * COLUMNS, high = min_of(columns, before + l + ROWS);
        for (int64_t s = low; s < high; s += COLUMNS)
            product(asked + l * width, width, 1, keys_across + s, columns, 0, width, scores + l * columns + s, columns, 0);
    }
}

/* Scores become probabilities, and zeros where a query does not see. */
static void probabilities(float *scores, int64_t L, int64_t before, int64_t columns, float scaling, int64_t window) {
    for (int64_t l = 0; l < L; l++) {
        float *row = scores + l * columns, most = -INFINITY, sum = 0.0f;
        int64_t start = first_seen(before + l, window), stop = before + l + 1;
        int64_t low = start / LANES * LANES, high = round_up(stop, LANES);
#pragma omp simd reduction(max : most)
        for (int64_t s = low; s < high; s++) {
            float value = s >= start && s < stop ? row[s] : -INFINITY;
            most = value > most ? value : most;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t s = low; s < high; s++) {
            float value = exponential((row[s] - most) * scaling);
            value = s >= start && s < stop ? value : 0.0f;
            row[s] = value;
            sum += value;
        }
        float share = 1.0f / sum;
#pragma omp simd
        for (int64_t s = low; s < high; s++) row[s] *= share;
        memset(row, 0, low * sizeof(float));
        memset(row + high, 0, (columns - high) * sizeof(float));
    }
}

/* The gradient of probabilities becomes that of scores, and zeros where a query does not see. */
static void probabilities_backward(float *slopes, const float *p, int64_t L, int64_t before, int64_t columns,
                                   float scaling, int64_t window) {
    for (int64_t l = 0; l < L; l++) {
        float *row = slopes + l * columns, sum = 0.0f;
        const float *share = p + l * columns;
        int64_t low = first_seen(before + l, window) / LANES * LANES, high = round_up(before + l + 1, LANES);
#pragma omp simd reduction(+ : sum)
        for (int64_t s = low; s < high; s++) sum += row[s] * share[s];
#pragma omp simd
        for (int64_t s = low; s < high; s++) row[s] = (row[s] - sum) * share[s] * scaling;
        memset(row, 0, low * sizeof(float));
        memset(row + high, 0, (columns - high) * sizeof(float));
    }
}

/* A sum of outer products: T factors [R], with T rows of x [D]; numbers from row to row of both, and of grad in both
 * directions. Python knows it as `luthier.model.kernels.ranks`. */
typedef struct {
    const void *x, *factor;
    float *grad;
    int64_t T, D, R, x_stride, factor_stride, row, column;
    double scale;
} Outer;

#define JOIN_(name, suffix) name##_##suffix
#define JOIN(name, suffix) JOIN_(name, suffix)
#define NAME(name) JOIN(name, SUFFIX)

#define SUFFIX float32
#define NUMBER float
#define LOAD(x) (x)
#define STORE(x) (x)
#include "rows.h"
#include "attention.h"
#include "ranks.h"
#undef SUFFIX
#undef NUMBER
#undef LOAD
#undef STORE

#define SUFFIX bfloat16
#define NUMBER bfloat16
#define LOAD(x) from_bfloat16(x)
#define STORE(x) to_bfloat16(x)
#include "rows.h"
#include "attention.h"
#include "ranks.h"
