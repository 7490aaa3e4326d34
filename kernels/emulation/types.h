// CUDA's vector types, bfloat16 and the few host functions that our launches use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#define GRAPHREC_VECTOR_TYPES(name, scalar)                                                        \
    struct name##1 { scalar x; };                                                                  \
    struct alignas(2 * sizeof(scalar)) name##2 { scalar x, y; };                                   \
    struct name##3 { scalar x, y, z; };                                                            \
    struct alignas(sizeof(scalar) < 8 ? 4 * sizeof(scalar) : 16) name##4 { scalar x, y, z, w; };   \
    inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }                           \
    inline name##3 make_##name##3(scalar x, scalar y, scalar z) { return {x, y, z}; }              \
    inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }
GRAPHREC_VECTOR_TYPES(float, float)
GRAPHREC_VECTOR_TYPES(double, double)
GRAPHREC_VECTOR_TYPES(int, int)
GRAPHREC_VECTOR_TYPES(uint, unsigned)
GRAPHREC_VECTOR_TYPES(short, short)
GRAPHREC_VECTOR_TYPES(ushort, unsigned short)
GRAPHREC_VECTOR_TYPES(uchar, unsigned char)
GRAPHREC_VECTOR_TYPES(longlong, long long)
GRAPHREC_VECTOR_TYPES(ulonglong, unsigned long long)
#undef GRAPHREC_VECTOR_TYPES

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct __nv_bfloat16 {
    uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 value) {
    const uint32_t bits = uint32_t(value.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {  // to nearest, ties to even; NaN becomes CUDA's canonical one
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return {value != value ? uint16_t(0x7FFF) : uint16_t((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
}
inline __nv_bfloat16 __float2bfloat16(float value) { return __float2bfloat16_rn(value); }
inline float2 __bfloat1622float2(__nv_bfloat162 value) { return {__bfloat162float(value.x), __bfloat162float(value.y)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) { return __floats2bfloat162_rn(value.x, value.y); }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) { return {bits}; }

typedef struct CUstream_st *cudaStream_t;
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorInvalidConfiguration = 9,
    cudaErrorLaunchFailure = 719
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream);
