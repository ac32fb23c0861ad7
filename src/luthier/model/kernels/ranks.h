/* Included by kernels.c once for each type: the thin products of adapters, whose few ranks a matrix library wastes time on.
 * Sums are float32. Letters: T tokens, D columns, R ranks.
 */

/* The columns low .. low + COLUMNS of one of them. */
static void NAME(add_columns)(const Outer *o, const float *packed, int64_t low) {
    int64_t columns = min_of(COLUMNS, o->D - low);
    float numbers[STEPS][COLUMNS], sums[MOST_RANKS][COLUMNS];
    for (int64_t start = 0; start < o->R; start += MOST_RANKS) {
        int64_t ranks = min_of(MOST_RANKS, o->R - start);
        for (int64_t first = 0; first < o->T; first += STEPS) {
            int64_t steps = min_of(STEPS, o->T - first);
            for (int64_t t = 0; t < steps; t++) {
                const NUMBER *from = (const NUMBER *)o->x + (first + t) * o->x_stride + low;
                if (columns == COLUMNS)
                    for (int64_t d = 0; d < COLUMNS; d++) numbers[t][d] = LOAD(from[d]);
                else
                    for (int64_t d = 0; d < COLUMNS; d++) numbers[t][d] = d < columns ? LOAD(from[d]) : 0.0f;
            }
            for (int64_t r = 0; r < ranks; r += ROWS)
                product(packed + ((start + r) / ROWS * o->T + first) * ROWS, 1, ROWS, numbers[0], COLUMNS, 0, steps,
                        sums[r], COLUMNS, first > 0);
        }
        float *to = o->grad + start * o->row + low * o->column;
        if (o->column == 1)
            for (int64_t r = 0; r < ranks; r++)
                for (int64_t d = 0; d < columns; d++) to[r * o->row + d] += o->scale * sums[r][d];
        else
            for (int64_t d = 0; d < columns; d++)
                for (int64_t r = 0; r < ranks; r++) to[r * o->row + d * o->column] += o->scale * sums[r][d];
    }
}

/* Gradients of adapter matrices, several at once: grad[r * row + d * column] += scale * (sum over t of factor[t, r] * x[t, d]).
 * packed: room for all factors, T * R numbers each with R filled up to a multiple of 8. Columns are shared out among threads,
 * so each sum is taken in the order of tokens. */
void NAME(add_outers)(const Outer *outers, int64_t count, float *packed) {
#pragma omp parallel
    {
        float *room = packed;
        for (int64_t n = 0; n < count; n++) {
            const Outer *o = outers + n;
            const NUMBER *factor = o->factor;
            int64_t filled = round_up(o->R, ROWS);
#pragma omp for schedule(static) nowait
            for (int64_t t = 0; t < o->T; t++)
                for (int64_t r = 0; r < filled; r++)
                    room[(r / ROWS * o->T + t) * ROWS + r % ROWS] =
                        r < o->R ? LOAD(factor[t * o->factor_stride + r]) : 0.0f;
            room += o->T * filled;
        }
#pragma omp barrier
        room = packed;
        for (int64_t n = 0; n < count; n++) {
            const Outer *o = outers + n;
#pragma omp for schedule(dynamic, 4) nowait
            for (int64_t low = 0; low < o->D; low += COLUMNS) NAME(add_columns)(o, room, low);
            room += o->T * round_up(o->R, ROWS);
        }
    }
}
