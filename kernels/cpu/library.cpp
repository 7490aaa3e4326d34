// What the library says about itself.
#include "graphrec_kernels.h"

#define GRAPHREC_EXPORT extern "C" __attribute__((visibility("default")))

GRAPHREC_EXPORT int32_t graphrec_abi_version(void) { return GRAPHREC_ABI_VERSION; }

GRAPHREC_EXPORT const char *graphrec_cpu_variant(void) {
#if defined(GRAPHREC_HAS_avx512)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return "avx512";
#endif
#if defined(GRAPHREC_HAS_avx2)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
    return "generic";
}
