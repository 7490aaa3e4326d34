// Mostly empty signals pushed over the edges of their non-zero entries: histories to the users and items that they reach.
#include "kernel.h"

namespace {

constexpr int64_t kScanned = 16;  // entries looked at together; most are all zero

template <typename T>
inline bool any(const T *x) {
    bool found = false;
    for (int64_t i = 0; i < kScanned; ++i) found |= x[i] != T(0);  // NaN is not zero
    return found;
}

template <typename T>
struct Edges {
    const int64_t *indptr;
    const int32_t *indices;
    const T *left;

    inline void add(int64_t row, T value, T *y) const {
        if (left) value *= left[row];
        for (int64_t edge = indptr[row]; edge < indptr[row + 1]; ++edge) y[indices[edge]] += value;
    }
};

}  // namespace

GRAPHREC_CPU(push)(int64_t dtype, int64_t batch, int64_t num_rows, int64_t num_columns, const int64_t *indptr,
                   const int32_t *indices, const void *x, const void *left, const void *right, double alpha, void *y,
                   int64_t num_threads) {
    if (batch < 0 || num_rows < 0 || num_columns < 0 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    if (dtype != GRAPHREC_FLOAT32 && dtype != GRAPHREC_FLOAT64) return GRAPHREC_BAD_DTYPE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        if constexpr (sizeof(T) >= sizeof(float)) {
            const Edges<T> edges{indptr, indices, static_cast<const T *>(left)};
            const T *scale = static_cast<const T *>(right);
#pragma omp parallel for schedule(dynamic, 1) num_threads(int(num_threads))
            for (int64_t b = 0; b < batch; ++b) {
                const T *signal = static_cast<const T *>(x) + b * num_rows;
                T *out = static_cast<T *>(y) + b * num_columns;
                std::memset(out, 0, sizeof(T) * size_t(num_columns));
                for (int64_t row = 0; row < num_rows; row += kScanned) {
                    const int64_t end = row + kScanned <= num_rows ? row + kScanned : num_rows;
                    if (end == row + kScanned && !any(signal + row)) continue;
                    for (int64_t i = row; i < end; ++i)
                        if (signal[i] != T(0)) edges.add(i, signal[i], out);
                }
                if (scale)
                    for (int64_t c = 0; c < num_columns; ++c) out[c] *= T(alpha) * scale[c];
                else
                    for (int64_t c = 0; c < num_columns; ++c) out[c] *= T(alpha);
            }
            return GRAPHREC_OK;
        }
        return GRAPHREC_BAD_DTYPE;
    });
}
