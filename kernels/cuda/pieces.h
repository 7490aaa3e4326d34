// How a product over CSR rows shares them out by their length, and how it walks a row.
//
// A block takes 32 rows, in groups of four that lie far apart: neighbouring rows are often of one length, and a block of long
// ones would end last. A row of more than kLongRow edges is the whole block's, one of more than kNarrowRow a warp's, whichever
// is free next. The others are sorted by length and go to a group of `lanes` lanes each, so that a warp has several under way,
// waits for few of them and merges none. The order of a row's sum depends on its number of edges only.
#pragma once

#include "rows.h"

namespace {

constexpr int kNarrowRow = 32;
constexpr int kTogether = 4;  // neighbouring rows of a block, which often share sources
constexpr int64_t kMostRows = INT32_MAX - kWarp * kTogether;

// A message whose weight is a product still to come: reading ahead must not wait for its factors.
template <typename S>
struct Factors {
    int source;
    S first, second;

    __device__ __forceinline__ Message<S> message() const { return {source, first * second}; }
};

// What a lane does: the edges start, start + step, ... of a row.
struct Piece {
    int64_t begin;  // the row's first edge
    int row, length;  // its number of edges; -1 where there is no row
    int longest;  // of the rows that the warp is at
    int start, step;

    __device__ __forceinline__ bool whole_block() const { return step > kWarp; }
    __device__ __forceinline__ bool merged(const Place &place) const { return step > place.lanes; }
    // The thread that holds the sum of its columns.
    __device__ __forceinline__ bool writes(const Place &place) const {
        return length >= 0 && (!merged(place) || (place.group == 0 && (!whole_block() || place.warp == 0)));
    }
};

// The row of a block's place 0..31.
__device__ __forceinline__ int row_at(int place) {
    return (place / kTogether * int(gridDim.x) + int(blockIdx.x)) * kTogether + place % kTogether;
}

// Calls body(piece) for the block's rows below num_rows; `bounds(r, begin, end)` gives the CSR row. All lanes of a warp come
// together.
template <typename Bounds, typename Body>
__device__ __forceinline__ void each_piece(int64_t num_rows, const Place &place, Bounds bounds, Body body) {
    __shared__ int next, by_length[kWarp];
    const int lane = threadIdx.x & (kWarp - 1);
    const bool real = row_at(lane) < num_rows;
    int64_t begin = 0, end = 0;
    if (real) bounds(row_at(lane), begin, end);
    const int length = real ? int(end - begin) : -1;
#pragma unroll
    for (int i = 0; i < kWarp / kBlockWarps; ++i) {  // a warp finds the ranks of four
        const int mine = place.warp + i * kBlockWarps, its = __shfl_sync(kAllLanes, length, mine);
        const int rank = __popc(__ballot_sync(kAllLanes, length > its || (length == its && lane < mine)));
        if (lane == 0) by_length[rank] = mine;
    }
    if (threadIdx.x == 0) next = 0;
    __syncthreads();
    const int num_rows_here = __popc(__ballot_sync(kAllLanes, real));
    const int num_long = __popc(__ballot_sync(kAllLanes, length > kLongRow));
    const int num_merged = __popc(__ballot_sync(kAllLanes, length > kNarrowRow));
    const int num_tasks = num_merged + (num_rows_here - num_merged + place.groups - 1) / place.groups;
    for (int done = 0;; ++done) {
        const bool is_long = done < num_long;
        const int task = is_long ? done : num_long + __shfl_sync(kAllLanes, lane == 0 ? atomicAdd(&next, 1) : 0, 0);
        if (task >= num_tasks) return;
        const bool narrow = task >= num_merged;
        const int rank = narrow ? num_merged + (task - num_merged) * place.groups + place.group : task;
        const int from = by_length[rank & (kWarp - 1)];
        Piece piece;
        piece.begin = __shfl_sync(kAllLanes, begin, from);
        piece.row = row_at(from);
        piece.length = __shfl_sync(kAllLanes, length, from);
        if (rank >= num_rows_here) piece.length = -1;
        piece.longest = __shfl_sync(kAllLanes, piece.length, 0);  // the first group's, since they are sorted
        piece.start = narrow ? place.part : is_long ? int(threadIdx.x) : lane;
        piece.step = narrow ? place.lanes : is_long ? kBlockThreads : kWarp;
        body(piece);
    }
}

// The grid for it: full blocks where there are many rows, fewer rows in each where some multiprocessors would have none.
inline unsigned blocks_of_pieces(int64_t num_rows) {
#ifdef GRAPHREC_EMULATION  // small graphs have to fill blocks, too
    constexpr int64_t kManyBlocks = 4;
#else
    constexpr int64_t kManyBlocks = 1024;
#endif
    int64_t rows = kWarp;
    while (rows > kBlockWarps && num_rows < rows * kManyBlocks) rows /= 2;
    return blocks_for(num_rows, rows);
}

// Adds weight * x over the messages of a lane's columns to `total`. `factors_of(place)` gives the message of an edge that counts
// from the row's first; a group asks for `lanes` at once and passes them round, and UNROLL rows of x are on their way together.
// SOME skips the messages without a row of x.
template <int UNROLL, bool SOME, typename T, int WIDTH, typename FactorsOf>
__device__ __forceinline__ void add_messages(const T *x, int64_t dim, int64_t column, const Piece &piece, const Place &place,
                                             FactorsOf factors_of, SumOf<typename Sum<T>::type, WIDTH> &total) {
    using S = typename Sum<T>::type;
    static_assert(UNROLL <= kLeastLanes, "no turn of the inner loop passes the end of the group's messages");
    const auto *columns = reinterpret_cast<const unsigned char *>(x + column);
    const unsigned row_bytes = unsigned(dim * int64_t(sizeof(T)));
    const bool active = column < dim;
    const int home = place.group * place.lanes;
    const auto factors_at = [&](int at) { return at < piece.length ? factors_of(at) : Factors<S>{-1, S(0), S(0)}; };
    Factors<S> next = factors_at(piece.start);
    for (int base = 0; base < piece.longest; base += piece.step) {
        const Message<S> mine = next.message();
        next = factors_at(base + piece.step + piece.start);
        int count = min(piece.longest - base, place.lanes);
        [[maybe_unused]] unsigned waiting = 0;
        if constexpr (SOME) {
            waiting = __ballot_sync(kAllLanes, mine.source >= 0) >> home;
            if (place.lanes < kWarp) waiting &= (1u << place.lanes) - 1;
            count = warp_max(__popc(waiting));
        }
        for (int first = 0; first < count; first += UNROLL) {
            Pack<T, WIDTH> pack[UNROLL];
            [[maybe_unused]] int from[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                if constexpr (SOME) {
                    from[u] = waiting ? home + __ffs(int(waiting)) - 1 : -1;
                    waiting &= waiting - 1;
                }
                const int source = __shfl_sync(kAllLanes, mine.source, SOME ? from[u] : home + first + u);
                pack[u] = zeros<T, WIDTH>();
                if (source >= 0 && active && (!SOME || from[u] >= 0))
                    pack[u] = load_pack<WIDTH>(reinterpret_cast<const T *>(columns + wide_product(unsigned(source), row_bytes)));
            }
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                S weight = __shfl_sync(kAllLanes, mine.weight, SOME ? from[u] : home + first + u), wide[WIDTH];
                if (SOME && from[u] < 0) weight = S(0);
                widen(pack[u], wide);
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) total.value[i] += weight * wide[i];
            }
        }
    }
}

}  // namespace
