// The exported functions: check the arguments that a caller can get wrong, then call the variant this processor runs.
#include "graphrec_kernels.h"
#include "variants.h"

namespace {

enum class Variant { generic, avx2, avx512 };

Variant detect() {
#if defined(GRAPHREC_HAS_avx512)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return Variant::avx512;
#endif
#if defined(GRAPHREC_HAS_avx2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Variant::avx2;
#endif
    return Variant::generic;
}

Variant current() {
    static const Variant variant = detect();
    return variant;
}

}  // namespace

#if defined(GRAPHREC_HAS_avx512) && defined(GRAPHREC_HAS_avx2)
#define GRAPHREC_CALL(call)                                        \
    switch (current()) {                                           \
        case Variant::avx512: graphrec::avx512::call; break;       \
        case Variant::avx2: graphrec::avx2::call; break;           \
        default: graphrec::generic::call;                          \
    }
#else
#define GRAPHREC_CALL(call) graphrec::generic::call
#endif
#define GRAPHREC_EXPORT extern "C" __attribute__((visibility("default")))

GRAPHREC_EXPORT int32_t graphrec_abi_version(void) { return GRAPHREC_ABI_VERSION; }

GRAPHREC_EXPORT const char *graphrec_cpu_variant(void) {
    switch (current()) {
        case Variant::avx512: return "avx512";
        case Variant::avx2: return "avx2";
        default: return "generic";
    }
}

GRAPHREC_EXPORT int32_t graphrec_cpu_spmm(int32_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr,
                                          const int32_t *indices, const int64_t *rows, const int32_t *positions,
                                          const void *x, const void *left, const void *right, double alpha, const void *z,
                                          double beta, void *y, int32_t num_threads) {
    if (num_rows < 0 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    if (dtype == GRAPHREC_FLOAT32) {
        using T = float;
        GRAPHREC_CALL(spmm<T>(num_rows, dim, indptr, indices, rows, positions, static_cast<const T *>(x),
                              static_cast<const T *>(left), static_cast<const T *>(right), T(alpha),
                              static_cast<const T *>(z), T(beta), static_cast<T *>(y), num_threads));
        return GRAPHREC_OK;
    }
    if (dtype == GRAPHREC_FLOAT64) {
        using T = double;
        GRAPHREC_CALL(spmm<T>(num_rows, dim, indptr, indices, rows, positions, static_cast<const T *>(x),
                              static_cast<const T *>(left), static_cast<const T *>(right), alpha,
                              static_cast<const T *>(z), beta, static_cast<T *>(y), num_threads));
        return GRAPHREC_OK;
    }
    return GRAPHREC_BAD_DTYPE;
}

GRAPHREC_EXPORT int32_t graphrec_cpu_topk(int64_t num_rows, int64_t num_columns, int64_t first_column, int64_t stride,
                                          const float *scores, const int64_t *excluded_indptr,
                                          const int32_t *excluded_indices, int64_t k, float *values, int64_t *indices,
                                          int32_t num_threads) {
    if (num_rows < 0 || num_columns < 0 || stride < num_columns || k < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    GRAPHREC_CALL(topk(num_rows, num_columns, first_column, stride, scores, excluded_indptr, excluded_indices, k, values,
                       indices, num_threads));
    return GRAPHREC_OK;
}
