// Declares every kernel once per instruction set; GRAPHREC_VARIANT names the one that a file is being compiled for.
#pragma once

#include <cstdint>

#define GRAPHREC_DECLARE_KERNELS(variant)                                                                             \
    namespace variant {                                                                                               \
    template <typename T>                                                                                             \
    void spmm(int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices, const int64_t *rows,      \
              const int32_t *positions, const T *x, const T *left, const T *right, T alpha, const T *z, T beta, T *y, \
              int num_threads);                                                                                       \
    void topk(int64_t num_rows, int64_t num_columns, int64_t first_column, int64_t stride, const float *scores,       \
              const int64_t *excluded_indptr, const int32_t *excluded_indices, int64_t k, float *values,              \
              int64_t *indices, int num_threads);                                                                     \
    }

namespace graphrec {
GRAPHREC_DECLARE_KERNELS(generic)
GRAPHREC_DECLARE_KERNELS(avx2)
GRAPHREC_DECLARE_KERNELS(avx512)
}  // namespace graphrec
