/* The C interface of graphrec's native kernels: plain pointers and sizes, so that no torch or Python version is baked in.
 *
 * Every operator of `graphrec_operators.h` exists
 *   - in libgraphrec_cpu.so once per instruction set, as graphrec_cpu_<operator>_<variant>, with a last argument
 *     `int64_t num_threads`; graphrec_cpu_variant() names the variant to call on this processor;
 *   - in libgraphrec_cuda.so as graphrec_cuda_<operator>, with a last argument `void *stream` (a cudaStream_t). The call only
 *     enqueues work. The same source built for the host by kernels/emulation exports the same names and runs on host memory.
 * An operator that one of the two has no use for is missing there; its comment says so.
 *
 * Conventions: every integer is int64_t, every real is double, everything else is a pointer or NULL. The caller allocates
 * everything and keeps it alive for the call. Matrices are row-major and dense unless a stride is given. An operator returns
 * GRAPHREC_OK or a negative code, and writes nothing but its outputs. Results do not depend on the number of threads.
 */
#ifndef GRAPHREC_KERNELS_H
#define GRAPHREC_KERNELS_H

#include <stdint.h>

#define GRAPHREC_ABI_VERSION 4

#ifdef __cplusplus
extern "C" {
#endif

enum graphrec_status {
    GRAPHREC_OK = 0,
    GRAPHREC_BAD_DTYPE = -1,
    GRAPHREC_BAD_SIZE = -2,
    GRAPHREC_BAD_OPTION = -3,
    GRAPHREC_DEVICE_ERROR = -4 /* CUDA refused the launch */
};
enum graphrec_dtype { GRAPHREC_FLOAT32 = 0, GRAPHREC_FLOAT64 = 1, GRAPHREC_BFLOAT16 = 2 };
enum graphrec_reduce { GRAPHREC_SUM = 0, GRAPHREC_MAX = 1 };
enum graphrec_attention { GRAPHREC_GAT = 1, GRAPHREC_GATV2 = 2 };

/* GRAPHREC_ABI_VERSION of the library, to be compared with the header's by the caller; in both libraries. */
int32_t graphrec_abi_version(void);

/* "avx512", "avx2" or "generic": the best variant that this processor runs. libgraphrec_cpu only. */
const char *graphrec_cpu_variant(void);

#define GRAPHREC_OPERATOR(name, ...)                                  \
    int32_t graphrec_cpu_##name##_avx512(__VA_ARGS__, int64_t num_threads);  \
    int32_t graphrec_cpu_##name##_avx2(__VA_ARGS__, int64_t num_threads);    \
    int32_t graphrec_cpu_##name##_generic(__VA_ARGS__, int64_t num_threads); \
    int32_t graphrec_cuda_##name(__VA_ARGS__, void *stream);
#include "graphrec_operators.h"
#undef GRAPHREC_OPERATOR

#ifdef __cplusplus
}
#endif
#endif
