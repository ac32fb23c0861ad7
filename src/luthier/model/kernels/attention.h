/* Included by kernels.c once for each type: attention over short texts, a piece of queries at a time, in float32.
 *
 * A piece is a run of L tokens that ask, and a list of S tokens that are seen: query l sees keys (limit - window, limit] with
 * limit = S - L + l. Scores never leave the cache. A work item is one piece and one key head with the query heads that share
 * it; items write to places of their own, so the result does not depend on which thread takes which. Strides are numbers from
 * token to token. Letters: T tokens, P pieces, H query heads, G key heads, K head width.
 */

/* A piece's heads as float32, [count, width] with zeros up to multiples, and the same transposed. */
static void NAME(load_rows)(const NUMBER *x, const int64_t *place, int64_t first, int64_t count, int64_t padded,
                            int64_t stride, int64_t K, int64_t width, float *out) {
    for (int64_t i = 0; i < padded; i++) {
        float *to = out + i * width;
        if (i < count) {
            const NUMBER *from = x + (place ? place[i] : first + i) * stride;
#pragma omp simd
            for (int64_t k = 0; k < K; k++) to[k] = LOAD(from[k]);
            for (int64_t k = K; k < width; k++) to[k] = 0.0f;
        } else
            memset(to, 0, width * sizeof(float));
    }
}

/* out_THK gets what each query of each piece attends to. scratch: `scratch_size` numbers for each thread. */
void NAME(attend)(const NUMBER *q, const NUMBER *k, const NUMBER *v, NUMBER *out, const int64_t *start,
                  const int64_t *length, const int64_t *offset, const int64_t *keys, float *scratch,
                  int64_t scratch_size, int64_t P, int64_t H, int64_t G, int64_t K, int64_t q_stride, int64_t k_stride,
                  int64_t v_stride, int64_t out_stride, float scaling, int64_t window) {
    int64_t R = H / G, width = round_up(K, COLUMNS);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t item = 0; item < P * G; item++) {
        int64_t piece = item / G, group = item % G;
        int64_t L = length[piece], S = offset[piece + 1] - offset[piece], before = S - L;
        int64_t rows = round_up(L, ROWS), columns = round_up(S, COLUMNS);
        const int64_t *place = keys + offset[piece];
        float *values = scratch + omp_get_thread_num() * scratch_size, *keys_across = values + columns * width;
        float *asked = keys_across + columns * width, *scores = asked + rows * width;
        NAME(load_rows)(k + group * K, place, 0, S, columns, k_stride, K, width, values);
        transpose(values, columns, width, keys_across);
        NAME(load_rows)(v + group * K, place, 0, S, columns, v_stride, K, width, values);
        for (int64_t head = group * R; head < (group + 1) * R; head++) {
            NAME(load_rows)(q + head * K, NULL, start[piece], L, rows, q_stride, K, width, asked);
            score(asked, keys_across, scores, L, before, columns, width, window);
            probabilities(scores, L, before, columns, scaling, window);
            for (int64_t l = 0; l < L; l += ROWS) {
                int64_t low = first_seen(before + l, window), high = min_of(S, before + l + ROWS);
                for (int64_t c = 0; c < width; c += COLUMNS)
                    product(scores + l * columns, columns, 1, values + c, width, low, high, asked + l * width + c, width, 0);
            }
            for (int64_t l = 0; l < L; l++) {
                NUMBER *to = out + (start[piece] + l) * out_stride + head * K;
#pragma omp simd
                for (int64_t i = 0; i < K; i++) to[i] = STORE(asked[l * width + i]);
            }
        }
    }
}

/* dq_THK, dk_TGK and dv_TGK of the same, given the gradient of its output.
 *
 * parts: float32, for each piece and key head its keys' gradients and its values' [2, S, width], one after another in the order
 * of keys. Which of them belong to a token: `parts_of[t] .. parts_of[t + 1]` in `seen_at`, places among all pieces' keys. They are
 * added in that order. */
void NAME(attend_backward)(const NUMBER *g, const NUMBER *q, const NUMBER *k, const NUMBER *v, NUMBER *dq, NUMBER *dk,
                           NUMBER *dv, const int64_t *start, const int64_t *length, const int64_t *offset,
                           const int64_t *keys, const int64_t *parts_of, const int64_t *seen_at, float *parts,
                           float *scratch, int64_t scratch_size, int64_t T, int64_t P, int64_t H, int64_t G, int64_t K,
                           int64_t g_stride, int64_t q_stride, int64_t k_stride, int64_t v_stride, int64_t dq_stride,
                           int64_t dk_stride, int64_t dv_stride, float scaling, int64_t window) {
    int64_t R = H / G, width = round_up(K, COLUMNS);
#pragma omp parallel
    {
#pragma omp for schedule(dynamic, 1)
        for (int64_t item = 0; item < P * G; item++) {
            int64_t piece = item / G, group = item % G;
            int64_t L = length[piece], S = offset[piece + 1] - offset[piece], before = S - L;
            int64_t rows = round_up(L, ROWS), columns = round_up(S, COLUMNS);
            const int64_t *place = keys + offset[piece];
            float *known = scratch + omp_get_thread_num() * scratch_size, *keys_across = known + columns * width;
            float *values_across = keys_across + columns * width, *dkeys = values_across + columns * width;
            float *dvalues = dkeys + columns * width, *asked = dvalues + columns * width;
            float *wanted = asked + rows * width, *scores = wanted + rows * width, *slopes = scores + rows * columns;
            NAME(load_rows)(v + group * K, place, 0, S, columns, v_stride, K, width, known);
            transpose(known, columns, width, values_across);
            NAME(load_rows)(k + group * K, place, 0, S, columns, k_stride, K, width, known);
            transpose(known, columns, width, keys_across);
            for (int64_t head = group * R; head < (group + 1) * R; head++) {
                int more = head > group * R;
                NAME(load_rows)(q + head * K, NULL, start[piece], L, rows, q_stride, K, width, asked);
                NAME(load_rows)(g + head * K, NULL, start[piece], L, rows, g_stride, K, width, wanted);
                score(asked, keys_across, scores, L, before, columns, width, window);
                probabilities(scores, L, before, columns, scaling, window);
                score(wanted, values_across, slopes, L, before, columns, width, window);
                probabilities_backward(slopes, scores, L, before, columns, scaling, window);
                for (int64_t s = 0; s < S; s += ROWS) {
                    int64_t low = s > before ? s - before : 0;
                    int64_t high = window > 0 ? min_of(L, s + ROWS - 1 + window - before) : L;
                    for (int64_t c = 0; c < width; c += COLUMNS) {
                        product(scores + s, 1, columns, wanted + c, width, low, high, dvalues + s * width + c, width, more);
                        product(slopes + s, 1, columns, asked + c, width, low, high, dkeys + s * width + c, width, more);
                    }
                }
                for (int64_t l = 0; l < L; l += ROWS) {
                    int64_t low = first_seen(before + l, window), high = min_of(S, before + l + ROWS);
                    for (int64_t c = 0; c < width; c += COLUMNS)
                        product(slopes + l * columns, columns, 1, known + c, width, low, high, wanted + l * width + c,
                                width, 0);
                }
                for (int64_t l = 0; l < L; l++) {
                    NUMBER *to = dq + (start[piece] + l) * dq_stride + head * K;
#pragma omp simd
                    for (int64_t i = 0; i < K; i++) to[i] = STORE(wanted[l * width + i]);
                }
            }
            for (int64_t s = 0; s < S; s++) {
                float *to = parts + (((offset[piece] + s) * G + group) * 2) * K;
                memcpy(to, dkeys + s * width, K * sizeof(float));
                memcpy(to + K, dvalues + s * width, K * sizeof(float));
            }
        }
#pragma omp for schedule(static)
        for (int64_t t = 0; t < T; t++)
            for (int64_t group = 0; group < G; group++)
                for (int64_t i = 0; i < K; i += LANES) {
                    int64_t count = min_of(LANES, K - i);
                    float key[LANES] = {0}, value[LANES] = {0};
                    for (int64_t n = parts_of[t]; n < parts_of[t + 1]; n++) {
                        const float *part = parts + (seen_at[n] * G + group) * 2 * K + i;
                        for (int64_t j = 0; j < count; j++) key[j] += part[j];
                        for (int64_t j = 0; j < count; j++) value[j] += part[K + j];
                    }
                    for (int64_t j = 0; j < count; j++) dk[t * dk_stride + group * K + i + j] = STORE(key[j]);
                    for (int64_t j = 0; j < count; j++) dv[t * dv_stride + group * K + i + j] = STORE(value[j]);
                }
    }
}
