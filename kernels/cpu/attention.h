// What attention forward and backward share: vector exponentials, sums across lanes, passes over a chunk of a row's edges.
//
// Scores of a chunk lie in a buffer (edges, padded), padded being the heads rounded up to a power of two, so that a vector
// holds a whole number of edges or a whole part of one. A "pattern" is a value per head repeated over such vectors.
#pragma once

#include "graphrec_random.h"
#include "kernel.h"

namespace {

constexpr int kPrefetchEdges = 12;
constexpr int64_t kPrefetchRows = 3;
constexpr int64_t kCacheLine = 64;
constexpr int64_t kParts = 32;          // ranges of rows per thread
constexpr int64_t kChunkScores = 1024;  // scores in a chunk: with the rows of x they stand for, about a level-2 cache

template <typename S>
using VectorOf = typename Vector<S>::type;

template <typename S>
constexpr S kInfinity = S(__builtin_inf());

inline VectorOf<double> exponential(VectorOf<double> x) {
    for (int lane = 0; lane < Vector<double>::lanes; ++lane) x[lane] = __builtin_exp(x[lane]);
    return x;
}

// exp within 2e-7 of its value for x up to 88, and 0 where that is below the smallest normal number. The polynomial is that
// of Cephes' expf (S. Moshier 1992) for |r| <= log(2) / 2, x = n log(2) + r.
inline VectorOf<float> exponential(VectorOf<float> x) {
    typedef int32_t Words __attribute__((vector_size(kVectorBytes)));
    constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, left in the lowest bits
    const VectorOf<float> shifted = x * 1.44269504f + kShift;
    const VectorOf<float> n = shifted - kShift;
    const VectorOf<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    VectorOf<float> y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    const Words power = ((Words)shifted - (0x4B400000 - 127)) << 23;
    return x < -87.33f ? VectorOf<float>{} : y * (VectorOf<float>)power;
}

inline float logarithm(float x) { return __builtin_logf(x); }
inline double logarithm(double x) { return __builtin_log(x); }

template <typename S>
struct Mask;
template <>
struct Mask<float> {
    typedef int32_t type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Mask<double> {
    typedef int64_t type __attribute__((vector_size(kVectorBytes)));
};

// Lane l of the result is lane l ^ STEP of x.
template <int STEP, typename S>
inline VectorOf<S> exchange(VectorOf<S> x) {
    typename Mask<S>::type mask = {};
    for (int lane = 0; lane < Vector<S>::lanes; ++lane) mask[lane] = lane ^ STEP;
    return __builtin_shuffle(x, mask);
}

// Lane l of the result is the sum of all lanes of t[l]; t is overwritten. At each step two vectors become one that holds the
// first's sums over pairs of lanes where the bit STEP of the lane is clear, the second's where it is set.
template <typename S, int STEP = Vector<S>::lanes / 2>
__attribute__((always_inline)) inline VectorOf<S> lane_sums(VectorOf<S> *t) {
    typename Mask<S>::type straight = {}, crossed = {};
    for (int lane = 0; lane < Vector<S>::lanes; ++lane) {
        const int other = lane & STEP ? Vector<S>::lanes : 0;
        straight[lane] = other + lane;
        crossed[lane] = other + (lane ^ STEP);
    }
#pragma GCC unroll 16
    for (int k = 0; k < STEP; ++k)
        t[k] = __builtin_shuffle(t[k], t[k + STEP], straight) + __builtin_shuffle(t[k], t[k + STEP], crossed);
    if constexpr (STEP > 1) return lane_sums<S, STEP / 2>(t);
    return t[0];
}

struct Add {
    template <typename V>
    static V of(V a, V b) { return a + b; }
};
struct Largest {
    template <typename V>
    static V of(V a, V b) { return a > b ? a : b; }
};

// Combines the lanes that stand for the same head; every such lane then holds the result.
template <typename Combine, typename S, int STEP = Vector<S>::lanes / 2>
inline VectorOf<S> by_head(VectorOf<S> x, int64_t padded) {
    if (padded <= STEP) {
        x = Combine::of(x, exchange<STEP, S>(x));
        if constexpr (STEP > 1) return by_head<Combine, S, STEP / 2>(x, padded);
    }
    return x;
}

template <typename S>
inline VectorOf<S> leaky(VectorOf<S> x, S slope) {
    return x > S(0) ? x : slope * x;
}

template <typename S>
inline VectorOf<S> leaky_slope(VectorOf<S> x, S slope) {
    const VectorOf<S> zero = {};
    return x > S(0) ? zero + S(1) : zero + slope;
}

// Sizes that follow from heads and dim.
template <typename S>
struct Shape {
    static constexpr int kLanes = Vector<S>::lanes;
    int64_t heads, dim, padded, period, chunk, full, last, width;

    Shape(int64_t num_heads, int64_t head_dim) : heads(num_heads), dim(head_dim), padded(1) {
        while (padded < heads) padded *= 2;
        period = padded > kLanes ? padded : kLanes;  // elements of a pattern
        chunk = padded < kChunkScores ? kChunkScores / padded : 1;  // edges
        full = dim / kLanes;  // whole vectors of a head, and what is left of one
        last = dim % kLanes;
        width = heads * (full + (last > 0)) * kLanes;  // elements of a row of sums, each head in whole vectors
    }
    int64_t slots(int64_t edges) const { return (edges * padded + kLanes - 1) / kLanes * kLanes; }
    int64_t buffer() const { return chunk * padded > period ? chunk * padded : period; }
};

// A work array, freed at the end of its scope.
template <typename S>
struct Array {
    S *data;
    explicit Array(int64_t size) : data(new S[size]) {}
    Array(const Array &) = delete;
    ~Array() { delete[] data; }
    operator S *() const { return data; }
};

template <typename S>
inline void make_pattern(const S *values, const Shape<S> &shape, S *pattern) {
    for (int64_t slot = 0; slot < shape.period; ++slot) {
        const int64_t head = slot & (shape.padded - 1);
        pattern[slot] = head < shape.heads ? values[head] : S(0);
    }
}

// out[i, :] = the `heads` entries at table + index[i] * stride, and `rest` in the slots after the last edge.
template <int HEADS, typename S>
inline void gather_heads(const S *table, int64_t stride, const int32_t *index, int64_t count, const Shape<S> &shape, S rest,
                         S *out) {
    const int64_t heads = HEADS ? HEADS : shape.heads, padded = HEADS ? HEADS : shape.padded;
    for (int64_t i = 0; i < count; ++i) {
        std::memcpy(out + i * padded, table + index[i] * stride, size_t(heads) * sizeof(S));
        for (int64_t h = heads; h < padded; ++h) out[i * padded + h] = 0;
    }
    for (int64_t slot = count * padded; slot < shape.slots(count); ++slot) out[slot] = rest;
}

template <typename S>
inline void gather(const S *table, int64_t stride, const int32_t *index, int64_t count, const Shape<S> &shape, S rest, S *out) {
    switch (shape.heads) {
        case 1: return gather_heads<1>(table, stride, index, count, shape, rest, out);
        case 2: return gather_heads<2>(table, stride, index, count, shape, rest, out);
        case 4: return gather_heads<4>(table, stride, index, count, shape, rest, out);
        case 8: return gather_heads<8>(table, stride, index, count, shape, rest, out);
        default: return gather_heads<0>(table, stride, index, count, shape, rest, out);
    }
}

// out[i, h] = what dropout multiplies the edge's weight with. Four consecutive counters share one draw.
template <typename S>
inline void draw_keep(const Shape<S> &shape, int64_t first, const int64_t *edge_ids, int64_t count, int64_t seed,
                      float dropout, S *out) {
    const float kept = 1.0f / (1.0f - dropout);
    for (int64_t i = 0; i < count; ++i) {
        uint64_t counter = uint64_t(edge_ids ? edge_ids[i] : first + i) * uint64_t(shape.heads);
        graphrec_random draw = graphrec_philox(uint64_t(seed), counter >> 2, 0);
        for (int64_t h = 0; h < shape.heads; ++h, ++counter) {
            if (h && (counter & 3) == 0) draw = graphrec_philox(uint64_t(seed), counter >> 2, 0);
            out[i * shape.padded + h] = graphrec_unit(draw.word[counter & 3]) < dropout ? 0.0f : kept;
        }
        for (int64_t h = shape.heads; h < shape.padded; ++h) out[i * shape.padded + h] = 0;
    }
    for (int64_t slot = count * shape.padded; slot < shape.slots(count); ++slot) out[slot] = 0;
}

inline void prefetch_row(const void *row, int64_t bytes) {
    for (int64_t byte = 0; byte < bytes; byte += kCacheLine) __builtin_prefetch(static_cast<const char *>(row) + byte);
}

// Rows of a table (.., heads, dim) at the edges of a chunk.
template <typename T>
struct Rows {
    const T *table;
    const int32_t *index;
    int64_t stride, dim;
    int64_t limit;  // edges from the chunk's first to the last of all rows: the next row's are prefetched too

    const T *at(int64_t i, int64_t head) const { return table + index[i] * stride + head * dim; }
    void prefetch(int64_t i) const {
        if (i + kPrefetchEdges < limit) prefetch_row(at(i + kPrefetchEdges, 0), stride * int64_t(sizeof(T)));
    }
};

// `count` elements, or a whole vector.
template <bool PARTIAL, typename T>
inline VectorOf<typename Sum<T>::type> read(const T *from, int64_t count) {
    if constexpr (PARTIAL) return load_part(from, count);
    return load(from);
}

// sum[h, :] += the terms of all edges of a chunk, for a block of HEADS heads and WIDTH vectors of each.
template <int HEADS, int WIDTH, bool PARTIAL, typename S, typename Term>
inline void sum_block(const Term &term, const Shape<S> &shape, int64_t count, int64_t head, int64_t vector, S *sum) {
    constexpr int kLanes = Vector<S>::lanes;
    VectorOf<S> total[HEADS * WIDTH];
    const int64_t stride = shape.width / shape.heads;
    S *place = sum + head * stride + vector * kLanes;
    for (int h = 0; h < HEADS; ++h)
        for (int v = 0; v < WIDTH; ++v) total[h * WIDTH + v] = load(place + h * stride + v * kLanes);
    const bool first = head == 0 && vector == 0;
    for (int64_t i = 0; i < count; ++i) {
        if (first) term.prefetch(i);
        for (int h = 0; h < HEADS; ++h)
            for (int v = 0; v < WIDTH; ++v)
                total[h * WIDTH + v] += term.template of<PARTIAL>(i, head + h, (vector + v) * kLanes, shape.last);
    }
    for (int h = 0; h < HEADS; ++h)
        for (int v = 0; v < WIDTH; ++v) store(place + h * stride + v * kLanes, total[h * WIDTH + v]);
}

// The same for WIDTH vectors of every head, as many heads at once as there are registers for.
template <int WIDTH, bool PARTIAL, typename S, typename Term>
inline void sum_heads(const Term &term, const Shape<S> &shape, int64_t count, int64_t vector, S *sum) {
    constexpr int kMost = kMaxVectors / Term::kRegisters;
    int64_t head = 0;
    if constexpr (8 * WIDTH <= kMost)
        for (; head + 8 <= shape.heads; head += 8) sum_block<8, WIDTH, PARTIAL>(term, shape, count, head, vector, sum);
    if constexpr (4 * WIDTH <= kMost)
        for (; head + 4 <= shape.heads; head += 4) sum_block<4, WIDTH, PARTIAL>(term, shape, count, head, vector, sum);
    if constexpr (2 * WIDTH <= kMost)
        for (; head + 2 <= shape.heads; head += 2) sum_block<2, WIDTH, PARTIAL>(term, shape, count, head, vector, sum);
    for (; head < shape.heads; ++head) sum_block<1, WIDTH, PARTIAL>(term, shape, count, head, vector, sum);
}

// sum (heads, whole vectors) += the terms of all edges of a chunk.
template <typename S, typename Term>
inline void sum_terms(const Term &term, const Shape<S> &shape, int64_t count, S *sum) {
    int64_t vector = 0;
    for (; vector + 4 <= shape.full; vector += 4) sum_heads<4, false>(term, shape, count, vector, sum);
    for (; vector + 2 <= shape.full; vector += 2) sum_heads<2, false>(term, shape, count, vector, sum);
    for (; vector < shape.full; ++vector) sum_heads<1, false>(term, shape, count, vector, sum);
    if (shape.last) sum_heads<1, true>(term, shape, count, vector, sum);
}

// out[i, h] = sum over f of dot(i, h, f) for the edges of a chunk, any heads and dim.
template <typename S, typename Dot>
void dots_of_any(const Dot &dot, const Shape<S> &shape, int64_t count, S *out) {
    constexpr int kLanes = Vector<S>::lanes;
    for (int64_t slot = 0; slot < count * shape.padded; slot += kLanes) {
        VectorOf<S> part[kLanes] = {};
        for (int lane = 0; lane < kLanes; ++lane) {
            const int64_t i = (slot + lane) / shape.padded, head = (slot + lane) & (shape.padded - 1);
            if (i >= count || head >= shape.heads) continue;
            if (head == 0) dot.prefetch(i);
            for (int64_t v = 0; v < shape.full; ++v) part[lane] += dot.template of<false>(i, head, v * kLanes, 0);
            if (shape.last) part[lane] += dot.template of<true>(i, head, shape.full * kLanes, shape.last);
        }
        store(out + slot, lane_sums<S>(part));
    }
}

// The same for HEADS heads of FULL whole vectors, unrolled.
template <int HEADS, int FULL, typename S, typename Dot>
inline void dots_of(const Dot &dot, int64_t count, S *out) {
    constexpr int kLanes = Vector<S>::lanes, kEdges = kLanes / HEADS;
    for (int64_t start = 0; start < count; start += kEdges) {
        VectorOf<S> part[kLanes];
#pragma GCC unroll 16
        for (int k = 0; k < kEdges; ++k) {
            const int64_t i = start + k < count ? start + k : count - 1;  // what is after the last edge is not used
            dot.prefetch(i);
#pragma GCC unroll 16
            for (int h = 0; h < HEADS; ++h) {
                part[k * HEADS + h] = dot.template of<false>(i, h, 0, 0);
#pragma GCC unroll 4
                for (int v = 1; v < FULL; ++v) part[k * HEADS + h] += dot.template of<false>(i, h, v * kLanes, 0);
            }
        }
        store(out + start * HEADS, lane_sums<S>(part));
    }
}

template <typename S, typename Dot>
inline void dots(const Dot &dot, const Shape<S> &shape, int64_t count, S *out) {
    constexpr int kLanes = Vector<S>::lanes;
    const int64_t sizes = shape.last || shape.heads != shape.padded ? 0 : shape.heads * 16 + shape.full;
    if constexpr (kLanes >= 4) {
        if (sizes == 4 * 16 + 1) return dots_of<4, 1>(dot, count, out);
        if (sizes == 4 * 16 + 2) return dots_of<4, 2>(dot, count, out);
        if (sizes == 4 * 16 + 4) return dots_of<4, 4>(dot, count, out);
    }
    if constexpr (kLanes >= 8) {
        if (sizes == 8 * 16 + 1) return dots_of<8, 1>(dot, count, out);
        if (sizes == 8 * 16 + 2) return dots_of<8, 2>(dot, count, out);
    }
    if (sizes == 1 * 16 + 4) return dots_of<1, 4>(dot, count, out);
    dots_of_any(dot, shape, count, out);
}

// out (heads, dim) = the sums times a factor per head.
template <typename T, typename S>
inline void write_row(const Shape<S> &shape, const S *sum, const S *factor, T *out) {
    constexpr int kLanes = Vector<S>::lanes;
    for (int64_t head = 0; head < shape.heads; ++head, sum += shape.width / shape.heads, out += shape.dim) {
        const S scale = factor ? factor[head] : S(1);
        for (int64_t v = 0; v < shape.full; ++v) store(out + v * kLanes, scale * load(sum + v * kLanes));
        const int64_t done = shape.full * kLanes;
        if (shape.last) store_part(out + done, scale * load(sum + done), shape.last);
    }
}

// Calls run(begin, end) for ranges of rows with equal numbers of edges, handed out as threads become free.
template <typename Run>
void row_ranges(const int64_t *indptr, int64_t num_rows, [[maybe_unused]] int64_t num_threads, const Run &run) {
    const int64_t parts = num_threads == 1 ? 1 : kParts * num_threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(int(num_threads))
    for (int64_t part = 0; part < parts; ++part)
        run(balanced_row(indptr, num_rows, part, parts), balanced_row(indptr, num_rows, part + 1, parts));
}

}  // namespace
