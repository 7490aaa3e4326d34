// Graph attention forward: GAT and GATv2 with an online softmax over chunks of a row's edges.
//
// A chunk's scores are made first, then its weights, then its part of the row, so exponentials fill whole vectors over
// edges and heads. When a later chunk raises a head's maximum, what is summed so far is scaled down.
#include "attention.h"

namespace {

// weight[i, h] * x
template <typename T>
struct Message {
    using S = typename Sum<T>::type;
    static constexpr int kRegisters = 1;
    Rows<T> x;
    const S *weight;
    int64_t padded;
    bool fetch;

    void prefetch(int64_t i) const { if (fetch) x.prefetch(i); }
    template <bool PARTIAL>
    VectorOf<S> of(int64_t i, int64_t head, int64_t column, int64_t last) const {
        return weight[i * padded + head] * read<PARTIAL>(x.at(i, head) + column, last);
    }
};

// attention * leaky(dst + x)
template <typename T>
struct DynamicScore {
    using S = typename Sum<T>::type;
    Rows<T> x;
    const T *dst, *attention;
    S slope;

    void prefetch(int64_t i) const { x.prefetch(i); }
    template <bool PARTIAL>
    VectorOf<S> of(int64_t i, int64_t head, int64_t column, int64_t last) const {
        const int64_t place = head * x.dim + column;
        const VectorOf<S> sum = read<PARTIAL>(dst + place, last) + read<PARTIAL>(x.at(i, head) + column, last);
        return read<PARTIAL>(attention + place, last) * leaky<S>(sum, slope);
    }
};

template <typename T>
struct Forward {
    using S = typename Sum<T>::type;
    static constexpr int kLanes = Vector<S>::lanes;
    bool dynamic;
    Shape<S> shape;
    int64_t num_rows;
    const int64_t *indptr;
    const int32_t *indices;
    const void *dst;
    const S *src_score;
    const T *src_x, *attention;
    S slope;
    float dropout;
    int64_t seed;
    T *y;
    S *lse;

    void rows(int64_t begin, int64_t end) const {
        const Array<S> scores(shape.buffer()), keep(shape.buffer()), sum(shape.width), patterns(4 * shape.period);
        for (int64_t row = begin; row < end; ++row) one_row(row, scores, keep, sum, patterns);
    }

    void one_row(int64_t row, S *scores, S *keep, S *sum, S *patterns) const {
        S *own = patterns, *most = own + shape.period, *total = most + shape.period, *change = total + shape.period;
        const int64_t end = indptr[row + 1], stride = shape.heads * shape.dim;
        for (int64_t k = 0; k < shape.width; ++k) sum[k] = 0;
        if (!dynamic) make_pattern(static_cast<const S *>(dst) + row * shape.heads, shape, own);
        for (int64_t start = indptr[row]; start < end; start += shape.chunk) {
            const int64_t count = end - start < shape.chunk ? end - start : shape.chunk;
            const Rows<T> x{src_x, indices + start, stride, shape.dim, indptr[num_rows] - start};
            make_scores(x, row, count, own, scores);
            const bool first = start == indptr[row];
            make_weights(count, first, scores, most, total, change);
            if (!first) rescale(change, sum);
            if (dropout > 0) {
                draw_keep(shape, start, nullptr, count, seed, dropout, keep);
                for (int64_t k = 0; k < shape.slots(count); k += kLanes) store(scores + k, load(scores + k) * load(keep + k));
            }
            sum_terms(Message<T>{x, scores, shape.padded, !dynamic}, shape, count, sum);
        }
        const bool empty = indptr[row] == end;
        for (int64_t h = 0; h < shape.heads; ++h) {
            lse[row * shape.heads + h] = empty ? -kInfinity<S> : most[h] + logarithm(total[h]);
            change[h] = empty ? S(0) : S(1) / total[h];
        }
        write_row(shape, sum, change, y + row * stride);
    }

    // scores (count, padded), and -inf in the slots after the last edge.
    void make_scores(const Rows<T> &x, int64_t row, int64_t count, const S *own, S *scores) const {
        if (dynamic) {
            const T *row_x = static_cast<const T *>(dst) + row * x.stride;
            dots(DynamicScore<T>{x, row_x, attention, slope}, shape, count, scores);
            for (int64_t slot = count * shape.padded; slot < shape.slots(count); ++slot) scores[slot] = -kInfinity<S>;
            return;
        }
        gather(src_score, shape.heads, x.index, count, shape, -kInfinity<S>, scores);
        for (int64_t slot = 0; slot < shape.slots(count); slot += kLanes) {
            const VectorOf<S> sum = load(scores + slot) + load(own + (slot & (shape.period - 1)));
            // A slope of 0 or below must not turn the slots after the last edge into NaN or +inf.
            store(scores + slot, sum == -kInfinity<S> ? sum : leaky<S>(sum, slope));
        }
    }

    // Turns scores into exp(score - maximum) and brings each head's maximum and total up to date; `change` is what the
    // sums so far must be multiplied with.
    void make_weights(int64_t count, bool first, S *scores, S *most, S *total, S *change) const {
        const int64_t slots = shape.slots(count);
        for (int64_t part = 0; part < shape.period; part += kLanes) {
            VectorOf<S> largest = load(scores + part);
            for (int64_t k = part + shape.period; k < slots; k += shape.period)
                largest = Largest::of(load(scores + k), largest);
            largest = by_head<Largest, S>(largest, shape.padded);
            VectorOf<S> shrink = {}, weights = {};
            if (!first) largest = Largest::of(load(most + part), largest);
            // Where all scores are -inf so far, exponents count from 0 and all weights are 0.
            const VectorOf<S> base = largest == -kInfinity<S> ? VectorOf<S>{} : largest;
            if (!first) shrink = exponential(load(most + part) - base);
            for (int64_t k = part; k < slots; k += shape.period) {
                const VectorOf<S> weight = exponential(load(scores + k) - base);
                weights += weight;
                store(scores + k, weight);
            }
            weights = by_head<Add, S>(weights, shape.padded);
            store(total + part, first ? weights : load(total + part) * shrink + weights);
            store(most + part, largest);
            store(change + part, shrink);
        }
    }

    void rescale(const S *change, S *sum) const {
        const int64_t stride = shape.width / shape.heads;
        for (int64_t h = 0; h < shape.heads; ++h)
            for (int64_t k = 0; k < stride; k += kLanes)
                store(sum + h * stride + k, change[h] * load(sum + h * stride + k));
    }
};

}  // namespace

GRAPHREC_CPU(gat)(int64_t dtype, int64_t kind, int64_t num_rows, int64_t heads, int64_t dim, const int64_t *indptr,
                  const int32_t *indices, const void *dst, const void *src_score, const void *src_x, const void *attention,
                  double slope, double dropout, int64_t seed, void *y, void *lse, int64_t num_threads) {
    if (num_rows < 0 || heads < 1 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    if (kind != GRAPHREC_GAT && kind != GRAPHREC_GATV2) return GRAPHREC_BAD_OPTION;
    if (!(dropout >= 0 && dropout < 1)) return GRAPHREC_BAD_OPTION;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Forward<T> forward{kind == GRAPHREC_GATV2, Shape<S>(heads, dim), num_rows, indptr, indices, dst,
                                 static_cast<const S *>(src_score), static_cast<const T *>(src_x),
                                 static_cast<const T *>(attention), S(slope), float(dropout), seed, static_cast<T *>(y),
                                 static_cast<S *>(lse)};
        row_ranges(indptr, num_rows, num_threads, [&](int64_t begin, int64_t end) { forward.rows(begin, end); });
        return GRAPHREC_OK;
    });
}
