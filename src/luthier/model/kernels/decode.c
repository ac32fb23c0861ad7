/* One pass of a decoder of the Llama family over the next tokens of many texts, with their keys and values in a cache.
 *
 * Tokens are lanes: 16 of them are a tile, and activations lie as [tile][channel][16 tokens]. A matrix product then takes
 * its weights row by row as they lie in memory, sums over channels in one order, and never adds up across lanes. So what a
 * token gets does not depend on which tokens stand beside it, nor on how many: not in a single bit.
 *
 * Written once (decode_products.h, decode_layers.h), compiled for float32 and for bfloat16; sums are float32. Letters: T
 * tokens, D width, F inner width, H query heads, G key heads, K head width, V vocabulary, O outputs.
 */
#define _GNU_SOURCE /* syscall */
#include "numbers.h"
#include <omp.h>
#include <stdlib.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#if defined(__AMX_BF16__) && defined(__linux__)
#define HAS_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define WIDE 16  /* tokens of a tile; keys of a block of the cache */
#define QUERIES 4 /* that attend together */
#define PARTS 4   /* of a head, 16 wide, that are added up together */
#define DEEP 32  /* inputs are taken in steps of this many, filled up with zeros */
#define TALL 32  /* outputs that are computed together, in two halves */
#define HALF 16
#define ALONE 2  /* tiles whose norms each thread makes for itself */

typedef float Lanes __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));

static inline int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }
static inline int64_t least(int64_t one, int64_t other) { return one < other ? one : other; }

enum { DENSE, INT8, NF4 };
enum { TO_HEADS, TO_STREAM };

/* A linear layer with its adapter. */
typedef struct {
    const void *weight;  /* [O][D]: numbers, `stride` from row to row; or in 8 bits; or in 4, the first in a byte's higher half */
    const float *factor; /* 8 bits: the largest of each row; 4 bits: the scale of each block of 64 */
    const float *levels; /* what 4 bits stand for */
    const float *bias;   /* [O], or null */
    const void *down;    /* the adapter's A [R][D], rows and columns filled up to multiples of 32; or null */
    const void *up;      /* the adapter's B, scaled [O][R], rows filled up to a multiple of 16 */
    const float *scale;  /* [O]: what DoRA multiplies by, or null */
    int64_t outputs, inputs, kind, ranks, stride;
} Linear;

enum { QUERY, KEY, VALUE, OUT, GATE, UP, DOWN };

typedef struct {
    const float *attention_norm, *mlp_norm, *query_norm, *key_norm; /* the last two may be null */
    Linear linear[7];
    int64_t window; /* how many tokens back a token sees, itself included; 0 for all */
} Layer;

typedef struct {
    const Layer *layers;
    const float *norm;
    const float *cosine, *sine; /* [positions][turned] */
    Linear head;
    int64_t L, D, F, H, G, K, V, turned, activation;
    float epsilon, scaling;
} Network;

/* The tokens of a pass. Each segment is a run of tokens of one text, behind what the cache holds of it. */
typedef struct {
    int64_t tokens, segments, copies, kept, threads;
    int64_t table_stride;                        /* blocks of a table */
    int64_t span;                                /* keys that the longest text may have, a multiple of 16 */
    int64_t adapting;                            /* whether the adapter takes part at all */
    int64_t most_ranks, deepest;                 /* of a group of layers; inputs of a layer, filled up */
    int64_t most_queries, scores_size;           /* of an item of attention; floats of a thread */
    const float *embedded;                       /* [T][D] */
    const int32_t *start, *length, *first, *row; /* of each segment: its place here, its tokens, its position, its table */
    const int32_t *table;                        /* [rows][table_stride]: the blocks of each text, in order */
    const float *adapted;                        /* [T]: 1 where the adapter takes part, else 0 */
    const int32_t *copy;                         /* [copies][3]: from a block, to a block, how many of its first tokens */
    const int32_t *keep;                         /* [kept]: tokens whose logits are wanted */
    int32_t *best;                               /* [kept]: the likeliest next token */
    float *logits;                               /* [kept][V], or null */
    void *cache;                                 /* [blocks][L][G]: 16 keys, 16 values */
    float *x, *heads, *turn, *mask;              /* the stream; queries, keys, values; what turns them; who is adapted */
    void *normed;                                /* operands of the norms; [threads][ALONE] of few tokens */
    void *attended, *inner, *ranks;              /* other operands */
    void *halves;                                /* [threads][2][16][deepest] */
    float *scores;                               /* [threads][scores_size] */
    float *best_of;                              /* [threads][tiles][2][16] */
    int32_t *token_segment, *chunk;              /* [T] */
    int64_t tiles;
} Pass;

/* Where a layer's ranks begin among those of its group. */
static inline int64_t ranks_before(const Linear *layers, int which) {
    int64_t count = 0;
    for (int i = 0; i < which; i++) count += layers[i].ranks;
    return count;
}

#ifdef HAS_AMX
/* Asks the kernel for the registers; 162 is what Linux calls the request, 18 the tiles. */
static int amx_ready(void) {
    static int ready = -1;
    if (ready < 0) {
        const char *wanted = getenv("LUTHIER_AMX");
        ready = !(wanted && wanted[0] == '0') && syscall(SYS_arch_prctl, 0x1023, 18) == 0;
    }
    return ready;
}

/* Eight registers of 16 rows of 64 bytes. */
static void configure_tiles(void) {
    uint8_t shape[64] = {1};
    for (int tile = 0; tile < 8; tile++) shape[16 + 2 * tile] = 64, shape[48 + tile] = 16;
    _tile_loadconfig(shape);
}
#endif

#define SUFFIX float32
#define NUMBER float
#define PAIR 1
#define LOAD(x) (x)
#define STORE(x) (x)
#include "decode_products.h"
#include "decode_layers.h"
#undef SUFFIX
#undef NUMBER
#undef PAIR
#undef LOAD
#undef STORE

#define SUFFIX bfloat16
#define NUMBER bfloat16
#define PAIR 2
#define LOAD(x) from_bfloat16(x)
#define STORE(x) to_bfloat16(x)
#include "decode_products.h"
#include "decode_layers.h"
