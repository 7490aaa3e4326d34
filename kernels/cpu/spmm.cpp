// Sparse-times-dense product over CSR rows with the normalisation, the row restriction and the epilogue fused.
//
// One row at a time: the partial sum stays in registers (up to 8 vectors, so 128 floats with AVX-512), the neighbours'
// rows are prefetched a few edges ahead, and the row is written once.
#include "variants.h"

#include <cstring>

namespace graphrec {
namespace GRAPHREC_VARIANT {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
constexpr int kPrefetchEdges = 12;
constexpr int64_t kCacheLine = 64;

template <typename T>
struct Operands {
    const int64_t *indptr;
    const int32_t *indices;
    const int32_t *positions;
    const T *x, *right;
    int64_t dim;
};

template <typename T>
static inline int64_t position(const Operands<T> &op, int64_t edge) {
    const int32_t column = op.indices[edge];
    return op.positions ? op.positions[column] : column;
}

template <typename T, int WIDTH>
static inline void prefetch(const Operands<T> &op, int64_t edge, int64_t end, int64_t offset) {
    if (edge >= end) return;
    const int64_t row = position(op, edge);
    if (row < 0) return;
    const char *start = reinterpret_cast<const char *>(op.x + row * op.dim + offset);
    for (int64_t byte = 0; byte < int64_t(WIDTH * sizeof(T)); byte += kCacheLine) __builtin_prefetch(start + byte, 0, 3);
}

// Sums VECTORS full vectors of the row's neighbours, starting at column `offset`.
template <typename T, int VECTORS>
static inline void row_block(const Operands<T> &op, int64_t begin, int64_t end, int64_t offset, T scale, const T *z, T beta, T *y) {
    constexpr int kLanes = kVectorBytes / int(sizeof(T));
    typedef T Vector __attribute__((vector_size(kVectorBytes)));
    Vector sum[VECTORS] = {};
    for (int64_t edge = begin; edge < end; ++edge) {
        prefetch<T, VECTORS * kLanes>(op, edge + kPrefetchEdges, end, offset);
        const int64_t row = position(op, edge);
        if (row < 0) continue;
        const T weight = op.right ? op.right[op.indices[edge]] : T(1);
        const T *x = op.x + row * op.dim + offset;
        for (int v = 0; v < VECTORS; ++v) {
            Vector value;
            std::memcpy(&value, x + v * kLanes, kVectorBytes);
            sum[v] += weight * value;
        }
    }
    for (int v = 0; v < VECTORS; ++v) {
        Vector result = scale * sum[v];
        if (z) {
            Vector other;
            std::memcpy(&other, z + offset + v * kLanes, kVectorBytes);
            result += beta * other;
        }
        std::memcpy(y + offset + v * kLanes, &result, kVectorBytes);
    }
}

template <typename T>
static void row_tail(const Operands<T> &op, int64_t begin, int64_t end, int64_t offset, T scale, const T *z, T beta, T *y) {
    constexpr int kLanes = kVectorBytes / int(sizeof(T));
    const int64_t width = op.dim - offset;  // < kLanes
    T sum[kLanes] = {};
    for (int64_t edge = begin; edge < end; ++edge) {
        const int64_t row = position(op, edge);
        if (row < 0) continue;
        const T weight = op.right ? op.right[op.indices[edge]] : T(1);
        const T *x = op.x + row * op.dim + offset;
        for (int64_t d = 0; d < width; ++d) sum[d] += weight * x[d];
    }
    for (int64_t d = 0; d < width; ++d) {
        T result = scale * sum[d];
        if (z) result += beta * z[offset + d];
        y[offset + d] = result;
    }
}

template <typename T>
static void one_row(const Operands<T> &op, int64_t begin, int64_t end, T scale, const T *z, T beta, T *y) {
    constexpr int64_t kLanes = kVectorBytes / int(sizeof(T));
    int64_t offset = 0;
    for (; op.dim - offset >= 8 * kLanes; offset += 8 * kLanes) row_block<T, 8>(op, begin, end, offset, scale, z, beta, y);
    for (; op.dim - offset >= 4 * kLanes; offset += 4 * kLanes) row_block<T, 4>(op, begin, end, offset, scale, z, beta, y);
    for (; op.dim - offset >= 2 * kLanes; offset += 2 * kLanes) row_block<T, 2>(op, begin, end, offset, scale, z, beta, y);
    for (; op.dim - offset >= kLanes; offset += kLanes) row_block<T, 1>(op, begin, end, offset, scale, z, beta, y);
    if (offset < op.dim) row_tail<T>(op, begin, end, offset, scale, z, beta, y);
}

template <typename T>
void spmm(int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices, const int64_t *rows,
          const int32_t *positions, const T *x, const T *left, const T *right, T alpha, const T *z, T beta, T *y,
          [[maybe_unused]] int num_threads) {
    const Operands<T> op{indptr, indices, positions, x, right, dim};
    // Small chunks handed out as threads become free balance the skewed degrees; each row is summed by one thread.
#pragma omp parallel for schedule(dynamic, 64) num_threads(num_threads)
    for (int64_t r = 0; r < num_rows; ++r) {
        const int64_t row = rows ? rows[r] : r;
        const T scale = left ? alpha * left[row] : alpha;
        one_row<T>(op, indptr[row], indptr[row + 1], scale, z ? z + r * dim : nullptr, beta, y + r * dim);
    }
}

template void spmm<float>(int64_t, int64_t, const int64_t *, const int32_t *, const int64_t *, const int32_t *, const float *,
                          const float *, const float *, float, const float *, float, float *, int);
template void spmm<double>(int64_t, int64_t, const int64_t *, const int32_t *, const int64_t *, const int32_t *, const double *,
                           const double *, const double *, double, const double *, double, double *, int);

}  // namespace GRAPHREC_VARIANT
}  // namespace graphrec
