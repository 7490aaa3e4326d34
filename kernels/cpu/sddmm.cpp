// Dot products along edges: scores of pairs, and the edge-weight gradient of spmm.
#include "dot.h"
#include "gather.h"

namespace {

template <typename T>
struct Operands {
    using S = typename Sum<T>::type;
    int64_t num_rows, dim;
    const int64_t *indptr;
    const int32_t *indices;
    const int64_t *rows;
    const T *a, *b;
    const S *left, *right;
    S alpha;
    const int64_t *argmax;
    S *out;

    int64_t row(int64_t r) const { return rows ? rows[r] : r; }
    // Where prefetching ends: past the row's end the next row's edges follow, unless rows are picked.
    int64_t limit(int64_t row) const { return rows ? indptr[row + 1] : indptr[num_rows]; }
    S scale(int64_t row) const { return left ? alpha * left[row] : alpha; }
    S scaled(S outer, int64_t column, S product) const { return outer * (right ? right[column] : S(1)) * product; }
};

// Rows `begin` to `stop` of a, of VECTORS vectors, the last with `last` columns if PARTIAL; a row stays in registers.
template <typename T, int VECTORS, bool PARTIAL>
void dots_of_rows(const Operands<T> &op, int64_t begin, int64_t stop, int64_t last) {
    using S = typename Sum<T>::type;
    using V = typename Vector<S>::type;
    constexpr int kLanes = Vector<S>::lanes;
    constexpr int kFull = PARTIAL ? VECTORS - 1 : VECTORS;
    for (int64_t r = begin; r < stop; ++r) {
        const int64_t row = op.row(r), limit = op.limit(row), end = op.indptr[row + 1];
        const S outer = op.scale(row);
        const T *x = op.a + r * op.dim;
        V own[VECTORS];
        for (int v = 0; v < kFull; ++v) own[v] = load(x + v * kLanes);
        if (PARTIAL) own[kFull] = load_part(x + kFull * kLanes, last);
        each_edge<T, VECTORS>(op.indptr[row], end, limit, [&](int64_t edge, int64_t ahead) {
            prefetch_row<T, VECTORS>(op.b + op.indices[ahead] * op.dim);
            const int64_t column = op.indices[edge];
            const T *other = op.b + column * op.dim;
            V sum[2] = {};
            for (int v = 0; v < kFull; ++v) sum[v % 2] += own[v] * load(other + v * kLanes);
            if (PARTIAL) sum[0] += own[kFull] * load_part(other + kFull * kLanes, last);
            op.out[edge] = op.scaled(outer, column, add_lanes(sum[0] + sum[1]));
        });
    }
}

// Rows of any width.
template <typename T>
void dots_of_wide_rows(const Operands<T> &op, int64_t begin, int64_t stop, int64_t) {
    for (int64_t r = begin; r < stop; ++r) {
        const int64_t row = op.row(r), limit = op.limit(row);
        const auto outer = op.scale(row);
        each_edge<T, kMaxVectors>(op.indptr[row], op.indptr[row + 1], limit, [&](int64_t edge, int64_t ahead) {
            prefetch_row<T, kMaxVectors>(op.b + op.indices[ahead] * op.dim);
            const int64_t column = op.indices[edge];
            op.out[edge] = op.scaled(outer, column, dot(op.a + r * op.dim, op.b + column * op.dim, op.dim));
        });
    }
}

// Only the columns whose maximum an edge is.
template <typename T>
void dots_of_winners(const Operands<T> &op, int64_t begin, int64_t stop, int64_t) {
    for (int64_t r = begin; r < stop; ++r) {
        const int64_t row = op.row(r);
        const auto outer = op.scale(row);
        const int64_t *winner = op.argmax + r * op.dim;
        for (int64_t edge = op.indptr[row]; edge < op.indptr[row + 1]; ++edge) {
            const int64_t column = op.indices[edge];
            const T *a = op.a + r * op.dim, *b = op.b + column * op.dim;
            typename Sum<T>::type total = 0;
            for (int64_t d = 0; d < op.dim; ++d)
                if (winner[d] == edge) total += widen(a[d]) * widen(b[d]);
            op.out[edge] = op.scaled(outer, column, total);
        }
    }
}

template <typename T>
using Dots = void (*)(const Operands<T> &, int64_t, int64_t, int64_t);

// The function for rows of 1 .. kMaxVectors vectors.
template <typename T, bool PARTIAL, int VECTORS = 1>
Dots<T> dots_of(int64_t vectors) {
    if (vectors == VECTORS) return dots_of_rows<T, VECTORS, PARTIAL>;
    if constexpr (VECTORS < kMaxVectors) return dots_of<T, PARTIAL, VECTORS + 1>(vectors);
    return dots_of_wide_rows<T>;
}

}  // namespace

GRAPHREC_CPU(sddmm)(int64_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                    const int64_t *rows, const void *a, const void *b, const void *left, const void *right, double alpha,
                    const int64_t *argmax, void *out, int64_t num_threads) {
    if (num_rows < 0 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        constexpr int64_t kLanes = Vector<S>::lanes, kChunk = 64;
        const int64_t last = dim % kLanes;
        const Operands<T> op{num_rows, dim, indptr, indices, rows, static_cast<const T *>(a), static_cast<const T *>(b),
                             static_cast<const S *>(left), static_cast<const S *>(right), S(alpha), argmax,
                             static_cast<S *>(out)};
        const Dots<T> each = argmax ? dots_of_winners<T>
                             : last ? dots_of<T, true>(dim / kLanes + 1)
                                    : dots_of<T, false>(dim / kLanes);
#pragma omp parallel for schedule(dynamic, 1) num_threads(int(num_threads))
        for (int64_t begin = 0; begin < num_rows; begin += kChunk)
            each(op, begin, begin + kChunk < num_rows ? begin + kChunk : num_rows, last);
        return GRAPHREC_OK;
    });
}
