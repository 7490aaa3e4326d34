// How the kernels over CSR rows share their work.
//
// A block of eight warps takes sixteen rows. A row of more than kLongRow edges is done by the whole block, before the others;
// each of these is one warp's, whichever is free next. Within a warp `lanes` neighbouring lanes (a power of two) hold the columns
// of one edge, WIDTH each, so that 32 / lanes edges are under way at once: for 64 float32 columns 16 lanes of four, two edges.
// Partial results merge in a fixed order that depends on the row's number of edges only, not on which warp took it.
#pragma once

#include "device.h"

namespace {

constexpr int kBlockWarps = 8;
constexpr int kBlockRows = 2 * kBlockWarps;
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

// Calls body(r, share) for the rows first .. first + kBlockRows - 1 below num_rows. `bounds(r, begin, end)` gives the CSR row.
// FIXED gives a warp the same rows each time, for a body that adds up over its rows. One call in a loop keeps the body from
// being compiled twice.
template <bool FIXED = false, typename Bounds, typename Body>
__device__ __forceinline__ void each_row(int64_t first, int64_t num_rows, const Place &place, Bounds bounds, Body body) {
    static_assert(kBlockRows <= kWarp, "a lane for each row");
    [[maybe_unused]] __shared__ int next;
    if constexpr (!FIXED) {
        if (threadIdx.x == 0) next = 0;
        __syncthreads();
    }
    const int lane = threadIdx.x & (kWarp - 1);
    const int num_here = num_rows - first < kBlockRows ? int(num_rows - first) : kBlockRows;
    int64_t begin = 0, end = 0;
    if (lane < num_here) bounds(first + lane, begin, end);
    const unsigned is_long = __ballot_sync(kAllLanes, end - begin > kLongRow);
    int turn = 0;
    for (unsigned left = is_long;;) {
        const bool whole_block = left != 0;
        int row;
        if (whole_block) {
            row = __ffs(int(left)) - 1;
            left &= left - 1;
        } else {
            if constexpr (FIXED) row = place.warp + kBlockWarps * turn++;
            else row = __shfl_sync(kAllLanes, lane == 0 ? atomicAdd(&next, 1) : 0, 0);
            if (row >= num_here) return;
            if (is_long >> row & 1) continue;
        }
        const Share share{__shfl_sync(kAllLanes, begin, row), __shfl_sync(kAllLanes, end, row),
                          whole_block ? place.warp * place.groups + place.group : place.group,
                          whole_block ? kBlockWarps * place.groups : place.groups, whole_block};
        body(first + row, share);
    }
}

// What an edge brings: a row of x, or none where `source` is -1, and its weight, 0 where there is none: an infinite scale of what
// is skipped times an x of zero would be NaN.
template <typename S>
struct Message {
    int source;
    S weight;
};

constexpr int kLeastLanes = 4;

// Calls take(message, place, x) for the messages of a row's edges from a group's lanes, where `place` counts from the row's
// first edge and x are the lane's columns. `message_of(place)` gives a message; a warp asks for 32 at once, one per lane, and
// UNROLL rows of x are on their way together. Where there is no row of x, take gets the source -1 and an x of zero.
// `place.lanes` is kLeastLanes at least.
template <int UNROLL, int WIDTH, typename T, typename MessageOf, typename Take>
__device__ __forceinline__ void each_message(const T *x, int64_t dim, int64_t column, int length, const Share &share,
                                             const Place &place, MessageOf message_of, Take take) {
    using S = typename Sum<T>::type;
    static_assert(UNROLL * kWarp / kLeastLanes <= kWarp, "no turn of the inner loop passes the end of the warp's messages");
    const bool active = column < dim;
    const int lane = threadIdx.x & (kWarp - 1), step = share.whole_block ? kBlockThreads : kWarp;
    for (int base = share.whole_block ? place.warp * kWarp : 0; base < length; base += step) {
        const Message<S> mine = base + lane < length ? message_of(base + lane) : Message<S>{-1, S(0)};
        const int count = min(length - base, kWarp);
        for (int first = place.group; first - place.group < count; first += UNROLL * place.groups) {
            int source[UNROLL];
            Pack<T, WIDTH> pack[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                source[u] = __shfl_sync(kAllLanes, mine.source, first + u * place.groups);
                if (!active) source[u] = -1;
                pack[u] = source[u] < 0 ? zeros<T, WIDTH>() : load_pack<WIDTH>(x + source[u] * dim + column);
            }
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                const int slot = first + u * place.groups;
                const Message<S> message{source[u], __shfl_sync(kAllLanes, mine.weight, slot)};
                S wide[WIDTH];
                widen(pack[u], wide);
                take(message, base + slot, wide);
            }
        }
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

// The lanes for one edge: the power of two that covers `dim` columns of WIDTH per lane, `least` at least and a warp at most.
inline int lanes_for(int64_t dim, int width, int least = 1) {
    int lanes = least;
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
