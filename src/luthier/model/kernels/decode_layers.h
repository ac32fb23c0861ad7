/* Included by decode.c once for each type: the pass itself, stage by stage; all threads take part in each. */

/* Blocks of the cache: for each layer and key head, keys as an operand of 16 tokens, then values as 16 rows. */
static inline NUMBER *NAME(keys_of)(const Network *net, const Pass *pass, int64_t block, int64_t layer, int64_t group) {
    int64_t wide = round_up(net->K, WIDE);
    return (NUMBER *)pass->cache + ((block * net->L + layer) * net->G + group) * 2 * wide * WIDE;
}

static inline Lanes NAME(widen)(const NUMBER *from) {
#if PAIR == 2 && defined(__AVX512F__)
    return (Lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)from)), 16);
#else
    Lanes to;
    for (int i = 0; i < WIDE; i++) to[i] = LOAD(from[i]);
    return to;
#endif
}

/* The root-mean-square norm of 16 tokens, packed. */
static void NAME(norm)(const Lanes *x, const float *weight, NUMBER *packed, int64_t D, float epsilon) {
    Lanes squares = {0}, r = {0};
    for (int64_t d = 0; d < D; d++) squares += x[d] * x[d];
    for (int lane = 0; lane < WIDE; lane++) r[lane] = 1.0f / sqrtf(squares[lane] / (float)D + epsilon);
    int64_t d = 0;
    for (; d + 2 <= D; d += 2) NAME(pack_pair)(packed, d, x[d] * r * weight[d], x[d + 1] * r * weight[d + 1]);
    if (d < D) NAME(pack)(packed, d, x[d] * r * weight[d]);
    NAME(fill)(packed, D);
}

/* Returns the norms of all tokens, packed. Of few tokens each thread makes them for itself: it would have to wait for the
 * other longer than that takes. */
static const NUMBER *NAME(norms)(const Network *net, const Pass *pass, const float *weight) {
    int64_t size = round_up(net->D, DEEP) * WIDE;
    NUMBER *normed = pass->normed;
    if (pass->tiles <= ALONE) {
        normed += omp_get_thread_num() * ALONE * size;
        for (int64_t tile = 0; tile < pass->tiles; tile++)
            NAME(norm)((const Lanes *)pass->x + tile * net->D, weight, normed + tile * size, net->D, net->epsilon);
        return normed;
    }
#pragma omp for schedule(static)
    for (int64_t tile = 0; tile < pass->tiles; tile++)
        NAME(norm)((const Lanes *)pass->x + tile * net->D, weight, normed + tile * size, net->D, net->epsilon);
    return normed;
}

/* The inputs of adapters: x Aᵀ of each layer of a group, zeros for tokens that are not adapted. */
static void NAME(downs)(const Pass *pass, const Linear *layers, int count, const NUMBER *packed) {
    int64_t panels = ranks_before(layers, count) / TALL, deep = round_up(layers->inputs, DEEP);
    if (!pass->adapting || !panels) return;
#pragma omp for schedule(static)
    for (int64_t panel = 0; panel < panels; panel++) {
        int which = 0;
        int64_t first = panel * TALL;
        while (first >= layers[which].ranks) first -= layers[which++].ranks;
        const NUMBER *rows = (const NUMBER *)layers[which].down + first * deep;
        NAME(Operand) operand = {{rows, rows + HALF * deep}, {deep, deep}, deep, packed, deep * WIDE};
        for (int64_t tile = 0; tile < pass->tiles; tile += 2) {
            Lanes out[2][TALL];
            int both = tile + 1 < pass->tiles ? 2 : 1;
            NAME(multiply)(&operand, 1, tile, both, out);
            for (int j = 0; j < both; j++) {
                NUMBER *to = (NUMBER *)pass->ranks + (tile + j) * pass->most_ranks * WIDE;
                Lanes mask = *(const Lanes *)(pass->mask + (tile + j) * WIDE);
                for (int r = 0; r < TALL; r += 2)
                    NAME(pack_pair)(to, panel * TALL + r, out[j][r] * mask, out[j][r + 1] * mask);
            }
        }
    }
}

/* Operands of 32 outputs of one layer, or of 16 of each of two. Returns how many. */
static int NAME(operands_of)(const Pass *pass, const Linear *layers, const int *which, const int64_t *first,
                             const NUMBER *packed, NAME(Operand) * operands) {
    int64_t deep = round_up(layers->inputs, DEEP);
    NUMBER *scratch = (NUMBER *)pass->halves + omp_get_thread_num() * 2 * HALF * pass->deepest;
    int count = 1;
    operands[0] = (NAME(Operand)){{NULL, NULL}, {deep, deep}, deep, packed, deep * WIDE};
    for (int half = 0; half < 2; half++)
        if (first[half] < layers[which[half]].outputs)
            NAME(half)(&layers[which[half]], first[half], scratch + half * HALF * deep, &operands[0], half);
    for (int half = 0; half < 2 && pass->adapting; half++) {
        const Linear *layer = &layers[which[half]];
        if (!layer->ranks || first[half] >= layer->outputs) continue;
        if (half == 0 || which[0] != which[1] || count == 1) {
            const NUMBER *ranks = (const NUMBER *)pass->ranks + ranks_before(layers, which[half]) * WIDE;
            operands[count++] =
                (NAME(Operand)){{NULL, NULL}, {0, 0}, layer->ranks, ranks, pass->most_ranks * WIDE};
        }
        operands[count - 1].stride[half] = layer->ranks;
        operands[count - 1].rows[half] = (const NUMBER *)layer->up + first[half] * layer->ranks;
    }
    return count;
}

/* Products of several layers with the same input, written side by side, or added to the stream. */
static void NAME(products)(const Pass *pass, const Linear *layers, int count, const NUMBER *packed,
                           int where) {
    int64_t panels = 0, outputs = 0;
    for (int i = 0; i < count; i++) panels += (layers[i].outputs + TALL - 1) / TALL, outputs += layers[i].outputs;
#pragma omp for schedule(dynamic, 1)
    for (int64_t panel = 0; panel < panels; panel++) {
        int which = 0;
        int64_t number = panel, before = 0;
        while (number >= (layers[which].outputs + TALL - 1) / TALL) {
            number -= (layers[which].outputs + TALL - 1) / TALL;
            before += layers[which++].outputs;
        }
        const Linear *layer = &layers[which];
        int64_t first = number * TALL, rows = least(TALL, layer->outputs - first);
        NAME(Operand) operands[3];
        int parts = NAME(operands_of)(pass, layers, (int[2]){which, which}, (int64_t[2]){first, first + HALF}, packed,
                                      operands);
        for (int64_t tile = 0; tile < pass->tiles; tile += 2) {
            Lanes out[2][TALL];
            int both = tile + 1 < pass->tiles ? 2 : 1;
            NAME(multiply)(operands, parts, tile, both, out);
            for (int j = 0; j < both; j++) {
                NAME(finish)(layer, first, rows, *(const Lanes *)(pass->mask + (tile + j) * WIDE), pass->adapting, out[j]);
                float *to = (where == TO_HEADS ? pass->heads : pass->x) + ((tile + j) * outputs + before + first) * WIDE;
                if (where == TO_HEADS)
                    memcpy(to, out[j], rows * sizeof(Lanes));
                else
                    for (int64_t r = 0; r < rows; r++) ((Lanes *)to)[r] += out[j][r];
            }
        }
    }
}

/* Gate and up, sixteen of each at a time, and what the activation makes of them. */
static void NAME(gated_products)(const Network *net, const Pass *pass, const Linear *layers, const NUMBER *packed) {
    int64_t deep = round_up(net->F, DEEP);
#pragma omp for schedule(dynamic, 1)
    for (int64_t panel = 0; panel < (net->F + HALF - 1) / HALF; panel++) {
        int64_t first = panel * HALF, rows = least(HALF, net->F - first);
        NAME(Operand) operands[3];
        int parts = NAME(operands_of)(pass, layers, (int[2]){0, 1}, (int64_t[2]){first, first}, packed, operands);
        for (int64_t tile = 0; tile < pass->tiles; tile += 2) {
            Lanes out[2][TALL];
            int both = tile + 1 < pass->tiles ? 2 : 1;
            NAME(multiply)(operands, parts, tile, both, out);
            for (int j = 0; j < both; j++) {
                Lanes mask = *(const Lanes *)(pass->mask + (tile + j) * WIDE), *gate = out[j], *up = out[j] + HALF;
                NAME(finish)(&layers[0], first, rows, mask, pass->adapting, gate);
                NAME(finish)(&layers[1], first, rows, mask, pass->adapting, up);
                float *one = (float *)gate;
                const float *other = (const float *)up;
                if (net->activation == 0) {
#pragma omp simd
                    for (int i = 0; i < HALF * WIDE; i++) one[i] = activation(one[i], 0) * other[i];
                } else {
#pragma omp simd
                    for (int i = 0; i < HALF * WIDE; i++) one[i] = activation(one[i], 1) * other[i];
                }
                NUMBER *to = (NUMBER *)pass->inner + (tile + j) * deep * WIDE;
                for (int64_t r = 0; r + 2 <= rows; r += 2) NAME(pack_pair)(to, first + r, gate[r], gate[r + 1]);
                if (rows % 2) NAME(pack)(to, first + rows - 1, gate[rows - 1]);
                if (first + HALF >= net->F) NAME(fill)(to, net->F);
            }
        }
    }
}

/* Norms and turns queries and keys of 16 tokens, and writes their keys and values to the cache. */
static void NAME(append)(const Network *net, const Pass *pass, int64_t number, int64_t tile) {
    const Layer *layer = &net->layers[number];
    int64_t H = net->H, G = net->G, K = net->K, turned = net->turned, wide = round_up(K, WIDE);
    Lanes *heads = (Lanes *)(pass->heads + tile * (H + 2 * G) * K * WIDE);
    const Lanes *turn = (const Lanes *)(pass->turn + tile * 2 * turned * WIDE);
    for (int64_t head = 0; head < H + G; head++) {
        Lanes *x = heads + head * K, r = {0}, squares = {0};
        const float *weight = head < H ? layer->query_norm : layer->key_norm;
        if (weight) {
            for (int64_t k = 0; k < K; k++) squares += x[k] * x[k];
            for (int lane = 0; lane < WIDE; lane++) r[lane] = 1.0f / sqrtf(squares[lane] / (float)K + net->epsilon);
            for (int64_t k = 0; k < K; k++) x[k] *= r * weight[k];
        }
        for (int64_t k = 0; k < turned; k++) {
            Lanes one = x[k], other = x[k + turned];
            x[k] = one * turn[k] - other * turn[turned + k];
            x[k + turned] = other * turn[k] + one * turn[turned + k];
        }
    }
    for (int64_t t = tile * WIDE; t < least(pass->tokens, (tile + 1) * WIDE); t++) {
        int64_t segment = pass->token_segment[t], position = pass->first[segment] + t - pass->start[segment];
        int64_t block = pass->table[pass->row[segment] * pass->table_stride + position / WIDE];
        for (int64_t group = 0; group < G; group++) {
            const float *key = (const float *)(heads + (H + group) * K) + t % WIDE;
            const float *value = (const float *)(heads + (H + G + group) * K) + t % WIDE;
            NUMBER *keys = NAME(keys_of)(net, pass, block, number, group);
            NUMBER *row = keys + (WIDE + position % WIDE) * wide;
            for (int64_t k = 0; k < K; k++) {
                *NAME(place)(keys, k, position % WIDE) = STORE(key[k * WIDE]);
                row[k] = STORE(value[k * WIDE]);
            }
            for (int64_t k = K; k < wide; k++) *NAME(place)(keys, k, position % WIDE) = row[k] = 0;
        }
    }
}

/* Copies the first tokens of blocks that two texts share in part; in order, as one copy may be made of another. */
static void NAME(copies)(const Network *net, const Pass *pass, int64_t layer) {
    if (!pass->copies) return;
    int64_t wide = round_up(net->K, WIDE);
#pragma omp for schedule(static)
    for (int64_t group = 0; group < net->G; group++)
        for (int64_t i = 0; i < pass->copies; i++) {
            const NUMBER *from = NAME(keys_of)(net, pass, pass->copy[3 * i], layer, group);
            NUMBER *to = NAME(keys_of)(net, pass, pass->copy[3 * i + 1], layer, group);
            int64_t count = pass->copy[3 * i + 2];
            for (int64_t k = 0; k < wide / PAIR; k++)
                memcpy(to + k * WIDE * PAIR, from + k * WIDE * PAIR, count * PAIR * sizeof(NUMBER));
            memcpy(to + wide * WIDE, from + wide * WIDE, count * wide * sizeof(NUMBER));
        }
}

/* What the queries of some tokens of one text, for one key head, attend to. */
static void NAME(attend)(const Network *net, const Pass *pass, int64_t number, int64_t from, int64_t count, int64_t group) {
    int64_t H = net->H, G = net->G, K = net->K, R = H / G, wide = round_up(K, WIDE), window = net->layers[number].window;
    int64_t segment = pass->token_segment[from], first = pass->first[segment] + from - pass->start[segment];
    const int32_t *table = pass->table + pass->row[segment] * pass->table_stride;
    float *scores = pass->scores + omp_get_thread_num() * pass->scores_size;
    NUMBER *asked = (NUMBER *)(scores + pass->most_queries * pass->span);
    int64_t begin = window > 0 && first + 1 > window ? first + 1 - window : 0, end = first + count;
    begin = begin / WIDE * WIDE;
    for (int64_t i = 0; i < count * R; i++) {
        int64_t t = from + i / R, head = group * R + i % R;
        const float *q = pass->heads + (t / WIDE * (H + 2 * G) * K + head * K) * WIDE + t % WIDE;
        for (int64_t k = 0; k < K; k++) asked[i * wide + k] = STORE(q[k * WIDE]);
        for (int64_t k = K; k < wide; k++) asked[i * wide + k] = 0;
    }
    for (int64_t s = begin; s < end; s += WIDE) {
        const NUMBER *keys = NAME(keys_of)(net, pass, table[s / WIDE], number, group);
        int64_t i = 0;
        for (; i + QUERIES <= count * R; i += QUERIES) { /* sums that do not wait for each other */
            Lanes sum[QUERIES] = {{0}};
            for (int64_t k = 0; k < wide; k += PAIR)
                for (int j = 0; j < QUERIES; j++)
                    sum[j] = NAME(add_product)(sum[j], asked + (i + j) * wide + k, keys + k * WIDE);
            for (int j = 0; j < QUERIES; j++) *(Lanes *)(scores + (i + j) * pass->span + s - begin) = sum[j];
        }
        for (; i < count * R; i++) {
            Lanes sum = {0};
            for (int64_t k = 0; k < wide; k += PAIR)
                sum = NAME(add_product)(sum, asked + i * wide + k, keys + k * WIDE);
            *(Lanes *)(scores + i * pass->span + s - begin) = sum;
        }
    }
    int64_t high = round_up(end, WIDE);
    float totals[count * R];
    for (int64_t i = 0; i < count * R; i++) { /* shares; 0 for what a query does not see */
        int64_t stop = first + i / R + 1, start = window > 0 && stop > window ? stop - window : 0;
        float *row = scores + i * pass->span - begin, most = -INFINITY;
#pragma omp simd reduction(max : most)
        for (int64_t s = begin; s < high; s++) {
            float value = s >= start && s < stop ? row[s] : -INFINITY;
            most = value > most ? value : most;
        }
        Lanes sums = {0};
        for (int64_t s = begin; s < high; s += WIDE) {
            Lanes shares = {0};
#pragma omp simd
            for (int lane = 0; lane < WIDE; lane++) {
                float value = exponential((row[s + lane] - most) * net->scaling);
                shares[lane] = s + lane >= start && s + lane < stop ? value : 0.0f;
            }
            sums += shares;
            *(Lanes *)(row + s) = shares;
        }
        totals[i] = 0.0f;
        for (int lane = 0; lane < WIDE; lane++) totals[i] += sums[lane];
    }
    for (int64_t i = 0; i < count * R; i += QUERIES) {
        int64_t queries = least(QUERIES, count * R - i);
        const float *rows = scores + i * pass->span - begin;
        for (int64_t k = 0; k < wide; k += PARTS * WIDE) {
            Lanes found[QUERIES][PARTS] = {{{0}}};
            int64_t parts = least(PARTS, (wide - k) / WIDE);
            for (int64_t s = begin; s < end; s++) {
                const NUMBER *values = NAME(keys_of)(net, pass, table[s / WIDE], number, group) + wide * WIDE +
                                       s % WIDE * wide + k;
                if (queries == QUERIES && parts == PARTS) /* the same with numbers that the compiler knows */
                    for (int part = 0; part < PARTS; part++) {
                        Lanes value = NAME(widen)(values + part * WIDE);
                        for (int j = 0; j < QUERIES; j++) found[j][part] += value * rows[j * pass->span + s];
                    }
                else
                    for (int part = 0; part < parts; part++) {
                        Lanes value = NAME(widen)(values + part * WIDE);
                        for (int j = 0; j < queries; j++) found[j][part] += value * rows[j * pass->span + s];
                    }
            }
            for (int j = 0; j < queries; j++) {
                int64_t t = from + (i + j) / R, head = group * R + (i + j) % R;
                NUMBER *out = (NUMBER *)pass->attended + t / WIDE * round_up(H * K, DEEP) * WIDE;
                const float *all = (const float *)found[j];
                for (int64_t l = 0; l < least(PARTS * WIDE, K - k); l++)
                    *NAME(place)(out, head * K + k + l, t % WIDE) = STORE(all[l] / totals[i + j]);
            }
        }
    }
}

/* The tokens as lanes, their turns and masks. */
static void NAME(enter)(const Network *net, const Pass *pass, int64_t tile) {
    Lanes *x = (Lanes *)(pass->x + tile * net->D * WIDE), *turn = (Lanes *)(pass->turn + tile * 2 * net->turned * WIDE);
    memset(x, 0, net->D * sizeof(Lanes));
    memset(turn, 0, 2 * net->turned * sizeof(Lanes));
    Lanes mask = {0};
    for (int lane = 0; lane < least(WIDE, pass->tokens - tile * WIDE); lane++) {
        int64_t t = tile * WIDE + lane, segment = pass->token_segment[t];
        int64_t position = pass->first[segment] + t - pass->start[segment];
        for (int64_t d = 0; d < net->D; d++) ((float *)x)[d * WIDE + lane] = pass->embedded[t * net->D + d];
        for (int64_t k = 0; k < net->turned; k++) {
            ((float *)turn)[k * WIDE + lane] = net->cosine[position * net->turned + k];
            ((float *)turn)[(net->turned + k) * WIDE + lane] = net->sine[position * net->turned + k];
        }
        mask[lane] = pass->adapted[t];
    }
    *(Lanes *)(pass->mask + tile * WIDE) = mask;
    NAME(fill)((NUMBER *)pass->attended + tile * round_up(net->H * net->K, DEEP) * WIDE, net->H * net->K);
}

/* The logits of the tokens kept: the likeliest of each, and all where they are wanted. */
static void NAME(leave)(const Network *net, const Pass *pass) {
    int64_t tiles = (pass->kept + WIDE - 1) / WIDE, deep = round_up(net->D, DEEP), thread = omp_get_thread_num();
    float *best = pass->best_of + thread * tiles * 2 * WIDE;
#pragma omp for schedule(static)
    for (int64_t tile = 0; tile < tiles; tile++) {
        Lanes *x = (Lanes *)pass->heads + tile * net->D;
        memset(x, 0, net->D * sizeof(Lanes));
        for (int lane = 0; lane < least(WIDE, pass->kept - tile * WIDE); lane++) {
            int64_t t = pass->keep[tile * WIDE + lane];
            const float *from = pass->x + t / WIDE * net->D * WIDE + t % WIDE;
            for (int64_t d = 0; d < net->D; d++) ((float *)x)[d * WIDE + lane] = from[d * WIDE];
        }
        NAME(norm)(x, net->norm, (NUMBER *)pass->normed + tile * deep * WIDE, net->D, net->epsilon);
    }
    for (int64_t i = 0; i < tiles * 2 * WIDE; i++) best[i] = i / WIDE % 2 ? 0.0f : -INFINITY;
#pragma omp for schedule(dynamic, 8)
    for (int64_t panel = 0; panel < (net->V + TALL - 1) / TALL; panel++) {
        int64_t first = panel * TALL, rows = least(TALL, net->V - first);
        NAME(Operand) operand = {{NULL, NULL}, {deep, deep}, deep, pass->normed, deep * WIDE};
        NUMBER *scratch = (NUMBER *)pass->halves + thread * 2 * HALF * pass->deepest;
        NAME(half)(&net->head, first, scratch, &operand, 0);
        if (rows > HALF) NAME(half)(&net->head, first + HALF, scratch + HALF * deep, &operand, 1);
        for (int64_t tile = 0; tile < tiles; tile += 2) {
            Lanes out[2][TALL];
            int both = tile + 1 < tiles ? 2 : 1;
            NAME(multiply)(&operand, 1, tile, both, out);
            for (int j = 0; j < both; j++) {
                NAME(finish)(&net->head, first, rows, (Lanes){0}, 0, out[j]);
                float *most = best + (tile + j) * 2 * WIDE, *place = most + WIDE;
                for (int64_t r = 0; r < rows; r++) {
                    const float *found = (const float *)&out[j][r];
#pragma omp simd
                    for (int lane = 0; lane < WIDE; lane++) {
                        place[lane] = found[lane] > most[lane] ? (float)(first + r) : place[lane];
                        most[lane] = found[lane] > most[lane] ? found[lane] : most[lane];
                    }
                }
                if (pass->logits)
                    for (int lane = 0; lane < least(WIDE, pass->kept - (tile + j) * WIDE); lane++)
                        for (int64_t r = 0; r < rows; r++)
                            pass->logits[((tile + j) * WIDE + lane) * net->V + first + r] = out[j][r][lane];
            }
        }
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < pass->kept; i++) {
        float most = -INFINITY, place = 0.0f;
        for (int64_t other = 0; other < omp_get_num_threads(); other++) {
            const float *theirs = pass->best_of + (other * tiles + i / WIDE) * 2 * WIDE + i % WIDE;
            if (theirs[0] > most || (theirs[0] == most && theirs[WIDE] < place)) most = theirs[0], place = theirs[WIDE];
        }
        pass->best[i] = (int32_t)place;
    }
}

void NAME(decode)(const Network *net, Pass *pass) {
    int64_t R = net->H / net->G, together = R < 8 ? 8 / R : 1, chunks = 0;
    pass->tiles = (pass->tokens + WIDE - 1) / WIDE;
    for (int64_t segment = 0; segment < pass->segments; segment++)
        for (int64_t i = 0; i < pass->length[segment]; i++) {
            pass->token_segment[pass->start[segment] + i] = (int32_t)segment;
            if (i % together == 0) pass->chunk[chunks++] = (int32_t)(pass->start[segment] + i);
        }
#pragma omp parallel num_threads(pass->threads)
    {
#if PAIR == 2 && defined(HAS_AMX)
        if (amx_ready()) configure_tiles();
#endif
#pragma omp for schedule(static)
        for (int64_t tile = 0; tile < pass->tiles; tile++) NAME(enter)(net, pass, tile);
        for (int64_t number = 0; number < net->L; number++) {
            const Layer *layer = &net->layers[number];
            const Linear *linear = layer->linear;
            const NUMBER *normed = NAME(norms)(net, pass, layer->attention_norm);
            NAME(downs)(pass, linear + QUERY, 3, normed);
            NAME(products)(pass, linear + QUERY, 3, normed, TO_HEADS);
#pragma omp for schedule(static)
            for (int64_t tile = 0; tile < pass->tiles; tile++) NAME(append)(net, pass, number, tile);
            NAME(copies)(net, pass, number);
#pragma omp for schedule(dynamic, 1)
            for (int64_t item = 0; item < chunks * net->G; item++) {
                int64_t from = pass->chunk[item / net->G], segment = pass->token_segment[from];
                int64_t rest = pass->start[segment] + pass->length[segment] - from;
                NAME(attend)(net, pass, number, from, least(together, rest), item % net->G);
            }
            NAME(downs)(pass, linear + OUT, 1, pass->attended);
            NAME(products)(pass, linear + OUT, 1, pass->attended, TO_STREAM);
            normed = NAME(norms)(net, pass, layer->mlp_norm);
            NAME(downs)(pass, linear + GATE, 2, normed);
            NAME(gated_products)(net, pass, linear + GATE, normed);
            NAME(downs)(pass, linear + DOWN, 1, pass->inner);
            NAME(products)(pass, linear + DOWN, 1, pass->inner, TO_STREAM);
        }
        if (pass->kept) NAME(leave)(net, pass);
#if PAIR == 2 && defined(HAS_AMX)
        if (amx_ready()) _tile_release();
#endif
    }
}
