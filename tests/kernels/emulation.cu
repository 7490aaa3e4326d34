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
    out[2 * blockIdx.x] = fixed[0], out[2 * blockIdx.x + 1] = dynamic[0];
    fixed[0] = dynamic[0] = 1.0f;
}

__global__ void mistakes(int mode, float *x) {
    __shared__ float tile[32];
    GRAPHREC_DYNAMIC_SHARED(float, dynamic);
    const int lane = threadIdx.x;
    tile[lane % 32] = 0.0f;
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
GRAPHREC_CUDA(sizes)(int64_t grid, int64_t block, int64_t shared_bytes, int64_t allowed, float *out, void *stream) {
    if (allowed) cudaFuncSetAttribute(poison, cudaFuncAttributeMaxDynamicSharedMemorySize, int(allowed));
    GRAPHREC_LAUNCH(poison, unsigned(grid), unsigned(block), size_t(shared_bytes), stream, out);
    return launched();
}
