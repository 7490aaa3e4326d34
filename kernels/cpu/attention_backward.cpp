// Graph attention backward. With a(e, h) the softmax weight and p(e, h) = keep * <gradient[r, h], src_x[c, h]>,
//   delta[r, h] = <gradient[r, h], y[r, h]>,   s(e, h) = a(e, h) * (p(e, h) - delta[r, h])
// is the gradient of the score. One pass over the CSR by source makes a, s and everything that is summed by source; the
// gradients of the edges are left in edge_gradient for the sums by destination.
#include "attention.h"

namespace {

// weight[i, h] * gradient; for GATv2 also slope(i, h) * attention * leaky'(dst + x), both summed by source.
template <typename T, bool DYNAMIC>
struct SourceTerm {
    using S = typename Sum<T>::type;
    static constexpr int kRegisters = DYNAMIC ? 2 : 1;
    Rows<T> gradient, dst;
    const T *x, *attention;
    const S *weight, *score_gradient;
    int64_t padded;
    S slope;

    void prefetch(int64_t) const {}
    template <bool PARTIAL>
    VectorOf<S> of(int64_t i, int64_t head, int64_t column, int64_t last) const {
        VectorOf<S> term = weight[i * padded + head] * read<PARTIAL>(gradient.at(i, head) + column, last);
        if constexpr (DYNAMIC) {
            const int64_t place = head * dst.dim + column;
            const VectorOf<S> sum = read<PARTIAL>(dst.at(i, head) + column, last) + read<PARTIAL>(x + place, last);
            term += score_gradient[i * padded + head] * read<PARTIAL>(attention + place, last) * leaky_slope<S>(sum, slope);
        }
        return term;
    }
};

// s(i, h) * leaky'(dst + x), or with VALUE * leaky(dst + x).
template <typename T, bool VALUE>
struct DestinationTerm {
    using S = typename Sum<T>::type;
    static constexpr int kRegisters = 2;
    Rows<T> x;
    const T *dst;
    const S *score_gradient;
    int64_t heads;
    S slope;

    void prefetch(int64_t i) const { if (!VALUE) x.prefetch(i); }
    template <bool PARTIAL>
    VectorOf<S> of(int64_t i, int64_t head, int64_t column, int64_t last) const {
        const VectorOf<S> sum = read<PARTIAL>(dst + head * x.dim + column, last) + read<PARTIAL>(x.at(i, head) + column, last);
        return score_gradient[i * heads + head] * (VALUE ? leaky<S>(sum, slope) : leaky_slope<S>(sum, slope));
    }
};

// gradient * x, and for GATv2 the score as in the forward pass.
template <typename T>
struct GradientDot {
    using S = typename Sum<T>::type;
    Rows<T> gradient;
    const T *x;
    const S *by_row;
    int64_t heads;

    void prefetch(int64_t i) const {
        gradient.prefetch(i);
        if (i + kPrefetchEdges < gradient.limit)
            __builtin_prefetch(by_row + int64_t(gradient.index[i + kPrefetchEdges]) * 3 * heads, 0, 3);
    }
    template <bool PARTIAL>
    VectorOf<S> of(int64_t i, int64_t head, int64_t column, int64_t last) const {
        return read<PARTIAL>(gradient.at(i, head) + column, last) * read<PARTIAL>(x + head * gradient.dim + column, last);
    }
};

template <typename T>
struct SourceScore {
    using S = typename Sum<T>::type;
    Rows<T> dst;
    const T *x, *attention;
    S slope;

    void prefetch(int64_t i) const { dst.prefetch(i); }
    template <bool PARTIAL>
    VectorOf<S> of(int64_t i, int64_t head, int64_t column, int64_t last) const {
        const int64_t place = head * dst.dim + column;
        const VectorOf<S> sum = read<PARTIAL>(dst.at(i, head) + column, last) + read<PARTIAL>(x + place, last);
        return read<PARTIAL>(attention + place, last) * leaky<S>(sum, slope);
    }
};

template <typename T, bool DYNAMIC>
struct BySource {
    using S = typename Sum<T>::type;
    static constexpr int kLanes = Vector<S>::lanes;
    Shape<S> shape;
    int64_t num_columns;
    const int64_t *indptr;
    const int32_t *indices;
    const int64_t *edge_ids;
    const void *dst;
    const S *src_score;
    const T *src_x, *attention;
    S slope;
    float dropout;
    int64_t seed;
    const S *by_row;  // (rows, 3, heads): dst for GAT, lse, delta
    const T *gradient;
    S *src_score_gradient;
    T *src_x_gradient;
    S *edge_gradient;

    // Work space of one thread: a chunk's scores, then weights; its score gradients; what belongs to the edges' rows.
    struct Work {
        S *scores, *slopes, *lse, *delta, *keep, *own, *score_sum, *sum;
    };

    void rows(int64_t begin, int64_t end) const {
        const int64_t buffer = shape.buffer();
        const Array<S> all(5 * buffer + 2 * shape.period + shape.width);
        S *rest = all + 5 * buffer;
        const Work work{all, all + buffer, all + 2 * buffer, all + 3 * buffer, all + 4 * buffer,
                        rest, rest + shape.period, rest + 2 * shape.period};
        for (int64_t column = begin; column < end; ++column) one_row(column, work);
    }

    void one_row(int64_t column, const Work &work) const {
        const int64_t end = indptr[column + 1], stride = shape.heads * shape.dim;
        for (int64_t k = 0; k < shape.width; ++k) work.sum[k] = 0;
        for (int64_t k = 0; k < shape.period; ++k) work.score_sum[k] = 0;
        if (!DYNAMIC) make_pattern(src_score + column * shape.heads, shape, work.own);
        const T *x = src_x + column * stride;
        // A row's edges take hundreds of cycles, so the hardware's prefetcher does not see the next row in time.
        if (column + kPrefetchRows < num_columns) prefetch_row(x + kPrefetchRows * stride, stride * int64_t(sizeof(T)));
        for (int64_t start = indptr[column]; start < end; start += shape.chunk) {
            const int64_t count = end - start < shape.chunk ? end - start : shape.chunk;
            const int64_t limit = indptr[num_columns] - start;
            const Rows<T> g{gradient, indices + start, stride, shape.dim, limit};
            const Rows<T> rows{DYNAMIC ? static_cast<const T *>(dst) : nullptr, indices + start, stride, shape.dim, limit};
            dots(GradientDot<T>{g, x, by_row, shape.heads}, shape, count, work.slopes);
            if constexpr (DYNAMIC)
                dots(SourceScore<T>{rows, x, attention, slope}, shape, count, work.scores);
            else
                gather(by_row, 3 * shape.heads, g.index, count, shape, S(0), work.scores);
            make_gradients(g.index, start, count, work);
            scatter(start, count, limit, work.slopes);
            sum_terms(SourceTerm<T, DYNAMIC>{g, rows, x, attention, work.scores, work.slopes, shape.padded, slope}, shape,
                      count, work.sum);
        }
        write_row<T, S>(shape, work.sum, nullptr, src_x_gradient + column * stride);
        if (DYNAMIC) return;
        for (int64_t part = 0; part < shape.period; part += kLanes)
            store(work.score_sum + part, by_head<Add, S>(load(work.score_sum + part), shape.padded));
        for (int64_t h = 0; h < shape.heads; ++h) src_score_gradient[column * shape.heads + h] = work.score_sum[h];
    }

    // work.scores becomes keep * a, work.slopes the gradient by dst + src_score (GAT) or by the score (GATv2).
    void make_gradients(const int32_t *index, int64_t start, int64_t count, const Work &work) const {
        // exp(score - inf) = 0: the slots after the last edge add nothing.
        gather(by_row + shape.heads, 3 * shape.heads, index, count, shape, kInfinity<S>, work.lse);
        gather(by_row + 2 * shape.heads, 3 * shape.heads, index, count, shape, S(0), work.delta);
        for (int64_t slot = count * shape.padded; slot < shape.slots(count); ++slot) work.scores[slot] = work.slopes[slot] = 0;
        if (dropout > 0) draw_keep(shape, start, edge_ids + start, count, seed, dropout, work.keep);
        for (int64_t part = 0; part < shape.period; part += kLanes) {
            const VectorOf<S> own = DYNAMIC ? VectorOf<S>{} : load(work.own + part);
            VectorOf<S> sum = load(work.score_sum + part);
            for (int64_t slot = part; slot < shape.slots(count); slot += shape.period) {
                VectorOf<S> score = load(work.scores + slot) + own, dot = load(work.slopes + slot);
                const VectorOf<S> factor = leaky_slope<S>(score, slope);
                if (!DYNAMIC) score *= factor;
                const VectorOf<S> softmax = exponential(score - load(work.lse + slot));
                VectorOf<S> weight = softmax;
                if (dropout > 0) {
                    weight *= load(work.keep + slot);
                    dot *= load(work.keep + slot);
                }
                VectorOf<S> slopes = softmax * (dot - load(work.delta + slot));
                if (!DYNAMIC) slopes *= factor;
                store(work.scores + slot, weight);
                store(work.slopes + slot, slopes);
                sum += slopes;
            }
            store(work.score_sum + part, sum);
        }
    }

    void scatter(int64_t start, int64_t count, int64_t limit, const S *slopes) const {
        if (shape.heads == 4) return scatter_heads<4>(start, count, limit, slopes);
        scatter_heads<0>(start, count, limit, slopes);
    }
    template <int HEADS>
    void scatter_heads(int64_t start, int64_t count, int64_t limit, const S *slopes) const {
        const int64_t heads = HEADS ? HEADS : shape.heads, padded = HEADS ? HEADS : shape.padded;
        for (int64_t i = 0; i < count; ++i) {
            if (i + kPrefetchEdges < limit)
                __builtin_prefetch(edge_gradient + edge_ids[start + i + kPrefetchEdges] * heads, 1, 3);
            S *to = edge_gradient + edge_ids[start + i] * heads;
            std::memcpy(to, slopes + i * padded, size_t(heads) * sizeof(S));
        }
    }
};

// by_row[r] = dst[r] (GAT), lse[r], delta[r], each of all heads: what an edge needs of its row lies together.
template <typename T, typename S>
void make_by_row(int64_t num_rows, const Shape<S> &shape, const S *dst, const S *lse, const T *gradient, const T *y, S *by_row,
                 [[maybe_unused]] int64_t num_threads) {
#pragma omp parallel for schedule(static) num_threads(int(num_threads))
    for (int64_t row = 0; row < num_rows; ++row) {
        S *out = by_row + row * 3 * shape.heads;
        for (int64_t head = 0; head < shape.heads; ++head) {
            const int64_t place = row * shape.heads + head;
            const T *a = gradient + place * shape.dim, *b = y + place * shape.dim;
            VectorOf<S> sum = {};
            for (int64_t v = 0; v < shape.full; ++v) sum += load(a + v * shape.kLanes) * load(b + v * shape.kLanes);
            const int64_t done = shape.full * shape.kLanes;
            if (shape.last) sum += load_part(a + done, shape.last) * load_part(b + done, shape.last);
            out[head] = dst ? dst[place] : S(0);
            out[shape.heads + head] = lse[place];
            out[2 * shape.heads + head] = by_head<Add, S>(sum, 1)[0];
        }
    }
}

template <typename S>
void sum_edges(int64_t heads, const int64_t *indptr, int64_t begin, int64_t end, const S *edge_gradient, S *dst_gradient) {
    for (int64_t row = begin; row < end; ++row)
        for (int64_t h = 0; h < heads; ++h) {
            S sum = 0;
            for (int64_t edge = indptr[row]; edge < indptr[row + 1]; ++edge) sum += edge_gradient[edge * heads + h];
            dst_gradient[row * heads + h] = sum;
        }
}

// GATv2: the gradients by dst and, summed over a range of rows, by the attention vectors.
template <typename T>
struct ByDestination {
    using S = typename Sum<T>::type;
    static constexpr int kLanes = Vector<S>::lanes;
    Shape<S> shape;
    int64_t num_rows;
    const int64_t *indptr;
    const int32_t *indices;
    const T *dst, *src_x, *attention;
    S slope;
    const S *edge_gradient;
    T *dst_gradient;

    void rows(int64_t begin, int64_t end, S *attention_gradient) const {
        const Array<S> all(3 * shape.width);
        S *sum = all, *values = all + shape.width, *total = values + shape.width;
        for (int64_t k = 0; k < shape.width; ++k) total[k] = 0;
        const int64_t stride = shape.heads * shape.dim;
        for (int64_t row = begin; row < end; ++row) {
            for (int64_t k = 0; k < shape.width; ++k) sum[k] = values[k] = 0;
            const int64_t stop = indptr[row + 1];
            for (int64_t start = indptr[row]; start < stop; start += shape.chunk) {
                const int64_t count = stop - start < shape.chunk ? stop - start : shape.chunk;
                const Rows<T> x{src_x, indices + start, stride, shape.dim, indptr[num_rows] - start};
                const S *slopes = edge_gradient + start * shape.heads;
                sum_terms(DestinationTerm<T, false>{x, dst + row * stride, slopes, shape.heads, slope}, shape, count, sum);
                sum_terms(DestinationTerm<T, true>{x, dst + row * stride, slopes, shape.heads, slope}, shape, count, values);
            }
            times_attention(sum);
            write_row<T, S>(shape, sum, nullptr, dst_gradient + row * stride);
            for (int64_t k = 0; k < shape.width; k += kLanes) store(total + k, load(total + k) + load(values + k));
        }
        write_row<S, S>(shape, total, nullptr, attention_gradient);
    }

    void times_attention(S *sum) const {
        const int64_t stride = shape.width / shape.heads;
        for (int64_t h = 0; h < shape.heads; ++h)
            for (int64_t d = 0; d < shape.dim; ++d) sum[h * stride + d] *= widen(attention[h * shape.dim + d]);
    }
};

}  // namespace

GRAPHREC_CPU(gat_backward)(int64_t dtype, int64_t kind, int64_t num_rows, int64_t num_columns, int64_t heads, int64_t dim,
                           const int64_t *indptr, const int32_t *indices, const int64_t *t_indptr, const int32_t *t_indices,
                           const int64_t *edge_ids, const void *dst, const void *src_score, const void *src_x,
                           const void *attention, double slope, double dropout, int64_t seed, const void *y, const void *lse,
                           const void *gradient, void *dst_gradient, void *src_score_gradient, void *src_x_gradient,
                           int64_t num_partials, void *attention_partials, void *delta, void *edge_gradient,
                           int64_t num_threads) {
    if (num_rows < 0 || num_columns < 0 || heads < 1 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    if (kind != GRAPHREC_GAT && kind != GRAPHREC_GATV2) return GRAPHREC_BAD_OPTION;
    if (kind == GRAPHREC_GATV2 && num_partials < 1) return GRAPHREC_BAD_SIZE;
    if (!(dropout >= 0 && dropout < 1)) return GRAPHREC_BAD_OPTION;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Shape<S> shape(heads, dim);
        const T *x = static_cast<const T *>(src_x), *g = static_cast<const T *>(gradient);
        const T *vectors = static_cast<const T *>(attention);
        S *edges = static_cast<S *>(edge_gradient), *by_row = static_cast<S *>(delta);
        make_by_row(num_rows, shape, kind == GRAPHREC_GAT ? static_cast<const S *>(dst) : nullptr,
                    static_cast<const S *>(lse), g, static_cast<const T *>(y), by_row, num_threads);
        const auto by_source = [&](auto pass) {
            row_ranges(t_indptr, num_columns, num_threads, [&](int64_t begin, int64_t end) { pass.rows(begin, end); });
        };
        const auto scores = static_cast<const S *>(src_score);
        const auto score_gradient = static_cast<S *>(src_score_gradient);
        const auto x_gradient = static_cast<T *>(src_x_gradient);
        if (kind == GRAPHREC_GAT) {
            by_source(BySource<T, false>{shape, num_columns, t_indptr, t_indices, edge_ids, dst, scores, x, vectors, S(slope),
                                         float(dropout), seed, by_row, g, score_gradient, x_gradient, edges});
            row_ranges(indptr, num_rows, num_threads, [&](int64_t begin, int64_t end) {
                sum_edges(heads, indptr, begin, end, edges, static_cast<S *>(dst_gradient));
            });
            return GRAPHREC_OK;
        }
        by_source(BySource<T, true>{shape, num_columns, t_indptr, t_indices, edge_ids, dst, scores, x, vectors, S(slope),
                                    float(dropout), seed, by_row, g, score_gradient, x_gradient, edges});
        const ByDestination<T> by_destination{shape, num_rows, indptr, indices, static_cast<const T *>(dst), x, vectors,
                                              S(slope), edges, static_cast<T *>(dst_gradient)};
#pragma omp parallel for schedule(dynamic, 1) num_threads(int(num_threads))
        for (int64_t part = 0; part < num_partials; ++part)
            by_destination.rows(balanced_row(indptr, num_rows, part, num_partials),
                                balanced_row(indptr, num_rows, part + 1, num_partials),
                                static_cast<S *>(attention_partials) + part * heads * dim);
        return GRAPHREC_OK;
    });
}
