// A tile of inner products in registers: 256 threads, ROWS x 8 sums each, together 16 * ROWS rows by 128 columns.
//
// Chunks of kDepth dimensions of both operands go through shared memory, transposed and doubled, so that the next chunk
// loads while this one is multiplied. A warp holds 4 * ROWS rows by 64 columns; its lanes read the shared operands in whole
// 128-byte lines.
#pragma once

#include "device.h"

namespace {

constexpr int kTileThreads = 256;
constexpr int kTileColumns = 128;
constexpr int kDepth = 8;
constexpr int kMine = 8;  // columns of a thread: four, and four more 32 columns further on
constexpr int64_t kLargestDim = INT32_MAX - 16;

template <int ROWS>
constexpr int kTileRows = 16 * ROWS;

// Padded by four so that the two threads that store one row meet in no bank.
template <typename T, int ROWS>
struct Operand {
    alignas(16) typename Sum<T>::type rows[2][kDepth][kTileRows<ROWS> + 4];
    alignas(16) typename Sum<T>::type columns[2][kDepth][kTileColumns + 4];
};

// Which rows and columns of the tile a thread sums.
template <int ROWS>
struct Spot {
    int first_row, first_column;

    __device__ __forceinline__ Spot() {
        const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
        first_row = (warp / 2) * 4 * ROWS + (lane / 8) * ROWS;
        first_column = (warp % 2) * 64 + (lane % 8) * 4;
    }
    __device__ __forceinline__ int column(int i) const { return first_column + (i < 4 ? i : i + 28); }
};

// COUNT shared values by the widest accesses; `from` is aligned to all of them or to 16 bytes.
template <int COUNT, typename S>
__device__ __forceinline__ void load_shared(const S *from, S (&to)[COUNT]) {
    constexpr int kWidth = COUNT < kVector<S> ? COUNT : kVector<S>;
#pragma unroll
    for (int part = 0; part < COUNT; part += kWidth) {
        const Pack<S, kWidth> pack = load_pack<kWidth>(from + part);
#pragma unroll
        for (int i = 0; i < kWidth; ++i) to[part + i] = pack.value[i];
    }
}

// Four dimensions from d on of the row at `from`, zeros where there is no row or dimension.
template <typename T>
__device__ __forceinline__ void load_four(const T *from, int d, int dim, bool vector,
                                          typename Sum<T>::type (&out)[4]) {
    constexpr int kWidth = kVector<T> < 4 ? kVector<T> : 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = 0;
    if (!from || d >= dim) return;
    if (vector) {
#pragma unroll
        for (int part = 0; part < 4; part += kWidth) {
            typename Sum<T>::type wide[kWidth];
            widen(load_pack<kWidth>(from + d + part), wide);
#pragma unroll
            for (int i = 0; i < kWidth; ++i) out[part + i] = wide[i];
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
        if (d + i < dim) out[i] = widen(from[d + i]);
}

// Whether load_four may use vectors.
template <typename T>
bool vectors(const void *a, const void *b, int64_t dim) {
    return dim % 4 == 0 && aligned(a) && aligned(b);
}

// sum[u][i] = the inner product of row spot.first_row + u and column spot.column(i). `row` and `column` are what this
// thread loads: the row and the column threadIdx.x / 2 of the tile, NULL where there is none. Starts and ends with all
// threads past their use of `shared`.
template <typename T, int ROWS>
__device__ __forceinline__ void product(Operand<T, ROWS> &shared, const Spot<ROWS> &spot, const T *row, const T *column,
                                        int dim, bool vector, typename Sum<T>::type (&sum)[ROWS][kMine]) {
    using S = typename Sum<T>::type;
    constexpr int kHalf = kMine / 2;
    const int place = threadIdx.x / 2, part = (threadIdx.x % 2) * 4;
    const bool has_row = place < kTileRows<ROWS>;
    S row_part[4], column_part[4];
    const auto load = [&](int d) {
        if (has_row) load_four(row, d + part, dim, vector, row_part);
        load_four(column, d + part, dim, vector, column_part);
    };
    const auto keep = [&](int buffer) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (has_row) shared.rows[buffer][part + i][place] = row_part[i];
            shared.columns[buffer][part + i][place] = column_part[i];
        }
    };
#pragma unroll
    for (int u = 0; u < ROWS; ++u)
#pragma unroll
        for (int i = 0; i < kMine; ++i) sum[u][i] = 0;
    load(0);
    keep(0);
    __syncthreads();
    int buffer = 0;
    for (int d = 0; d < dim; d += kDepth, buffer ^= 1) {
        const bool more = d + kDepth < dim;
        if (more) load(d + kDepth);
#pragma unroll
        for (int k = 0; k < kDepth; ++k) {
            S left[ROWS], right[2][kHalf];
            load_shared(&shared.rows[buffer][k][spot.first_row], left);
            load_shared(&shared.columns[buffer][k][spot.first_column], right[0]);
            load_shared(&shared.columns[buffer][k][spot.first_column + 32], right[1]);
#pragma unroll
            for (int u = 0; u < ROWS; ++u)
#pragma unroll
                for (int i = 0; i < kMine; ++i) sum[u][i] += left[u] * right[i / kHalf][i % kHalf];
        }
        if (more) keep(buffer ^ 1);
        __syncthreads();
    }
}

}  // namespace
