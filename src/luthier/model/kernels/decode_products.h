/* Included by decode.c once for each type: products of weights with tiles of tokens.
 *
 * An operand is packed as [tile][inputs / PAIR][16 tokens][PAIR]; inputs are filled up to a multiple of 32 with zeros. */

/* A run of inputs that a product sums over: rows of weights, and the packed tokens. */
typedef struct {
    const NUMBER *rows[2]; /* where the first row of each half lies; null for one that has no part in it */
    int64_t stride[2];     /* numbers from row to row of each half */
    int64_t depth;         /* inputs */
    const NUMBER *packed;
    int64_t tile; /* numbers from tile to tile */
} NAME(Operand);

static inline NUMBER *NAME(place)(NUMBER *packed, int64_t channel, int64_t lane) {
    return packed + (channel / PAIR * WIDE + lane) * PAIR + channel % PAIR;
}

/* Writes a channel of a tile. */
static inline void NAME(pack)(NUMBER *packed, int64_t channel, Lanes values) {
    NUMBER *to = NAME(place)(packed, channel, 0);
    for (int lane = 0; lane < WIDE; lane++) to[lane * PAIR] = STORE(values[lane]);
}

/* Sets the channels that only fill a tile up to zero. */
static inline void NAME(fill)(NUMBER *packed, int64_t channels) {
    for (int64_t channel = channels; channel < round_up(channels, DEEP); channel++)
        NAME(pack)(packed, channel, (Lanes){0});
}

/* Two channels side by side, the even one first. */
static inline void NAME(pack_pair)(NUMBER *packed, int64_t channel, Lanes one, Lanes other) {
#if PAIR == 2 && defined(__AVX512BF16__)
    /* interleaved in registers: lanes 0..15 of each become pairs */
    __m512bh both = _mm512_cvtne2ps_pbh((__m512)other, (__m512)one);
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                                           20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(packed + channel * WIDE, _mm512_permutexvar_epi16(order, (__m512i)both));
#else
    NAME(pack)(packed, channel, one);
    NAME(pack)(packed, channel + 1, other);
#endif
}

/* The product of one weight row's next PAIR inputs, whose numbers are at `weight`, with those of 16 tokens. */
static inline Lanes NAME(add_product)(Lanes sum, const NUMBER *weight, const NUMBER *packed) {
#if PAIR == 1
#ifdef __AVX512F__
    return (Lanes)_mm512_fmadd_ps(_mm512_set1_ps(*weight), _mm512_loadu_ps(packed), (__m512)sum);
#else
    return sum + *(const Lanes *)packed * *weight;
#endif
#elif defined(__AVX512BF16__)
    uint32_t pair;
    memcpy(&pair, weight, sizeof pair);
    return (Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_loadu_si512(packed), (__m512bh)_mm512_set1_epi32(pair));
#else
    float one = LOAD(weight[0]), other = LOAD(weight[1]);
    for (int lane = 0; lane < WIDE; lane++)
        sum[lane] += LOAD(packed[lane * 2]) * one + LOAD(packed[lane * 2 + 1]) * other;
    return sum;
#endif
}

/* out[tile][32 outputs][16 tokens] of one or two tiles: the sum over all operands. */
static void NAME(multiply)(const NAME(Operand) * operands, int count, int64_t tile, int tiles, Lanes out[2][TALL]) {
#if PAIR == 2 && defined(HAS_AMX)
    if (amx_ready()) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        for (int i = 0; i < count; i++) {
            const NUMBER *one = operands[i].rows[0], *other = operands[i].rows[1];
            const NUMBER *packed = operands[i].packed + tile * operands[i].tile, *beside = packed + operands[i].tile;
            int64_t stride = operands[i].stride[0] * sizeof(NUMBER), below = operands[i].stride[1] * sizeof(NUMBER);
            for (int64_t k = 0; k < operands[i].depth; k += DEEP) {
                _tile_loadd(6, packed + k * WIDE, 64);
                if (tiles == 2) _tile_loadd(7, beside + k * WIDE, 64);
                if (one) {
                    _tile_loadd(4, one + k, stride);
                    _tile_dpbf16ps(0, 4, 6);
                    if (tiles == 2) _tile_dpbf16ps(2, 4, 7);
                }
                if (other) {
                    _tile_loadd(5, other + k, below);
                    _tile_dpbf16ps(1, 5, 6);
                    if (tiles == 2) _tile_dpbf16ps(3, 5, 7);
                }
            }
        }
        _tile_stored(0, out[0], 64);
        _tile_stored(1, out[0] + HALF, 64);
        if (tiles == 2) {
            _tile_stored(2, out[1], 64);
            _tile_stored(3, out[1] + HALF, 64);
        }
        return;
    }
#endif
    for (int first = 0; first < TALL; first += 8) {
        Lanes sum[8][2];
        for (int r = 0; r < 8; r++) sum[r][0] = sum[r][1] = (Lanes){0};
        for (int i = 0; i < count; i++) {
            int64_t stride = operands[i].stride[first / HALF], depth = operands[i].depth;
            const NUMBER *rows = operands[i].rows[first / HALF];
            if (!rows) continue;
            rows += first % HALF * stride;
            const NUMBER *packed = operands[i].packed + tile * operands[i].tile, *beside = packed + operands[i].tile;
            if (tiles == 2)
                for (int64_t k = 0; k < depth; k += PAIR)
                    for (int r = 0; r < 8; r++) {
                        sum[r][0] = NAME(add_product)(sum[r][0], rows + r * stride + k, packed + k * WIDE);
                        sum[r][1] = NAME(add_product)(sum[r][1], rows + r * stride + k, beside + k * WIDE);
                    }
            else
                for (int64_t k = 0; k < depth; k += PAIR)
                    for (int r = 0; r < 8; r++)
                        sum[r][0] = NAME(add_product)(sum[r][0], rows + r * stride + k, packed + k * WIDE);
        }
        for (int r = 0; r < 8; r++)
            for (int j = 0; j < tiles; j++) out[j][first + r] = sum[r][j];
    }
}

/* Weights first .. first + 16 of a layer in the type of products: where they lie, or written to `scratch`. */
static void NAME(half)(const Linear *layer, int64_t first, NUMBER *scratch, NAME(Operand) * to, int which) {
    int64_t D = layer->inputs, deep = round_up(D, DEEP), rows = least(HALF, layer->outputs - first);
    to->stride[which] = deep;
    to->rows[which] = scratch;
    if (layer->kind == DENSE) {
        const NUMBER *from = (const NUMBER *)layer->weight + first * layer->stride;
        if (rows == HALF && deep == D) {
            to->rows[which] = from;
            to->stride[which] = layer->stride;
            return;
        }
        for (int64_t r = 0; r < rows; r++) {
            memcpy(scratch + r * deep, from + r * layer->stride, D * sizeof(NUMBER));
            memset(scratch + r * deep + D, 0, (deep - D) * sizeof(NUMBER));
        }
    }
    if (layer->kind == INT8)
        for (int64_t r = 0; r < rows; r++) {
            const int8_t *from = (const int8_t *)layer->weight + (first + r) * D;
            float most = layer->factor[first + r];
#pragma omp simd
            for (int64_t d = 0; d < D; d++) scratch[r * deep + d] = STORE((float)from[d] * most * (1.0f / 127.0f));
            memset(scratch + r * deep + D, 0, (deep - D) * sizeof(NUMBER));
        }
    if (layer->kind == NF4)
        for (int64_t r = 0; r < rows; r++) {
            const uint8_t *from = layer->weight;
            NUMBER *row = scratch + r * deep, level[16];
            int64_t begin = (first + r) * D, end = begin + D;
            for (int64_t at = begin; at < end;) {
                int64_t stop = least((at / 64 + 1) * 64, end);
                for (int i = 0; i < 16; i++) level[i] = STORE(layer->levels[i] * layer->factor[at / 64]);
                if (at % 2) row[at - begin] = level[from[at / 2] & 15], at++;
#if PAIR == 2 && defined(__AVX512BW__)
                const __m512i names = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)level));
                for (; at + 32 <= stop; at += 32) { /* looked up 32 at a time */
                    __m512i byte = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(from + at / 2)));
                    __m512i low = _mm512_and_si512(byte, _mm512_set1_epi32(15));
                    __m512i found = _mm512_or_si512(_mm512_srli_epi32(byte, 4), _mm512_slli_epi32(low, 16));
                    _mm512_storeu_si512(row + at - begin, _mm512_permutexvar_epi16(found, names));
                }
#endif
                for (; at + 2 <= stop; at += 2) {
                    row[at - begin] = level[from[at / 2] >> 4];
                    row[at + 1 - begin] = level[from[at / 2] & 15];
                }
                if (at < stop) row[at - begin] = level[from[at / 2] >> 4], at++;
            }
            memset(row + D, 0, (deep - D) * sizeof(NUMBER));
        }
    memset(scratch + rows * deep, 0, (HALF - rows) * deep * sizeof(NUMBER));
}

/* What comes behind the sums: DoRA's scale for tokens that are adapted, and the bias. */
static inline void NAME(finish)(const Linear *layer, int64_t first, int64_t rows, Lanes mask, int adapted, Lanes *out) {
    if (layer->scale && adapted)
        for (int64_t r = 0; r < rows; r++) out[r] *= mask * layer->scale[first + r] + (1.0f - mask);
    if (layer->bias)
        for (int64_t r = 0; r < rows; r++) out[r] += layer->bias[first + r];
}
