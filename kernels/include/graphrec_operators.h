/* The operators, one GRAPHREC_OPERATOR(name, arguments) each; see graphrec_kernels.h for who exports what.
 *
 * T is the operator's dtype. S, the type of scales, weights, scores and sums, is double where T is float64, else float; sums
 * are kept in S at least. A CSR is int64 indptr (rows + 1) and int32 indices (edges), ascending within a row. The "edge" e
 * is a position in the indices of the CSR by destination; a CSR by source reaches it through edge_ids (int64 (edges)).
 */

/* Y[r] = alpha * left[R] * reduce over edges e = (R, c) of w[e] * right[c] * X[p(c)] + beta * Z[r],  R = rows ? rows[r] : r.
 *
 * p(c) = c, or positions[c] when given; an edge with positions[c] < 0 is skipped (the transpose of a row-restricted product).
 * e = edge_ids ? edge_ids[position] : position. reduce: graphrec_reduce; a row without edges gives 0.
 *
 * rows int64 (num_rows) or NULL       positions int32 (columns) or NULL     edge_weight S (edges) or NULL for ones
 * left S (CSR rows) or NULL for ones  right S (columns) or NULL for ones    x T (.., dim)
 * z T (num_rows, dim) or NULL, may alias y      y T (num_rows, dim)
 * argmax int64 (num_rows, dim): the edge e that won, -1 without edges; first of equals; NULL for the sum
 */
GRAPHREC_OPERATOR(spmm, int64_t dtype, int64_t reduce, int64_t num_rows, int64_t dim, const int64_t *indptr,
                  const int32_t *indices, const int64_t *rows, const int32_t *positions, const void *edge_weight,
                  const int64_t *edge_ids, const void *x, const void *left, const void *right, double alpha, const void *z,
                  double beta, void *y, int64_t *argmax)

/* The gradient of the max-reduced spmm by X, over the CSR by source:
 * GX[c] = right[c] * sum over edges (c, r) of [argmax[q, d] = e] * w[e] * alpha * left[r] * G[q, d],  q = positions ? positions[r] : r.
 *
 * positions int32 (destinations) or NULL: where a destination is in G and argmax; < 0 skips the edge.
 */
GRAPHREC_OPERATOR(spmm_max_backward, int64_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr,
                  const int32_t *indices, const int32_t *positions, const void *edge_weight, const int64_t *edge_ids,
                  const void *gradient, const void *left, const void *right, double alpha, const int64_t *argmax,
                  void *x_gradient)

/* Signals pushed from the rows of a CSR to its columns, Y[b, c] = alpha * right[c] * sum over edges (r, c) of left[r] * X[b, r],
 * reading the edges of non-zero entries of X alone. T float32 or float64; the sum runs by ascending r.
 *
 * x T (batch, num_rows)    left T (num_rows), right T (num_columns), or NULL for ones    y T (batch, num_columns)
 */
GRAPHREC_OPERATOR(push, int64_t dtype, int64_t batch, int64_t num_rows, int64_t num_columns, const int64_t *indptr,
                  const int32_t *indices, const void *x, const void *left, const void *right, double alpha, void *y)

/* out[e] = alpha * left[R] * right[c] * sum over d of [argmax is NULL or argmax[r, d] = e] * A[r, d] * B[c, d] for the edges
 * e = (R, c) of the rows R = rows ? rows[r] : r; other entries of out are left alone.
 *
 * a T (num_rows, dim)   b T (columns, dim)   out S (edges)   argmax int64 (num_rows, dim) or NULL
 */
GRAPHREC_OPERATOR(sddmm, int64_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                  const int64_t *rows, const void *a, const void *b, const void *left, const void *right, double alpha,
                  const int64_t *argmax, void *out)

/* Several spmm in one launch: y[r] = alpha * left[r] * sum over edges (r, c) of right[c] * x[c], the parts with one y summed.
 *
 * parts  int64 (num_parts, 8), in memory that the operator's device reads: num_rows, then the addresses of indptr, indices,
 *        x (columns, dim), left or 0, right or 0, y, and the stride of y's rows in elements. Parts with the same y are
 *        consecutive and have equal num_rows; they are added in their order.
 * total_rows  the rows of all distinct y together
 */
GRAPHREC_OPERATOR(hetero_spmm, int64_t dtype, int64_t num_parts, int64_t total_rows, int64_t dim, const int64_t *parts,
                  double alpha)

/* Multi-head attention over edges with a one-pass online softmax; for every row r and head h
 *   score(e) = leaky(dst[r, h] + src_score[c, h])                                  GAT (graphrec_attention)
 *   score(e) = sum over f of attention[h, f] * leaky(dst[r, h, f] + src_x[c, h, f])   GATv2
 *   y[r, h] = sum over e of keep(e, h) * softmax_e(score) * src_x[c, h],   lse[r, h] = log sum over e of exp(score(e))
 *
 * keep = 0 or 1 / (1 - dropout), drawn by graphrec_keep(seed, e * heads + h, dropout) of graphrec_random.h. A row without
 * edges gives y = 0 and lse = -inf.
 *
 * dst S (rows, heads) for GAT, T (rows, heads, dim) for GATv2     src_score S (columns, heads), NULL for GATv2
 * src_x T (columns, heads, dim)    attention T (heads, dim), NULL for GAT    y T (rows, heads, dim)    lse S (rows, heads)
 */
GRAPHREC_OPERATOR(gat, int64_t dtype, int64_t kind, int64_t num_rows, int64_t heads, int64_t dim, const int64_t *indptr,
                  const int32_t *indices, const void *dst, const void *src_score, const void *src_x, const void *attention,
                  double slope, double dropout, int64_t seed, void *y, void *lse)

/* The gradients of gat, the softmax recomputed from lse. Shapes as above; t_indptr, t_indices, edge_ids: the CSR by source.
 *
 * gradient T (rows, heads, dim)    dst_gradient as dst    src_score_gradient as src_score    src_x_gradient as src_x
 * delta S (rows, 3, heads) and edge_gradient S (edges, heads): work space, written
 * attention_partials S (num_partials, heads, dim), NULL for GAT: partial sums; their sum over the first axis is the gradient
 */
GRAPHREC_OPERATOR(gat_backward, int64_t dtype, int64_t kind, int64_t num_rows, int64_t num_columns, int64_t heads, int64_t dim,
                  const int64_t *indptr, const int32_t *indices, const int64_t *t_indptr, const int32_t *t_indices,
                  const int64_t *edge_ids, const void *dst, const void *src_score, const void *src_x, const void *attention,
                  double slope, double dropout, int64_t seed, const void *y, const void *lse, const void *gradient,
                  void *dst_gradient, void *src_score_gradient, void *src_x_gradient, int64_t num_partials,
                  void *attention_partials, void *delta, void *edge_gradient)

/* Bayesian personalised ranking of B pairs against n negatives each, rows given as positions in compact tables:
 *   losses[b] = sum over j of softplus(s(b, j) - s(b)),  slopes[b, j] = sigmoid(s(b, j) - s(b)),  s = inner products.
 *
 * user_x T (.., dim)  item_x T (.., dim)  users, positives int64 (batch)  negatives int64 (batch, num_negatives)
 * losses S (batch)    slopes S (batch, num_negatives)
 */
GRAPHREC_OPERATOR(bpr, int64_t dtype, int64_t batch, int64_t num_negatives, int64_t dim, const void *user_x, const void *item_x,
                  const int64_t *users, const int64_t *positives, const int64_t *negatives, void *losses, void *slopes)

/* The gradients of scale * gradient[0] * sum over b of losses[b] by the compact tables, summed in a fixed order.
 *
 * gradient S (1)    user_indptr int64 (num_users + 1), user_order int64 (batch): the pairs b of each user row
 * item_indptr int64 (num_items + 1), item_order int64 (batch * (1 + num_negatives)): for each item row the entries that name
 *        it, b for a positive and batch + b * num_negatives + j for a negative
 * user_gradient T (num_users, dim)    item_gradient T (num_items, dim)
 */
GRAPHREC_OPERATOR(bpr_backward, int64_t dtype, int64_t num_users, int64_t num_items, int64_t batch, int64_t num_negatives,
                  int64_t dim, const void *user_x, const void *item_x, const int64_t *users, const int64_t *positives,
                  const int64_t *negatives, const void *slopes, const void *gradient, double scale, const int64_t *user_indptr,
                  const int64_t *user_order, const int64_t *item_indptr, const int64_t *item_order, void *user_gradient,
                  void *item_gradient)

/* CPU only: in place on a tile of scores S (num_rows, num_columns) of the sampled softmax,
 *   total[b] = log sum over j of exp(scores[b, j] / temperature + log_weight[j]), hits left out; scores[b, j] becomes
 *   exp(scores[b, j] / temperature + log_weight[j] - total[b]), and 0 for hits. A row with nothing left gives total -inf.
 *
 * log_weight S (num_columns)   hit_indptr int64 (num_rows + 1), hits int32 ascending within a row: columns left out
 */
GRAPHREC_OPERATOR(softmax_tile, int64_t dtype, int64_t num_rows, int64_t num_columns, void *scores, const void *log_weight,
                  const int64_t *hit_indptr, const int32_t *hits, double temperature, void *total)

/* CUDA only: the whole sampled softmax on compact tables, never writing the score matrix. With s = inner products,
 *   total[b] as in softmax_tile over the rows negatives of item_x,
 *   losses[b] = softplus(total[b] - s(b, positives[b]) / temperature),  slopes[b] = sigmoid(the same).
 *
 * users, positives int64 (batch)   negatives int64 (num_negatives)   losses, total, slopes S (batch)
 */
GRAPHREC_OPERATOR(sampled_softmax, int64_t dtype, int64_t batch, int64_t num_negatives, int64_t dim, const void *user_x,
                  const void *item_x, const int64_t *users, const int64_t *positives, const int64_t *negatives,
                  const void *log_weight, const int64_t *hit_indptr, const int32_t *hits, double temperature, void *losses,
                  void *total, void *slopes)

/* CUDA only: the gradients of gradient[0] * scale * sum of losses, recomputing the scores.
 *
 * pair_gradient T (batch, dim): the gradient by each pair's user row, to be summed by user
 * positive_gradient T (batch, dim), negative_gradient T (num_negatives, dim): by the item rows, to be summed by item
 */
GRAPHREC_OPERATOR(sampled_softmax_backward, int64_t dtype, int64_t batch, int64_t num_negatives, int64_t dim, const void *user_x,
                  const void *item_x, const int64_t *users, const int64_t *positives, const int64_t *negatives,
                  const void *log_weight, const int64_t *hit_indptr, const int32_t *hits, double temperature, const void *total,
                  const void *slopes, const void *gradient, double scale, void *pair_gradient, void *positive_gradient,
                  void *negative_gradient)

/* CPU only: merge one tile of scores into a running top-k list per row, skipping each row's excluded columns.
 *
 * scores  float32 (num_rows, stride), columns first_column .. first_column + num_columns - 1
 * excluded_indptr int64 (num_rows + 1) or NULL; excluded_indices int32, ascending within a row, absolute columns
 * candidates  uint8, by absolute column, 0 leaves the column out; or NULL
 * values  float32 (num_rows, k), descending; the caller fills it with -inf before the first tile
 * indices int64 (num_rows, k); the caller fills it with -1 before the first tile
 *
 * Equal scores keep the lower column first, provided that tiles come in ascending order. NaN and -inf never enter.
 */
GRAPHREC_OPERATOR(topk, int64_t num_rows, int64_t num_columns, int64_t first_column, int64_t stride, const float *scores,
                  const int64_t *excluded_indptr, const int32_t *excluded_indices, const uint8_t *candidates, int64_t k,
                  float *values, int64_t *indices)

/* The k best columns of user_x * item_x^T for each row, as repeated topk gives them, never writing the scores.
 *
 * user_x float32 (num_rows, dim)   item_x float32 (num_columns, dim)   values, indices (num_rows, k): written
 * workspace float32 (num_columns rounded up to a multiple of 48, dim) for the CPU; NULL for CUDA
 */
GRAPHREC_OPERATOR(topk_scores, int64_t num_rows, int64_t num_columns, int64_t dim, const float *user_x, const float *item_x,
                  const int64_t *excluded_indptr, const int32_t *excluded_indices, const uint8_t *candidates, int64_t k,
                  float *workspace, float *values, int64_t *indices)

/* For each of `count` users draw an item that is not in the user's history, counter-based: entry i draws with Philox counters
 * (first_counter + i, attempt) and key seed, so the result depends on nothing else.
 *
 * Attempt a = 0, 1, ... of entry i takes words = graphrec_philox(seed, first_counter + i, a).word. Its slot is
 * graphrec_below(words[0], slots) of slots = pool ? pool_size : num_items, replaced by alias_index[slot] where
 * graphrec_unit(words[1]) >= alias_probability[slot], and mapped to pool[slot] when a pool is given. After max_attempts
 * refusals the entry is -1 and num_failed[0] grows by one; the caller sets it to 0 first.
 *
 * users int64 (count)   indptr, indices: the histories, ascending   pool int64 (pool_size) or NULL
 * alias_probability float32, alias_index int32 (slots) or NULL      out int64 (count)    num_failed int64 (1)
 */
GRAPHREC_OPERATOR(sample_negatives, int64_t count, int64_t num_items, const int64_t *users, const int64_t *indptr,
                  const int32_t *indices, const int64_t *pool, int64_t pool_size, const float *alias_probability,
                  const int32_t *alias_index, int64_t seed, int64_t first_counter, int64_t max_attempts, int64_t *out,
                  int64_t *num_failed)

/* For each row draw up to `fanout` of its edges. replace = 0: distinct ones, all of them (in order) where the row has no more
 * than fanout; weighted draws are successive sampling (the largest keys log(u) / w win). replace = 1: fanout independent draws.
 * Edges of weight 0 are never drawn.
 *
 * Word n of entry i is graphrec_philox(seed, first_counter + i, n / 4).word[n % 4]. With d the row's edges, p = 0 .. d - 1 an
 * edge's place in its row, and n = 0 .. fanout - 1 a draw in the order of the output:
 *   uniform, replace = 1    p = graphrec_below(word n, d)
 *   uniform, replace = 0    Floyd's method where d > fanout: for n in order take p = graphrec_below(word n, d - fanout + n + 1),
 *                           or p = d - fanout + n where that p was taken before
 *   weighted, replace = 1   the first p with w[p] > 0 and c[p] > word n * 2^-32 * c[d - 1], c the running sum of the positive
 *                           weights in order, in double; the last p with w[p] > 0 where rounding leaves none
 *   weighted, replace = 0   the fanout smallest graphrec_race(word p) / w[p] (double) of the w[p] > 0, of equals the lower p
 *
 * rows int64 (num_rows)   weights float32 (edges), finite, or NULL for uniform
 * out_columns, out_edges int64 (num_rows, fanout), -1 where a row has no more; distinct draws come in ascending edge order
 */
GRAPHREC_OPERATOR(sample_neighbors, int64_t num_rows, int64_t fanout, int64_t replace, const int64_t *rows,
                  const int64_t *indptr, const int32_t *indices, const float *weights, int64_t seed, int64_t first_counter,
                  int64_t *out_columns, int64_t *out_edges)

/* One Adam step over a dense table in one pass (Kingma and Ba 2015, algorithm 1; weight_decay is added to the gradient):
 *   g += weight_decay * p;  m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g * g;
 *   p -= rate / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + epsilon)
 *
 * parameter, first_moment, second_moment T (count), T float32 or float64   step counts from 1
 * gradient T (count), or bfloat16 beside float32: gradient_dtype says which
 */
GRAPHREC_OPERATOR(adam, int64_t dtype, int64_t gradient_dtype, int64_t count, void *parameter, const void *gradient, void *first_moment,
                  void *second_moment, double rate, double beta1, double beta2, double epsilon, double weight_decay,
                  int64_t step)
