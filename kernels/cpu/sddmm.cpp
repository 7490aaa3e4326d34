// Dot products along edges: scores of pairs, and the edge-weight gradient of spmm.
#include "dot.h"

namespace {

constexpr int64_t kPrefetchEdges = 8;
constexpr int64_t kCacheLine = 64;

template <typename T>
inline typename Sum<T>::type winning_dot(const T *a, const T *b, const int64_t *argmax, int64_t edge, int64_t dim) {
    typename Sum<T>::type total = 0;
    for (int64_t d = 0; d < dim; ++d)
        if (argmax[d] == edge) total += widen(a[d]) * widen(b[d]);
    return total;
}

}  // namespace

GRAPHREC_CPU(sddmm)(int64_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                    const int64_t *rows, const void *a, const void *b, const void *left, const void *right, double alpha,
                    const int64_t *argmax, void *out, int64_t num_threads) {
    if (num_rows < 0 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const S *scale = static_cast<const S *>(left), *column_scale = static_cast<const S *>(right);
#pragma omp parallel for schedule(dynamic, 64) num_threads(int(num_threads))
        for (int64_t r = 0; r < num_rows; ++r) {
            const int64_t row = rows ? rows[r] : r;
            const S outer = scale ? S(alpha) * scale[row] : S(alpha);
            const T *x = static_cast<const T *>(a) + r * dim;
            const int64_t end = rows ? indptr[row + 1] : indptr[num_rows];  // the next row's edges follow
            for (int64_t edge = indptr[row]; edge < indptr[row + 1]; ++edge) {
                if (edge + kPrefetchEdges < end) {
                    const T *ahead = static_cast<const T *>(b) + indices[edge + kPrefetchEdges] * dim;
                    for (int64_t byte = 0; byte < int64_t(dim * sizeof(T)); byte += kCacheLine)
                        __builtin_prefetch(reinterpret_cast<const char *>(ahead) + byte, 0, 3);
                }
                const int64_t column = indices[edge];
                const T *other = static_cast<const T *>(b) + column * dim;
                const S product = argmax ? winning_dot(x, other, argmax + r * dim, edge, dim) : dot(x, other, dim);
                static_cast<S *>(out)[edge] = outer * (column_scale ? column_scale[column] : S(1)) * product;
            }
        }
        return GRAPHREC_OK;
    });
}
