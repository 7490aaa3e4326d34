// What the forward and the backward pass of attention share: operands, tiles of columns and the score of an edge.
#pragma once

#include "rows.h"

#include "graphrec_random.h"

namespace {

constexpr int kUnroll = 2;           // edges in flight per group of lanes
constexpr int64_t kMaxGrid = 65535;  // of the grid's second and third axis

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float logarithm(float x) { return logf(x); }
__device__ __forceinline__ double logarithm(double x) { return log(x); }

template <typename T>
struct Attention {
    using S = typename Sum<T>::type;
    const int64_t *indptr;
    const int32_t *indices;
    const S *dst_score, *src_score;  // GAT
    const T *dst_x, *attention;      // GATv2
    const T *src_x;
    S slope;
    float dropout;
    uint64_t seed;
    int64_t heads, dim;

    Attention(const int64_t *indptr, const int32_t *indices, const void *dst, const void *src_score, const void *src_x,
              const void *attention, double slope, double dropout, int64_t seed, int64_t heads, int64_t dim)
        : indptr(indptr), indices(indices), dst_score(static_cast<const S *>(dst)),
          src_score(static_cast<const S *>(src_score)), dst_x(static_cast<const T *>(dst)),
          attention(static_cast<const T *>(attention)), src_x(static_cast<const T *>(src_x)), slope(S(slope)),
          dropout(float(dropout)), seed(uint64_t(seed)), heads(heads), dim(dim) {}

    bool all_aligned(int kind) const {
        return aligned(src_x) && (kind == GRAPHREC_GAT || (aligned(dst_x) && aligned(attention)));
    }
    __device__ __forceinline__ S leaky(S t) const { return t > S(0) ? t : slope * t; }
    __device__ __forceinline__ S leaky_slope(S t) const { return t > S(0) ? S(1) : slope; }
    __device__ __forceinline__ S keep(int64_t edge, int64_t head) const {
        return dropout > 0.0f ? S(graphrec_keep(seed, uint64_t(edge * heads + head), dropout)) : S(1);
    }
};

// The head of a block and the columns of it that a thread holds.
struct Tile {
    int64_t head, column;
    bool active;  // whether there are such columns
};

template <int WIDTH>
__device__ __forceinline__ Tile tile_of(int64_t dim, const Place &place) {
    const int64_t column = (int64_t(blockIdx.z) * place.lanes + place.part) * WIDTH;
    return {int64_t(blockIdx.y), column, column < dim};
}

// The thread's columns of row `row` of x (.., heads, dim); zeros for row -1 and outside of the head.
template <int WIDTH, typename T>
__device__ __forceinline__ Pack<T, WIDTH> read_message(const T *x, const Attention<T> &op, int64_t row, const Tile &tile) {
    if (row >= 0 && tile.active) return load_pack<WIDTH>(x + (row * op.heads + tile.head) * op.dim + tile.column);
    return zeros<T, WIDTH>();
}

// Calls add(tile) for the other tiles of the head, when it is wider than one.
template <int WIDTH, typename Add>
__device__ __forceinline__ void other_tiles(int64_t dim, const Tile &tile, const Place &place, Add add) {
    for (int64_t column = place.part * WIDTH; column < dim; column += place.lanes * WIDTH)
        if (column != tile.column) add(Tile{tile.head, column, true});
}

// The score of the edge between the row that was read and a column; all lanes of the edge get it.
template <typename T, int WIDTH, int KIND>
struct Scorer;

template <typename T, int WIDTH>
struct Scorer<T, WIDTH, GRAPHREC_GAT> {
    using S = typename Sum<T>::type;
    S mine;

    __device__ __forceinline__ void read_row(const Attention<T> &op, int64_t r, const Tile &tile, const Place &) {
        mine = op.dst_score[r * op.heads + tile.head];
    }
    __device__ __forceinline__ S raw(const Attention<T> &op, int64_t source, const Tile &tile) const {
        return source >= 0 ? mine + op.src_score[source * op.heads + tile.head] : S(0);
    }
    __device__ __forceinline__ S score(const Attention<T> &op, int64_t, int64_t source, const Pack<T, WIDTH> &,
                                       const Tile &tile, const Place &) const {
        return op.leaky(raw(op, source, tile));
    }
};

template <typename T, int WIDTH>
struct Scorer<T, WIDTH, GRAPHREC_GATV2> {
    using S = typename Sum<T>::type;
    S mine[WIDTH], weight[WIDTH];

    __device__ __forceinline__ void read_row(const Attention<T> &op, int64_t r, const Tile &tile, const Place &) {
        widen(read_message<WIDTH>(op.dst_x, op, r, tile), mine);
        widen(read_message<WIDTH>(op.attention, op, 0, tile), weight);
    }
    __device__ __forceinline__ S part(const Attention<T> &op, const S (&target)[WIDTH], const S (&factor)[WIDTH],
                                      const Pack<T, WIDTH> &x) const {
        S wide[WIDTH], sum = S(0);
        widen(x, wide);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) sum += factor[i] * op.leaky(target[i] + wide[i]);
        return sum;
    }
    __device__ __forceinline__ S score(const Attention<T> &op, int64_t r, int64_t source, const Pack<T, WIDTH> &x,
                                       const Tile &tile, const Place &place) const {
        S sum = part(op, mine, weight, x);
        if (source >= 0)
            other_tiles<WIDTH>(op.dim, tile, place, [&](const Tile &other) {
                Scorer there;
                there.read_row(op, r, other, place);
                sum += part(op, there.mine, there.weight, read_message<WIDTH>(op.src_x, op, source, other));
            });
        return edge_sum(sum, place.lanes);
    }
};

inline int32_t attention_refusal(int64_t kind, int64_t num_rows, int64_t heads, int64_t dim, double dropout) {
    if (num_rows < 0 || heads < 1 || dim < 1 || heads > kMaxGrid || dim > kMaxGrid * kWarp) return GRAPHREC_BAD_SIZE;
    if (kind != GRAPHREC_GAT && kind != GRAPHREC_GATV2) return GRAPHREC_BAD_OPTION;
    return dropout >= 0.0 && dropout < 1.0 ? GRAPHREC_OK : GRAPHREC_BAD_OPTION;
}

}  // namespace
