// Small kernels that show what the emulation does, and what it refuses. `mode` picks one.
#include "device.h"

namespace {

__global__ void indices(int64_t *out) {
    const int64_t block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * int64_t(blockIdx.z));
    const int64_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * int64_t(threadIdx.z));
    const int64_t place = block * (blockDim.x * blockDim.y * blockDim.z) + thread;
    out[place] = threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z + 1000 * blockIdx.x + 10000 * blockIdx.y +
                 100000 * blockIdx.z;
}

__global__ void reversed(float *x, bool with_barrier) {
    __shared__ float tile[96];
    tile[threadIdx.x] = x[blockIdx.x * 96 + threadIdx.x];
    if (with_barrier) __syncthreads();
    x[blockIdx.x * 96 + threadIdx.x] = tile[95 - threadIdx.x];
}

template <typename T>
__global__ void shuffles(T *out, int width) {
    const int lane = threadIdx.x;
    const T mine = T(lane);
    out[lane] = __shfl_sync(kAllLanes, mine, 5, width);
    out[32 + lane] = __shfl_xor_sync(kAllLanes, mine, 3, width);
    out[64 + lane] = __shfl_down_sync(kAllLanes, mine, 3, width);
    out[96 + lane] = __shfl_up_sync(kAllLanes, mine, 3, width);
}

__global__ void votes(int64_t *out) {
    const int lane = threadIdx.x;
    if (lane >= 8) return;
    const unsigned mask = 0xFF;
    out[lane] = __ballot_sync(mask, lane % 3 == 0);
    out[8 + lane] = __any_sync(mask, lane == 6) + 2 * __all_sync(mask, lane < 8) + 4 * __any_sync(mask, lane > 8);
}

__global__ void counts(int64_t *out, int *counter, unsigned long long *total) {
    atomicAdd(counter, 1);
    atomicAdd(total, (unsigned long long)threadIdx.x);
    const int even = __syncthreads_count(threadIdx.x % 2 == 0);
    if (threadIdx.x == 0) out[0] = *counter, out[1] = int64_t(*total), out[2] = even;
}

__global__ void poison(float *out) {
    __shared__ float fixed[2];
    GRAPHREC_DYNAMIC_SHARED(float, dynamic);
    const float first = fixed[0], second = dynamic[0];
    __syncthreads();
    if (threadIdx.x > 0) return;
    out[2 * blockIdx.x] = first, out[2 * blockIdx.x + 1] = second;
    fixed[0] = dynamic[0] = 1.0f;
}

__global__ void mistakes(int mode, float *x) {
    __shared__ float tile[32];
    GRAPHREC_DYNAMIC_SHARED(float, dynamic);
    const int lane = threadIdx.x;
    if (lane < 32) tile[lane] = 0.0f;
    __syncthreads();
    if (mode == 0 && lane < 7) __syncthreads();
    if (mode == 1) {
        if (lane < 32) __syncthreads();
        else __syncthreads();
    }
    if (mode == 2 && lane != 3) x[lane] = __shfl_xor_sync(kAllLanes, x[lane], 1);
    if (mode == 3 && lane < 4) x[lane] = __shfl_sync(0xFu, x[lane], 9);
    if (mode == 4 && lane == 0) __syncwarp(0xE);
    if (mode == 5) {
        if (lane % 2) __syncwarp();
        else x[lane] = __shfl_sync(kAllLanes, x[lane], 0);
    }
    if (mode == 6) x[lane] = tile[lane + int(gridDim.x)];
    if (mode == 7) dynamic[lane + 1] = 1.0f;
    if (mode == 8 && lane == 0) x[0] = load_pack<4>(x + 1).value[0];
}

// Two blocks of 64 threads each.
__global__ void races(int mode, float *x, int *counter) {
    __shared__ float tile[64];
    __shared__ int total;
    const int thread = threadIdx.x, lane = thread % kWarp;
    float *mine = x + 64 * blockIdx.x;
    if (mode == 0) tile[thread / 2] = 1.0f;
    if (mode == 1) {
        tile[thread] = 1.0f;
        __syncthreads();
        mine[thread] = tile[63 - thread];
        tile[thread] = 2.0f;
    }
    if (mode == 2 && thread < kWarp) {
        tile[lane] = float(__shfl_xor_sync(kAllLanes, lane, 1));
        mine[lane] = tile[lane ^ 1];
    }
    if (mode == 3 && thread < kWarp) {
        tile[lane] = 1.0f;
        __syncwarp(lane < 16 ? 0xFFFFu : 0xFFFF0000u);
        mine[lane] = tile[31 - lane];
    }
    if (mode == 4) atomicAdd(&total, thread == 5 ? total : 1);
    if (mode == 5) mine[thread] = mine[63 - thread];
    if (mode == 6) x[thread] = float(blockIdx.x);
    if (mode == 7 && thread == 0) mine[0] = x[64 * (1 - int(blockIdx.x))];
    if (mode == 8 && thread == 0) *counter += 1;
    if (mode == 9) {
        if (thread == 0) total = 0;
        atomicAdd(&total, 1);
    }
    if (mode == 10 && thread == 0) atomicAdd(counter, blockIdx.x == 0 ? 1 : *counter);
}

// What no race is.
__global__ void orders(float *x, uint8_t *bytes, int *counter) {
    __shared__ float tile[64];
    __shared__ int total;
    const int thread = threadIdx.x, lane = thread % kWarp;
    const unsigned half = lane < 16 ? 0xFFFFu : 0xFFFF0000u;
    if (thread == 0) total = 0;
    tile[thread] = float(thread);
    __syncwarp(half);
    tile[thread ^ 1] += 1.0f;  // of the same half
    __syncwarp(half);
    float sum = tile[thread];
    for (int i = 0; i < 16; ++i) sum += tile[thread / 16 * 16 + i];  // all of a half read ...
    __syncwarp(half);
    if (lane % 16 == 0) tile[thread] = sum + tile[thread];  // ... and one reads again and writes
    __syncwarp();
    if (lane == 31) sum += tile[thread - 31];
    __syncthreads();
    atomicAdd(&total, 1);
    atomicAdd(counter, 1);
    bytes[64 * blockIdx.x + thread] = uint8_t(thread);
    __syncthreads();
    x[64 * blockIdx.x + thread] = sum + float(total) + tile[63 - thread] + float(bytes[64 * blockIdx.x + 63 - thread]);
}

}  // namespace

GRAPHREC_CUDA(indices)(int64_t *out, void *stream) {
    GRAPHREC_LAUNCH(indices, dim3(3, 2, 2), dim3(5, 4, 3), 0, stream, out);
    return launched();
}
GRAPHREC_CUDA(reversed)(float *x, int64_t with_barrier, void *stream) {
    GRAPHREC_LAUNCH(reversed, 2, 96, 0, stream, x, with_barrier != 0);
    return launched();
}
GRAPHREC_CUDA(shuffles)(float *out, double *wide, int64_t width, void *stream) {
    GRAPHREC_LAUNCH(shuffles<float>, 1, 32, 0, stream, out, int(width));
    GRAPHREC_LAUNCH(shuffles<double>, 1, 32, 0, stream, wide, int(width));
    return launched();
}
GRAPHREC_CUDA(votes)(int64_t *out, void *stream) {
    GRAPHREC_LAUNCH(votes, 1, 32, 0, stream, out);
    return launched();
}
GRAPHREC_CUDA(counts)(int64_t *out, int32_t *counter, int64_t *total, void *stream) {
    GRAPHREC_LAUNCH(counts, 1, 101, 0, stream, out, counter, reinterpret_cast<unsigned long long *>(total));
    return launched();
}
GRAPHREC_CUDA(poison)(float *out, void *stream) {
    GRAPHREC_LAUNCH(poison, 3, 1, 64, stream, out);
    return launched();
}
GRAPHREC_CUDA(mistakes)(int64_t mode, float *x, void *stream) {
    GRAPHREC_LAUNCH(mistakes, 1, 64, 64 * sizeof(float), stream, int(mode), x);
    return launched();
}
GRAPHREC_CUDA(races)(int64_t mode, float *x, int32_t *counter, void *stream) {
    GRAPHREC_LAUNCH(races, 2, 64, 0, stream, int(mode), x, counter);
    return launched();
}
GRAPHREC_CUDA(orders)(float *x, uint8_t *bytes, int32_t *counter, void *stream) {
    GRAPHREC_LAUNCH(orders, 2, 64, 0, stream, x, bytes, counter);
    return launched();
}
GRAPHREC_CUDA(sizes)(int64_t grid, int64_t block, int64_t shared_bytes, int64_t allowed, float *out, void *stream) {
    if (allowed) cudaFuncSetAttribute(poison, cudaFuncAttributeMaxDynamicSharedMemorySize, int(allowed));
    GRAPHREC_LAUNCH(poison, unsigned(grid), unsigned(block), size_t(shared_bytes), stream, out);
    return launched();
}
