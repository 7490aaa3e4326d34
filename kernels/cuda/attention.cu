// Multi-head attention over edges with a one-pass online softmax.
//
// One warp (or block, see rows.h) per row and head; scores are never written. Wide heads fall into tiles of columns, one
// block each, which compute the scores anew.
#include "attention.h"

namespace {

// The running softmax of a row: largest score, sum of exp(score - largest), and the weighted sum of messages.
template <typename S, int WIDTH>
struct SoftmaxOf {
    S largest, mass;
    S value[WIDTH];

    __device__ __forceinline__ void clear() {
        largest = -S(INFINITY), mass = S(0);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) value[i] = S(0);
    }
    // What exponents count from: 0 while there are only weights of 0, whose scores are -inf.
    __device__ __forceinline__ S base() const { return largest == -S(INFINITY) ? S(0) : largest; }
    // Raises `largest` to a new maximum.
    __device__ __forceinline__ void raise(S maximum) {
        if (!(maximum > largest)) return;
        const S factor = exponential(largest - maximum);
        largest = maximum, mass *= factor;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) value[i] *= factor;
    }
    __device__ __forceinline__ void merge(SoftmaxOf other) {
        raise(other.largest);
        other.raise(largest);
        mass += other.mass;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) value[i] += other.value[i];
    }
};

template <typename T, int WIDTH, int KIND>
__device__ __forceinline__ void attend(const Attention<T> &op, int64_t r, const Tile &tile, const Share &share,
                                       const Place &place, SoftmaxOf<typename Sum<T>::type, WIDTH> &total) {
    using S = typename Sum<T>::type;
    Scorer<T, WIDTH, KIND> scorer;
    scorer.read_row(op, r, tile, place);
    // The lanes of an edge meet in shuffles, so the warp leaves the loop together.
    for (int64_t base = share.begin; base < share.end; base += kUnroll * share.units) {
        int32_t source[kUnroll];
        Pack<T, WIDTH> x[kUnroll];
        S score[kUnroll], largest = -S(INFINITY);
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t edge = base + u * share.units + share.unit;
            source[u] = edge < share.end ? op.indices[edge] : -1;
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) x[u] = read_message<WIDTH>(op.src_x, op, source[u], tile);
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            score[u] = scorer.score(op, r, source[u], x[u], tile, place);
            if (source[u] >= 0) largest = max(largest, score[u]);
        }
        total.raise(largest);
        const S from = total.base();
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            if (source[u] < 0) continue;
            const S weight = exponential(score[u] - from);
            const S kept = weight * op.keep(base + u * share.units + share.unit, tile.head);
            S wide[WIDTH];
            widen(x[u], wide);
            total.mass += weight;
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) total.value[i] += kept * wide[i];
        }
    }
}

template <typename T, int WIDTH, int KIND>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerProcessor) gat_rows(const Attention<T> op, int64_t num_rows, int lanes, T *y,
                                                          typename Sum<T>::type *lse) {
    using S = typename Sum<T>::type;
    const Place place = place_of(lanes);
    const Tile tile = tile_of<WIDTH>(op.dim, place);
    const auto bounds = [&](int64_t r, int64_t &begin, int64_t &end) { begin = op.indptr[r], end = op.indptr[r + 1]; };
    each_row(int64_t(blockIdx.x) * kBlockRows, num_rows, place, bounds, [&](int64_t r, const Share &share) {
        SoftmaxOf<S, WIDTH> total;
        total.clear();
        attend<T, WIDTH, KIND>(op, r, tile, share, place, total);
        combine(total, place, share.whole_block);
        if (!share.writes(place)) return;
        const bool empty = share.begin == share.end;
        const int64_t row = r * op.heads + tile.head;
        if (tile.column == 0) lse[row] = empty ? -S(INFINITY) : total.largest + logarithm(total.mass);
        if (!tile.active) return;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) total.value[i] = empty ? S(0) : total.value[i] / total.mass;
        store(y + row * op.dim + tile.column, total.value);
    });
}

template <typename T, int KIND>
int32_t launch(const Attention<T> &op, int64_t num_rows, void *y, void *lse, void *stream) {
    using S = typename Sum<T>::type;
    return for_width<T>(op.dim, op.all_aligned(KIND) && aligned(y), [&](auto width) -> int32_t {
        constexpr int kWidth = decltype(width)::value;
        const dim3 grid(blocks_for(num_rows, kBlockRows), unsigned(op.heads), tiles_for(op.dim, kWidth));
        GRAPHREC_LAUNCH((gat_rows<T, kWidth, KIND>), grid, kBlockThreads, 0, stream, op, num_rows, lanes_for(op.dim, kWidth),
                        static_cast<T *>(y), static_cast<S *>(lse));
        return launched();
    });
}

}  // namespace

GRAPHREC_CUDA(gat)(int64_t dtype, int64_t kind, int64_t num_rows, int64_t heads, int64_t dim, const int64_t *indptr,
                   const int32_t *indices, const void *dst, const void *src_score, const void *src_x, const void *attention,
                   double slope, double dropout, int64_t seed, void *y, void *lse, void *stream) {
    const int32_t refusal = attention_refusal(kind, num_rows, heads, dim, dropout);
    if (refusal != GRAPHREC_OK) return refusal;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        const Attention<T> op(indptr, indices, dst, src_score, src_x, attention, slope, dropout, seed, heads, dim);
        if (num_rows == 0) return GRAPHREC_OK;
        return kind == GRAPHREC_GAT ? launch<T, GRAPHREC_GAT>(op, num_rows, y, lse, stream)
                                    : launch<T, GRAPHREC_GATV2>(op, num_rows, y, lse, stream);
    });
}
