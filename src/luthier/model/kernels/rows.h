/* Included by kernels.c once for each type. Letters as in Python: T tokens, D width, F inner width, H heads, K head width,
 * B rows of a block, L queries, S keys, V vocabulary. All arrays are contiguous unless a stride is given. */
#ifdef __AVX512BW__
#include <immintrin.h>
#endif

/* sum_TD = x_TD + y_TD (y may be null; sum may be x); `stride` numbers from row to row of h_TD; h_TD = sum / rms(sum) * weight; rstd_T = 1 / rms(sum). */
void NAME(add_norm)(const float *x, const NUMBER *y, float *sum, const float *weight, NUMBER *h, float *rstd, int64_t T,
                    int64_t D, int64_t stride, float epsilon) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const float *from = x + t * D;
        float *row = sum + t * D;
        NUMBER *out = h + t * stride;
        float squares = 0.0f;
        if (y) {
            const NUMBER *added = y + t * D;
#pragma omp simd reduction(+ : squares)
            for (int64_t d = 0; d < D; d++) {
                float value = from[d] + LOAD(added[d]);
                row[d] = value;
                squares += value * value;
            }
        } else {
#pragma omp simd reduction(+ : squares)
            for (int64_t d = 0; d < D; d++) {
                row[d] = from[d];
                squares += from[d] * from[d];
            }
        }
        float r = 1.0f / sqrtf(squares / (float)D + epsilon);
        rstd[t] = r;
#pragma omp simd
        for (int64_t d = 0; d < D; d++) out[d] = STORE(row[d] * r * weight[d]);
    }
}

/* g_TD, the gradient of x behind the norm, becomes that of x before it; y_TD gets it in the other type (may be null), `stride`
 * numbers from row to row. */
void NAME(norm_backward)(float *g, const NUMBER *gh, const float *x, const float *rstd, const float *weight, NUMBER *y,
                         int64_t T, int64_t D, int64_t stride) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++) {
        float *grad = g + t * D;
        const NUMBER *from = gh + t * D;
        const float *row = x + t * D;
        float r = rstd[t], sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < D; d++) sum += LOAD(from[d]) * weight[d] * row[d];
        float mean = sum * r * r / (float)D;
#pragma omp simd
        for (int64_t d = 0; d < D; d++) grad[d] += r * (LOAD(from[d]) * weight[d] - row[d] * mean);
        if (y) {
            NUMBER *out = y + t * stride;
#pragma omp simd
            for (int64_t d = 0; d < D; d++) out[d] = STORE(grad[d]);
        }
    }
}

/* The same norm over the heads of a wider row, in place: x_THK with `stride` numbers from row to row. */
void NAME(head_norm)(NUMBER *x, const float *weight, float *rstd, int64_t T, int64_t stride, int64_t H, int64_t K,
                     float epsilon) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++)
        for (int64_t head = 0; head < H; head++) {
            NUMBER *row = x + t * stride + head * K;
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < K; k++) sum += LOAD(row[k]) * LOAD(row[k]);
            float r = 1.0f / sqrtf(sum / (float)K + epsilon);
            rstd[t * H + head] = r;
#pragma omp simd
            for (int64_t k = 0; k < K; k++) row[k] = STORE(LOAD(row[k]) * r * weight[k]);
        }
}

/* g_THK, the gradient behind the norm, becomes that before it, in place; x is what went into the norm. */
void NAME(head_norm_backward)(NUMBER *g, const NUMBER *x, const float *weight, const float *rstd, int64_t T,
                              int64_t g_stride, int64_t x_stride, int64_t H, int64_t K) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++)
        for (int64_t head = 0; head < H; head++) {
            NUMBER *grad = g + t * g_stride + head * K;
            const NUMBER *row = x + t * x_stride + head * K;
            float r = rstd[t * H + head], sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int64_t k = 0; k < K; k++) sum += LOAD(grad[k]) * weight[k] * LOAD(row[k]);
            float mean = sum * r * r / (float)K;
#pragma omp simd
            for (int64_t k = 0; k < K; k++)
                grad[k] = STORE(r * (LOAD(grad[k]) * weight[k] - LOAD(row[k]) * mean));
        }
}

/* Rotates the first 2 · half numbers of each head, in place; `direction` is 1 forward and -1 backward. */
void NAME(rotate)(NUMBER *x, const float *cosine, const float *sine, int64_t T, int64_t stride, int64_t H, int64_t K,
                  int64_t half, float direction) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const float *c = cosine + t * half, *s = sine + t * half;
        for (int64_t head = 0; head < H; head++) {
            NUMBER *row = x + t * stride + head * K;
#pragma omp simd
            for (int64_t k = 0; k < half; k++) {
                float one = LOAD(row[k]), other = LOAD(row[k + half]), turn = direction * s[k];
                row[k] = STORE(one * c[k] - other * turn);
                row[k + half] = STORE(other * c[k] + one * turn);
            }
        }
    }
}

/* out_TF = activation(x_T2F[:F]) · x_T2F[F:] */
void NAME(gated)(const NUMBER *x, NUMBER *out, int64_t T, int64_t F, int64_t x_stride, int64_t out_stride, int kind) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++) {
        const NUMBER *gate = x + t * x_stride, *up = gate + F;
        NUMBER *to = out + t * out_stride;
        if (kind == 0) {
#pragma omp simd
            for (int64_t f = 0; f < F; f++) to[f] = STORE(activation(LOAD(gate[f]), 0) * LOAD(up[f]));
        } else {
#pragma omp simd
            for (int64_t f = 0; f < F; f++) to[f] = STORE(activation(LOAD(gate[f]), 1) * LOAD(up[f]));
        }
    }
}

/* x_T2F becomes the gradient of itself, given that of out_TF. */
void NAME(gated_backward)(NUMBER *x, const NUMBER *gradient, int64_t T, int64_t F, int64_t stride, int kind) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++) {
        NUMBER *gate = x + t * stride, *up = gate + F;
        const NUMBER *from = gradient + t * F;
        if (kind == 0) {
#pragma omp simd
            for (int64_t f = 0; f < F; f++) {
                float g = LOAD(from[f]), a = LOAD(gate[f]), u = LOAD(up[f]);
                gate[f] = STORE(g * u * activation_slope(a, 0));
                up[f] = STORE(g * activation(a, 0));
            }
        } else {
#pragma omp simd
            for (int64_t f = 0; f < F; f++) {
                float g = LOAD(from[f]), a = LOAD(gate[f]), u = LOAD(up[f]);
                gate[f] = STORE(g * u * activation_slope(a, 1));
                up[f] = STORE(g * activation(a, 1));
            }
        }
    }
}

/* out_BHLK[b, :, l] = x[place_BL[b, l]]; zeros where the place is negative. `stride` numbers from row to row of x. */
void NAME(gather_heads)(const NUMBER *x, const int64_t *place, NUMBER *out, int64_t B, int64_t L, int64_t stride,
                        int64_t H, int64_t K) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t b = 0; b < B; b++)
        for (int64_t head = 0; head < H; head++)
            for (int64_t l = 0; l < L; l++) {
                NUMBER *to = out + ((b * H + head) * L + l) * K;
                int64_t from = place[b * L + l];
                if (from < 0)
                    memset(to, 0, K * sizeof(NUMBER));
                else
                    memcpy(to, x + from * stride + head * K, K * sizeof(NUMBER));
            }
}

/* The way back of gather_heads: x[place_BL[b, l]] = from_BHLK[b, :, l]; negative places are left out. */
void NAME(scatter_heads)(NUMBER *x, const int64_t *place, const NUMBER *from, int64_t B, int64_t L, int64_t stride,
                         int64_t H, int64_t K) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t b = 0; b < B; b++)
        for (int64_t head = 0; head < H; head++)
            for (int64_t l = 0; l < L; l++) {
                int64_t to = place[b * L + l];
                if (to >= 0)
                    memcpy(x + to * stride + head * K, from + ((b * H + head) * L + l) * K, K * sizeof(NUMBER));
            }
}

/* x_THK[place_BL[b, l]] += from_BHLK[b, :, l] in float32; several places may be the same. */
void NAME(add_heads)(float *x, const int64_t *place, const NUMBER *from, int64_t B, int64_t L, int64_t H, int64_t K) {
#pragma omp parallel for schedule(static)
    for (int64_t head = 0; head < H; head++)
        for (int64_t b = 0; b < B; b++)
            for (int64_t l = 0; l < L; l++) {
                int64_t to = place[b * L + l];
                if (to < 0) continue;
                float *row = x + (to * H + head) * K;
                const NUMBER *added = from + ((b * H + head) * L + l) * K;
                for (int64_t k = 0; k < K; k++) row[k] += LOAD(added[k]);
            }
}

/* Attention's probabilities, in place. s_BMLS: query l of row b sees keys (limit - window, limit], limit = first_B[b] + l.
 * What lies around them is computed along and thrown away up to the next multiple of LANES: remainders are slow. */
void NAME(softmax)(NUMBER *s, const int64_t *first, int64_t B, int64_t M, int64_t L, int64_t S, float scaling,
                   int64_t window) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < B * M * L; i++) {
        NUMBER *row = s + i * S;
        int64_t stop = first[i / (M * L)] + i % L + 1;
        if (stop > S) stop = S;
        int64_t start = window > 0 && stop > window ? stop - window : 0;
        int64_t low = start / LANES * LANES, high = (stop + LANES - 1) / LANES * LANES;
        if (high > S) high = S;
        float kept[SCRATCH], most = -INFINITY, sum = 0.0f;
        int64_t middle = high - low > SCRATCH ? low + SCRATCH : high;
#pragma omp simd reduction(max : most)
        for (int64_t k = low; k < high; k++) {
            float value = k >= start && k < stop ? LOAD(row[k]) : -INFINITY;
            most = value > most ? value : most;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t k = low; k < middle; k++) {
            float value = exponential((LOAD(row[k]) - most) * scaling);
            value = k >= start && k < stop ? value : 0.0f;
            kept[k - low] = value;
            sum += value;
        }
        for (int64_t k = middle; k < high; k++)
            if (k < stop) sum += exponential((LOAD(row[k]) - most) * scaling);
        float share = 1.0f / sum;
        memset(row, 0, low * sizeof(NUMBER));
#pragma omp simd
        for (int64_t k = low; k < middle; k++) row[k] = STORE(kept[k - low] * share);
        for (int64_t k = middle; k < high; k++)
            row[k] = k < stop ? STORE(exponential((LOAD(row[k]) - most) * scaling) * share) : 0;
        memset(row + high, 0, (S - high) * sizeof(NUMBER));
    }
}

/* g_RS, the gradient of the probabilities p_RS, becomes that of the scores, in place. */
void NAME(softmax_backward)(NUMBER *g, const NUMBER *p, int64_t R, int64_t S, float scaling) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < R; i++) {
        NUMBER *grad = g + i * S;
        const NUMBER *row = p + i * S;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t k = 0; k < S; k++) sum += LOAD(grad[k]) * LOAD(row[k]);
#pragma omp simd
        for (int64_t k = 0; k < S; k++) grad[k] = STORE((LOAD(grad[k]) - sum) * LOAD(row[k]) * scaling);
    }
}

/* logp_C of the targets; with weights (may be null), the logits become the gradient of the sum of weight · logp. */
void NAME(log_probabilities)(NUMBER *logits, const int64_t *target, const float *weight, float *logp, int64_t C,
                             int64_t V) {
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < C; c++) {
        NUMBER *row = logits + c * V;
        float most = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : most)
        for (int64_t v = 0; v < V; v++) {
            float value = LOAD(row[v]);
            most = value > most ? value : most;
        }
#pragma omp simd reduction(+ : sum)
        for (int64_t v = 0; v < V; v++) sum += exponential(LOAD(row[v]) - most);
        logp[c] = LOAD(row[target[c]]) - most - logf(sum);
        if (weight) {
            float factor = -weight[c] / sum;
#pragma omp simd
            for (int64_t v = 0; v < V; v++) row[v] = STORE(factor * exponential(LOAD(row[v]) - most));
            row[target[c]] = STORE(weight[c] * (1.0f - exponential(logp[c])));
        }
    }
}

/* Numbers to 4 bits: each block of 64 is divided by its largest, and each weight becomes the place of the nearest of 16
 * levels, the 15 bounds lying half-way between them. The last block may be shorter. */
void NAME(quantize_nf4)(const NUMBER *x, const float *bounds, uint8_t *packed, float *most, int64_t N) {
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < (N + 63) / 64; b++) {
        const NUMBER *from = x + b * 64;
        int64_t count = N - b * 64 < 64 ? N - b * 64 : 64;
        float block[64] = {0}, largest = 0.0f;
        uint8_t place[64] = {0};
        for (int64_t k = 0; k < count; k++) block[k] = LOAD(from[k]);
        for (int k = 0; k < 64; k++) largest = fabsf(block[k]) > largest ? fabsf(block[k]) : largest;
        float divisor = largest > 1e-38f ? largest : 1e-38f, factor = 1.0f / divisor;
        most[b] = count < 64 ? divisor : largest; /* the two differ in bitsandbytes, whose bits these are */
        for (int k = 0; k < 64; k++) block[k] = count < 64 ? block[k] / divisor : block[k] * factor;
        for (int i = 0; i < 15; i++)
            for (int k = 0; k < 64; k++) place[k] += block[k] > bounds[i];
        for (int64_t k = 0; k < (count + 1) / 2; k++) {
            uint8_t second = 2 * k + 1 < count ? place[2 * k + 1] : 7; /* what is not there is a zero */
            packed[b * 32 + k] = (uint8_t)(place[2 * k] << 4 | second);
        }
    }
}

/* 4-bit weights to numbers, in blocks of 64 that share a scale; the first of two weights is the higher half of its byte.
 * The scales are 8-bit themselves, in blocks of 256: scale = places[scale_B] * wide_scale[b / 256] + offset. */
void NAME(dequantize_nf4)(const uint8_t *packed, const uint8_t *scale, const float *wide_scale, const float *offset,
                          const float *levels, const float *places, NUMBER *out, int64_t N) {
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < (N + 63) / 64; b++) {
        const uint8_t *from = packed + b * 32;
        NUMBER *to = out + b * 64, level[16];
        float factor = places[scale[b]] * wide_scale[b / 256];
        factor += offset[0]; /* a statement of its own, so that no compiler fuses it with the product */
        for (int i = 0; i < 16; i++) level[i] = STORE(levels[i] * factor);
        int64_t count = N - b * 64 < 64 ? N - b * 64 : 64, k = 0;
#ifdef __AVX512BW__
        if (sizeof(NUMBER) == 2) { /* where products are fast, they wait for this: looked up 32 at a time */
            const __m512i table = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)level));
            for (; k + 32 <= count; k += 32) {
                __m512i byte = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from + k / 2)));
                __m512i low = _mm512_and_si512(byte, _mm512_set1_epi32(15));
                __m512i place = _mm512_or_si512(_mm512_srli_epi32(byte, 4), _mm512_slli_epi32(low, 16));
                _mm512_storeu_si512(to + k, _mm512_permutexvar_epi16(place, table));
            }
        }
#endif
        for (; k + 2 <= count; k += 2) {
            to[k] = level[from[k / 2] >> 4];
            to[k + 1] = level[from[k / 2] & 15];
        }
        if (k < count) to[k] = level[from[k / 2] >> 4];
    }
}

/* out_OD = x_OD * most_O / 127 */
void NAME(dequantize_int8)(const int8_t *x, const float *most, NUMBER *out, int64_t O, int64_t D) {
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < O; o++)
#pragma omp simd
        for (int64_t d = 0; d < D; d++) out[o * D + d] = STORE((float)x[o * D + d] * most[o] * (1.0f / 127.0f));
}
