// What every CUDA kernel file shares: exported names, launches, element types, dtype dispatch and warp reductions.
//
// The files compile with nvcc and, with -DGRAPHREC_EMULATION, with g++ on the emulation of kernels/emulation.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef GRAPHREC_EMULATION
#include "emulation.h"
#else
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#endif

#include "graphrec_kernels.h"

// Defines an operator: GRAPHREC_CUDA(spmm)(int64_t dtype, ..., void *stream) { ... }
#define GRAPHREC_CUDA(name) extern "C" __attribute__((visibility("default"))) int32_t graphrec_cuda_##name

// Launches a kernel; a template with a comma in its arguments goes in parentheses. `launched()` tells whether it went well.
// GRAPHREC_DYNAMIC_SHARED(float, tile) declares `float *tile`, the launch's dynamic shared memory.
#ifdef GRAPHREC_EMULATION
#define GRAPHREC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    emulation::launch((grid), (block), (shared_bytes), static_cast<cudaStream_t>(stream), kernel, __VA_ARGS__)
#define GRAPHREC_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emulation::dynamic_shared())
#else
#define GRAPHREC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    kernel<<<(grid), (block), (shared_bytes), static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__)
#define GRAPHREC_DYNAMIC_SHARED(type, name)                            \
    extern __shared__ __align__(16) unsigned char graphrec_dynamic_shared[]; \
    type *name = reinterpret_cast<type *>(graphrec_dynamic_shared)
#endif

namespace {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

using bfloat16 = __nv_bfloat16;

// The type that scales and sums of a T are held in.
template <typename T>
struct Sum {
    using type = float;
};
template <>
struct Sum<double> {
    using type = double;
};

__host__ __device__ __forceinline__ float widen(float x) { return x; }
__host__ __device__ __forceinline__ double widen(double x) { return x; }
__host__ __device__ __forceinline__ float widen(bfloat16 x) { return __bfloat162float(x); }

__device__ __forceinline__ void narrow(float value, float &out) { out = value; }
__device__ __forceinline__ void narrow(double value, double &out) { out = value; }
__device__ __forceinline__ void narrow(float value, bfloat16 &out) { out = __float2bfloat16_rn(value); }

// WIDTH elements that load and store as one access; the address must be a multiple of their size.
template <typename T, int WIDTH>
struct alignas(sizeof(T) * WIDTH) Pack {
    T value[WIDTH];
};
// Two bfloat16 are one word: taken one by one, the compiler moves every half of a pack that a condition sets.
template <int WIDTH>
struct alignas(2 * WIDTH) PackedWords {
    unsigned word[WIDTH / 2];
};
template <>
struct Pack<bfloat16, 2> : PackedWords<2> {};
template <>
struct Pack<bfloat16, 4> : PackedWords<4> {};
template <>
struct Pack<bfloat16, 8> : PackedWords<8> {};

template <int WIDTH, typename T>
__device__ __forceinline__ Pack<T, WIDTH> load_pack(const T *from) {
    return *reinterpret_cast<const Pack<T, WIDTH> *>(from);
}

template <typename T, int WIDTH>
__device__ __forceinline__ Pack<T, WIDTH> zeros() {
    Pack<T, WIDTH> pack;
    memset(&pack, 0, sizeof pack);
    return pack;
}

template <typename T, int WIDTH>
__device__ __forceinline__ void widen(const Pack<T, WIDTH> &pack, typename Sum<T>::type (&to)[WIDTH]) {
    if constexpr (sizeof(T) == 2 && WIDTH % 2 == 0) {  // a bfloat16 is the upper half of a float
#pragma unroll
        for (int i = 0; i < WIDTH; ++i)
            to[i] = __uint_as_float(i % 2 ? pack.word[i / 2] & 0xFFFF0000u : pack.word[i / 2] << 16);
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) to[i] = widen(pack.value[i]);
    }
}

template <int WIDTH, typename T>
__device__ __forceinline__ void store(T *to, const typename Sum<T>::type (&from)[WIDTH]) {
    Pack<T, WIDTH> pack;
    if constexpr (sizeof(T) == 2 && WIDTH % 2 == 0) {
#pragma unroll
        for (int i = 0; i < WIDTH; i += 2) {
            const __nv_bfloat162 pair = __floats2bfloat162_rn(from[i], from[i + 1]);
            memcpy(&pack.word[i / 2], &pair, sizeof pair);
        }
    } else {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) narrow(from[i], pack.value[i]);
    }
    *reinterpret_cast<Pack<T, WIDTH> *>(to) = pack;
}

// a * b in 64 bits: one instruction, of which the compiler makes several where it loses sight of the operands' size.
__device__ __forceinline__ uint64_t wide_product(unsigned a, unsigned b) {
#ifdef GRAPHREC_EMULATION
    return uint64_t(a) * b;
#else
    uint64_t product;
    asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(a), "r"(b));
    return product;
#endif
}

// How many T fit one 16-byte access.
template <typename T>
constexpr int kVector = 16 / int(sizeof(T));

inline bool aligned(const void *pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// The sum or maximum over groups of WIDTH lanes, given to each of them; a fixed tree, so the same bits each time.
template <int WIDTH = kWarp, typename S>
__device__ __forceinline__ S warp_sum(S value) {
#pragma unroll
    for (int bits = WIDTH / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
    return value;
}

template <int WIDTH = kWarp, typename S>
__device__ __forceinline__ S warp_max(S value) {
#pragma unroll
    for (int bits = WIDTH / 2; bits > 0; bits /= 2) value = max(value, __shfl_xor_sync(kAllLanes, value, bits));
    return value;
}

// Calls `run` with a value of the type that `dtype` names.
template <typename Run>
int32_t for_dtype(int64_t dtype, Run run) {
    switch (dtype) {
        case GRAPHREC_FLOAT32: return run(float());
        case GRAPHREC_FLOAT64: return run(double());
        case GRAPHREC_BFLOAT16: return run(bfloat16());
        default: return GRAPHREC_BAD_DTYPE;
    }
}

// The status of the launches before it.
inline int32_t launched() { return cudaGetLastError() == cudaSuccess ? GRAPHREC_OK : GRAPHREC_DEVICE_ERROR; }

// Blocks of `size` that cover `count`; at least one, since a grid of none is an error.
inline unsigned blocks_for(int64_t count, int64_t size) { return unsigned(count > 0 ? (count + size - 1) / size : 1); }

}  // namespace
