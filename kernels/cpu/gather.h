// Reads the rows of a row's neighbours: what the sparse products and the dot products along edges share.
#pragma once

#include "kernel.h"

namespace {

// How many edges ahead a neighbour's row of VECTORS vectors is fetched.
template <typename T, int VECTORS>
constexpr int64_t edges_ahead() {
    constexpr int64_t kBytes = VECTORS * Vector<typename Sum<T>::type>::lanes * int64_t(sizeof(T));
    return kBytes <= 256 ? 48 : kBytes <= 512 ? 32 : 16;
}

// Starts fetching the first VECTORS vectors of a row.
template <typename T, int VECTORS>
inline void prefetch_row(const T *row) {
    constexpr int64_t kBytes = VECTORS * Vector<typename Sum<T>::type>::lanes * int64_t(sizeof(T)), kCacheLine = 64;
    for (int64_t byte = 0; byte < kBytes; byte += kCacheLine)
        __builtin_prefetch(reinterpret_cast<const char *>(row) + byte, 0, 3);
}

// Calls each(edge, ahead) for the edges from `begin` to before `end`; `ahead` is the edge whose neighbour to fetch meanwhile. Past a
// row's end the next row's edges follow, up to `limit`; that is asked once, not at every edge.
template <typename T, int VECTORS, typename Each>
inline void each_edge(int64_t begin, int64_t end, int64_t limit, Each each) {
    constexpr int64_t kAhead = edges_ahead<T, VECTORS>();
    const int64_t far = end + kAhead <= limit ? end : limit - kAhead;
    int64_t edge = begin;
    for (; edge < far; ++edge) each(edge, edge + kAhead);
    for (; edge < end; ++edge) each(edge, limit - 1);
}

// Adds weigh(edge, column) · row[column] of a table, of the edges from `begin` to before `end`, to sums in registers: VECTORS
// vectors of the row's columns from `base` on, the last of them `last` columns if PARTIAL. `place` says where in the table a
// column's row is; with SOME, a negative place is nowhere.
template <typename T, int VECTORS, bool PARTIAL, bool SOME, typename Place, typename Weigh>
inline void add_messages(typename Vector<typename Sum<T>::type>::type (&sum)[VECTORS], const int32_t *indices, int64_t begin,
                         int64_t end, int64_t limit, const T *base, int64_t dim, int64_t last, Place place, Weigh weigh) {
    constexpr int kLanes = Vector<typename Sum<T>::type>::lanes;
    constexpr int kFull = PARTIAL ? VECTORS - 1 : VECTORS;
    each_edge<T, VECTORS>(begin, end, limit, [&](int64_t edge, int64_t ahead) {
        const int64_t next = place(indices[ahead]);
        prefetch_row<T, VECTORS>(base + (SOME && next < 0 ? 0 : next) * dim);
        const int64_t column = indices[edge], source = place(column);
        if (SOME && source < 0) return;
        const auto weight = weigh(edge, column);
        const T *x = base + source * dim;
        for (int v = 0; v < kFull; ++v) sum[v] += weight * load(x + v * kLanes);
        if (PARTIAL) sum[kFull] += weight * load_part(x + kFull * kLanes, last);
    });
}

}  // namespace
