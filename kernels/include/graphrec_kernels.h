/* The C interface of graphrec's native kernels: plain pointers and sizes, so that no torch or Python version is baked in.
 *
 * The caller allocates everything and keeps it alive for the call. Matrices are row-major and dense in their last
 * dimension. Every function returns GRAPHREC_OK or a negative code, and writes nothing it was not asked to write.
 * Results do not depend on the number of threads.
 */
#ifndef GRAPHREC_KERNELS_H
#define GRAPHREC_KERNELS_H

#include <stdint.h>

#define GRAPHREC_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

enum graphrec_status { GRAPHREC_OK = 0, GRAPHREC_BAD_DTYPE = -1, GRAPHREC_BAD_SIZE = -2, GRAPHREC_BAD_INDEX = -3 };
enum graphrec_dtype { GRAPHREC_FLOAT32 = 0, GRAPHREC_FLOAT64 = 1 };

/* GRAPHREC_ABI_VERSION of the library, to be compared with the header's by the caller. */
int32_t graphrec_abi_version(void);

/* "avx512", "avx2" or "generic": the variant that this processor runs. */
const char *graphrec_cpu_variant(void);

/* Y[r] = alpha * left[R] * sum over edges (R, c) of right[c] * X[p(c)] + beta * Z[r], with R = rows ? rows[r] : r.
 *
 * p(c) = c, or positions[c] when positions is given; an edge with positions[c] < 0 is skipped. The latter is the
 * transpose of a row-restricted product: X then holds only some rows.
 *
 * indptr    int64 (number of CSR rows + 1)        indices   int32 (edges), each in 0..num_cols-1
 * rows      int64 (num_rows) or NULL               positions int32 (num_cols) or NULL
 * left      (number of CSR rows) or NULL for ones  right     (num_cols) or NULL for ones
 * x         (.., dim)                              z         (num_rows, dim) or NULL; may alias y
 * y         (num_rows, dim)
 */
int32_t graphrec_cpu_spmm(int32_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                          const int64_t *rows, const int32_t *positions, const void *x, const void *left,
                          const void *right, double alpha, const void *z, double beta, void *y, int32_t num_threads);

/* Merge one tile of scores into a running top-k list per row, skipping each row's excluded columns.
 *
 * scores      float32 (num_rows, stride), columns first_column .. first_column + num_columns - 1
 * excluded_indptr   int64 (num_rows + 1) or NULL; excluded_indices int32, ascending within a row, absolute columns
 * values      float32 (num_rows, k), descending; the caller fills it with -inf before the first tile
 * indices     int64 (num_rows, k); the caller fills it with -1 before the first tile
 *
 * Equal scores keep the lower column first, provided that tiles come in ascending order. NaN and -inf never enter.
 */
int32_t graphrec_cpu_topk(int64_t num_rows, int64_t num_columns, int64_t first_column, int64_t stride, const float *scores,
                          const int64_t *excluded_indptr, const int32_t *excluded_indices, int64_t k, float *values,
                          int64_t *indices, int32_t num_threads);

#ifdef __cplusplus
}
#endif
#endif
