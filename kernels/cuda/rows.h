// How the kernels over CSR rows share their work.
//
// A block of eight warps takes eight rows. A row of up to kLongRow edges is one warp's, a longer one is done by the whole
// block afterwards. Within a warp `lanes` neighbouring lanes (a power of two) hold the columns of one edge, WIDTH each, so
// that 32 / lanes edges are under way at once: for 64 float32 columns 16 lanes of four, two edges. Partial results merge in
// a fixed order that depends on the row's number of edges only.
#pragma once

#include "device.h"

namespace {

constexpr int kBlockWarps = 8;
constexpr int kBlockThreads = kBlockWarps * kWarp;
constexpr int64_t kLongRow = 256;
// That fit one multiprocessor at least, so up to 128 registers per thread; with 3 or 4 the wide kernels spill.
constexpr int kBlocksPerProcessor = 2;

// Where a thread is: which columns it holds (part), of which of the warp's edges (group).
struct Place {
    int lanes, part, group, groups, warp;
};

__device__ __forceinline__ Place place_of(int lanes) {
    const int lane = threadIdx.x & (kWarp - 1), log = __ffs(lanes) - 1;
    return {lanes, lane & (lanes - 1), lane >> log, kWarp >> log, int(threadIdx.x) / kWarp};
}

// The edges of a row that a thread's group takes: begin + unit, begin + unit + units, ...
struct Share {
    int64_t begin, end;
    int unit, units;
    bool whole_block;

    // The thread that holds the merged result of its columns.
    __device__ __forceinline__ bool writes(const Place &place) const {
        return place.group == 0 && (!whole_block || place.warp == 0);
    }
};

// Calls body(r, share) for the rows first .. first + 7 below num_rows, by one warp or, for long rows, by all. `bounds(r)`
// gives the CSR row. One call in a loop keeps the body from being compiled twice.
template <typename Bounds, typename Body>
__device__ __forceinline__ void each_row(int64_t first, int64_t num_rows, const Place &place, Bounds bounds, Body body) {
    for (int turn = 0; turn <= kBlockWarps; ++turn) {
        const bool whole_block = turn > 0;
        const int64_t r = first + (whole_block ? turn - 1 : place.warp);
        int64_t begin = 0, end = 0;
        if (r < num_rows) bounds(r, begin, end);
        const bool is_long = end - begin > kLongRow;
        if (r < num_rows && is_long == whole_block) {
            const Share share{begin, end, whole_block ? place.warp * place.groups + place.group : place.group,
                              whole_block ? kBlockWarps * place.groups : place.groups, whole_block};
            body(r, share);
        }
        if (turn == 0 && !__syncthreads_or(is_long)) return;
    }
}

// What the lane `bits` away holds, word by word.
template <typename A>
__device__ __forceinline__ A from_lane(const A &mine, int bits) {
    static_assert(sizeof(A) % 4 == 0, "shuffles move words");
    constexpr int kWords = sizeof(A) / 4;
    union Words {
        A whole;
        unsigned word[kWords];
        __device__ Words() {}
    } words;
    words.whole = mine;
#pragma unroll
    for (int i = 0; i < kWords; ++i) words.word[i] = __shfl_xor_sync(kAllLanes, words.word[i], bits);
    return words.whole;
}

// Merges what the groups of a warp hold and, for a long row, what the warps hold, into the thread that `share.writes`.
template <typename A>
__device__ __forceinline__ void combine(A &mine, const Place &place, bool whole_block) {
    for (int bits = place.lanes; bits < kWarp; bits *= 2) mine.merge(from_lane(mine, bits));
    if (!whole_block) return;
    __shared__ A shared[kBlockWarps][kWarp];
    if (place.group == 0) shared[place.warp][place.part] = mine;
#ifndef GRAPHREC_PLANT_MISSING_BARRIER  // for a test of the tests
    __syncthreads();
#endif
    if (place.group == 0 && place.warp == 0)
        for (int warp = 1; warp < kBlockWarps; ++warp) mine.merge(shared[warp][place.part]);
    __syncthreads();  // the next long row writes there again
}

// The sum over the lanes of one edge, given to each of them.
template <typename S>
__device__ __forceinline__ S edge_sum(S value, int lanes) {
    for (int bits = lanes / 2; bits > 0; bits /= 2) value += __shfl_xor_sync(kAllLanes, value, bits);
    return value;
}

template <typename S, int WIDTH>
struct SumOf {
    S value[WIDTH];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) value[i] = S(0);
    }
    __device__ __forceinline__ void merge(const SumOf &other) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) value[i] += other.value[i];
    }
};

// The lanes for one edge: the power of two that covers `dim` columns of WIDTH per lane, a warp at most.
inline int lanes_for(int64_t dim, int width) {
    int lanes = 1;
    while (lanes < kWarp && int64_t(lanes) * width < dim) lanes *= 2;
    return lanes;
}

// Into how many tiles of lanes * width columns `dim` falls.
inline unsigned tiles_for(int64_t dim, int width) { return blocks_for(dim, int64_t(lanes_for(dim, width)) * width); }

// Calls run(constant) with the number of elements per lane: a 16-byte access where every pointer and the dimension allow it.
template <int WIDTH>
struct Width {
    static constexpr int value = WIDTH;
};
template <typename T, typename Run>
int32_t for_width(int64_t dim, bool all_aligned, Run run) {
    if (all_aligned && dim % kVector<T> == 0) return run(Width<kVector<T>>());
    return run(Width<1>());
}

}  // namespace
