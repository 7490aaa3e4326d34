// The gradients of attention, with the softmax recomputed from the saved log-sum-exp.
//
// With p(e) = exp(score(e) - lse[r]) and G the gradient of y, an edge's score has the gradient
//   s(e) = p(e) * (keep(e) * <G[r], x[c]> - delta[r]),   delta[r] = <G[r], y[r]>.
// One kernel goes over the rows and writes delta and, per edge, s(e), for GAT times the slope of leaky; one goes over the
// columns and sums what reaches each source in the order of its edges. So no sum depends on the order of threads.
#include "attention.h"

namespace {

template <typename T>
struct Gradients {
    using S = typename Sum<T>::type;
    const T *y, *gradient;
    const S *lse;
    S *delta, *edge_gradient;
    S *dst_score_gradient, *src_score_gradient;  // GAT
    T *dst_x_gradient;                           // GATv2
    T *src_x_gradient;
    S *attention_partials;
};

// <a, b> over all columns of the head of one row each, given the own tile's share of it.
template <int WIDTH, typename T>
__device__ __forceinline__ typename Sum<T>::type head_dot(const Attention<T> &op, const T *a, int64_t a_row, const T *b,
                                                          int64_t b_row, typename Sum<T>::type own, const Tile &tile,
                                                          const Place &place) {
    using S = typename Sum<T>::type;
    if (a_row >= 0 && b_row >= 0)
        other_tiles<WIDTH>(op.dim, tile, place, [&](const Tile &other) {
            S left[WIDTH], right[WIDTH];
            widen(read_message<WIDTH>(a, op, a_row, other), left);
            widen(read_message<WIDTH>(b, op, b_row, other), right);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) own += left[i] * right[i];
        });
    return edge_sum(own, place.lanes);
}

template <typename S, int WIDTH>
__device__ __forceinline__ S dot(const S (&a)[WIDTH], const S (&b)[WIDTH]) {
    S sum = S(0);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) sum += a[i] * b[i];
    return sum;
}

// What a row collects: the gradient by dst, one value for GAT, and for GATv2 that by the attention vector.
template <typename T, int WIDTH, int KIND>
struct RowPass {
    using S = typename Sum<T>::type;
    static constexpr int kTarget = KIND == GRAPHREC_GAT ? 1 : WIDTH;
    const Attention<T> &op;
    const Gradients<T> &to;
    const Tile tile;
    const Place place;
    SumOf<S, kTarget> target;
    SumOf<S, WIDTH> attention;

    __device__ __forceinline__ void add_edge(const Scorer<T, WIDTH, KIND> &scorer, int64_t source, const S (&x)[WIDTH], S &s) {
        if constexpr (KIND == GRAPHREC_GAT) {
            s *= op.leaky_slope(scorer.raw(op, source, tile));
            target.value[0] += s;
        } else {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                const S sum = scorer.mine[i] + x[i];
                target.value[i] += s * scorer.weight[i] * op.leaky_slope(sum);
                attention.value[i] += s * op.leaky(sum);
            }
        }
    }

    __device__ __forceinline__ void edges(int64_t r, const Share &share) {
        const int64_t row = r * op.heads + tile.head;
        Scorer<T, WIDTH, KIND> scorer;
        scorer.read_row(op, r, tile, place);
        S g[WIDTH], y[WIDTH];
        widen(read_message<WIDTH>(to.gradient, op, r, tile), g);
        widen(read_message<WIDTH>(to.y, op, r, tile), y);
        const S delta = head_dot<WIDTH>(op, to.gradient, r, to.y, r, dot(g, y), tile, place), lse = to.lse[row];
        if (tile.column == 0 && share.writes(place)) to.delta[row] = delta;
        // The lanes of an edge meet in shuffles, so the warp leaves the loop together.
        for (int64_t base = share.begin; base < share.end; base += kUnroll * share.units) {
            int32_t source[kUnroll];
            Pack<T, WIDTH> x[kUnroll];
#pragma unroll
            for (int u = 0; u < kUnroll; ++u) {
                const int64_t edge = base + u * share.units + share.unit;
                source[u] = edge < share.end ? op.indices[edge] : -1;
                x[u] = read_message<WIDTH>(op.src_x, op, source[u], tile);
            }
#pragma unroll
            for (int u = 0; u < kUnroll; ++u) {
                const int64_t edge = base + u * share.units + share.unit;
                const S score = scorer.score(op, r, source[u], x[u], tile, place);
                S wide[WIDTH];
                widen(x[u], wide);
                const S product = head_dot<WIDTH>(op, to.gradient, r, op.src_x, source[u], dot(g, wide), tile, place);
                if (source[u] < 0) continue;
                S s = exponential(score - lse) * (op.keep(edge, tile.head) * product - delta);
                add_edge(scorer, source[u], wide, s);
                if (tile.column == 0) to.edge_gradient[edge * op.heads + tile.head] = s;
            }
        }
    }

    __device__ __forceinline__ void finish(int64_t r, const Share &share) {
        combine(target, place, share.whole_block);
        if (!share.writes(place)) return;
        const int64_t row = r * op.heads + tile.head;
        if constexpr (KIND == GRAPHREC_GAT) {
            if (tile.column == 0) to.dst_score_gradient[row] = target.value[0];
        } else {
            if (tile.active) store(to.dst_x_gradient + row * op.dim + tile.column, target.value);
        }
    }
};

// Block b takes the kBlockRows rows from b * kBlockRows on, then those `gridDim.x` blocks further on, and so owns one partial sum.
template <typename T, int WIDTH, int KIND>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerProcessor) gat_backward_rows(const Attention<T> op, const Gradients<T> to,
                                                                   int64_t num_rows, int lanes) {
    const Place place = place_of(lanes);
    RowPass<T, WIDTH, KIND> pass{op, to, tile_of<WIDTH>(op.dim, place), place, {}, {}};
    pass.attention.clear();
    const auto bounds = [&](int64_t r, int64_t &begin, int64_t &end) { begin = op.indptr[r], end = op.indptr[r + 1]; };
    const int64_t step = int64_t(gridDim.x) * kBlockRows;
    for (int64_t first = int64_t(blockIdx.x) * kBlockRows; first < num_rows; first += step)
        each_row<true>(first, num_rows, place, bounds, [&](int64_t r, const Share &share) {
            pass.target.clear();
            pass.edges(r, share);
            pass.finish(r, share);
        });
    if constexpr (KIND == GRAPHREC_GATV2) {
        combine(pass.attention, place, true);
        const Tile &tile = pass.tile;
        if (place.warp != 0 || place.group != 0 || !tile.active) return;
        const int64_t start = (int64_t(blockIdx.x) * op.heads + tile.head) * op.dim + tile.column;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) to.attention_partials[start + i] = pass.attention.value[i];
    }
}

// What an edge sends back to its source: keep * p * G, for GATv2 also through the score; the last value sums s(e).
template <typename T, int WIDTH, int KIND>
__device__ __forceinline__ void send_back(const Attention<T> &op, const Gradients<T> &to, const int64_t *edge_ids, int64_t c,
                                          const Tile &tile, const Share &share, const Place &place,
                                          SumOf<typename Sum<T>::type, WIDTH + 1> &total) {
    using S = typename Sum<T>::type;
    const Pack<T, WIDTH> packed = read_message<WIDTH>(op.src_x, op, c, tile);
    for (int64_t base = share.begin; base < share.end; base += share.units) {
        const int64_t position = base + share.unit;
        const int64_t r = position < share.end ? op.indices[position] : -1;
        S g[WIDTH];
        widen(read_message<WIDTH>(to.gradient, op, r, tile), g);
        Scorer<T, WIDTH, KIND> scorer;
        scorer.read_row(op, r < 0 ? 0 : r, tile, place);
        const S score = scorer.score(op, r, r < 0 ? -1 : c, packed, tile, place);
        if (r < 0) continue;
        const int64_t edge = edge_ids[position];
        const S s = to.edge_gradient[edge * op.heads + tile.head];
        const S kept = op.keep(edge, tile.head) * exponential(score - to.lse[r * op.heads + tile.head]);
        [[maybe_unused]] S mine[WIDTH];
        if constexpr (KIND == GRAPHREC_GATV2) widen(packed, mine);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            total.value[i] += kept * g[i];
            if constexpr (KIND == GRAPHREC_GATV2)
                total.value[i] += s * scorer.weight[i] * op.leaky_slope(scorer.mine[i] + mine[i]);
        }
        total.value[WIDTH] += s;
    }
}

// `op` holds the CSR by source here.
template <typename T, int WIDTH, int KIND>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerProcessor) gat_backward_columns(const Attention<T> op, const Gradients<T> to,
                                                                      const int64_t *edge_ids, int64_t num_columns,
                                                                      int lanes) {
    using S = typename Sum<T>::type;
    const Place place = place_of(lanes);
    const Tile tile = tile_of<WIDTH>(op.dim, place);
    const auto bounds = [&](int64_t c, int64_t &begin, int64_t &end) { begin = op.indptr[c], end = op.indptr[c + 1]; };
    each_row(int64_t(blockIdx.x) * kBlockRows, num_columns, place, bounds, [&](int64_t c, const Share &share) {
        SumOf<S, WIDTH + 1> total;
        total.clear();
        send_back<T, WIDTH, KIND>(op, to, edge_ids, c, tile, share, place, total);
        combine(total, place, share.whole_block);
        if (!share.writes(place)) return;
        const int64_t row = c * op.heads + tile.head;
        if (KIND == GRAPHREC_GAT && tile.column == 0) to.src_score_gradient[row] = total.value[WIDTH];
        if (!tile.active) return;
        S x_gradient[WIDTH];
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) x_gradient[i] = total.value[i];
        store(to.src_x_gradient + row * op.dim + tile.column, x_gradient);
    });
}

template <typename T, int KIND>
int32_t launch(const Attention<T> &rows, const Attention<T> &columns, const Gradients<T> &to, const int64_t *edge_ids,
               int64_t num_rows, int64_t num_columns, int64_t num_partials, void *stream) {
    const bool all_aligned = rows.all_aligned(KIND) && aligned(to.y) && aligned(to.gradient) && aligned(to.src_x_gradient) &&
                             aligned(to.dst_x_gradient);
    return for_width<T>(rows.dim, all_aligned, [&](auto width) -> int32_t {
        constexpr int kWidth = decltype(width)::value;
        const int lanes = lanes_for(rows.dim, kWidth);
        const unsigned heads = unsigned(rows.heads), tiles = tiles_for(rows.dim, kWidth);
        const bool scores_only = KIND == GRAPHREC_GAT;  // then a row has nothing for each column
        const dim3 row_grid(scores_only ? blocks_for(num_rows, kBlockRows) : unsigned(num_partials), heads,
                            scores_only ? 1 : tiles);
        const dim3 column_grid(blocks_for(num_columns, kBlockRows), heads, tiles);
        if (num_rows > 0 || KIND == GRAPHREC_GATV2)
            GRAPHREC_LAUNCH((gat_backward_rows<T, kWidth, KIND>), row_grid, kBlockThreads, 0, stream, rows, to, num_rows,
                            lanes);
        if (num_columns > 0)
            GRAPHREC_LAUNCH((gat_backward_columns<T, kWidth, KIND>), column_grid, kBlockThreads, 0, stream, columns, to,
                            edge_ids, num_columns, lanes);
        return launched();
    });
}

}  // namespace

GRAPHREC_CUDA(gat_backward)(int64_t dtype, int64_t kind, int64_t num_rows, int64_t num_columns, int64_t heads, int64_t dim,
                            const int64_t *indptr, const int32_t *indices, const int64_t *t_indptr, const int32_t *t_indices,
                            const int64_t *edge_ids, const void *dst, const void *src_score, const void *src_x,
                            const void *attention, double slope, double dropout, int64_t seed, const void *y, const void *lse,
                            const void *gradient, void *dst_gradient, void *src_score_gradient, void *src_x_gradient,
                            int64_t num_partials, void *attention_partials, void *delta, void *edge_gradient, void *stream) {
    const int32_t refusal = attention_refusal(kind, num_rows, heads, dim, dropout);
    if (refusal != GRAPHREC_OK) return refusal;
    const bool v2 = kind == GRAPHREC_GATV2;
    if (num_columns < 0 || (v2 && (num_partials < 1 || num_partials > INT32_MAX))) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Attention<T> rows(indptr, indices, dst, src_score, src_x, attention, slope, dropout, seed, heads, dim);
        Attention<T> columns = rows;
        columns.indptr = t_indptr, columns.indices = t_indices;
        const Gradients<T> to{static_cast<const T *>(y), static_cast<const T *>(gradient), static_cast<const S *>(lse),
                              static_cast<S *>(delta), static_cast<S *>(edge_gradient),
                              v2 ? nullptr : static_cast<S *>(dst_gradient), static_cast<S *>(src_score_gradient),
                              v2 ? static_cast<T *>(dst_gradient) : nullptr, static_cast<T *>(src_x_gradient),
                              static_cast<S *>(attention_partials)};
        return v2 ? launch<T, GRAPHREC_GATV2>(rows, columns, to, edge_ids, num_rows, num_columns, num_partials, stream)
                  : launch<T, GRAPHREC_GAT>(rows, columns, to, edge_ids, num_rows, num_columns, num_partials, stream);
    });
}
