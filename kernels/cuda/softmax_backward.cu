// The gradients of the sampled softmax, from scores that are computed again.
//
// The gradients by users and by negatives are two launches of one kernel: its rows are the pairs and its columns the
// negatives, or the other way round. A tile's weights go through shared memory into a second product, whose sums stay in
// registers: 32 rows by 64 dimensions of a block.
#include "softmax.h"

namespace {

constexpr int kDims = 64;  // of the gradient that a block sums, four for each of 16 threads
constexpr int kUnroll = 4;

template <typename T>
struct Slopes {
    using S = typename Sum<T>::type;
    const S *total, *slopes, *gradient;
    S scale;  // of the loss, over the temperature

    __device__ __forceinline__ S of_pair(int64_t b) const { return gradient[0] * scale * slopes[b]; }
};

// The two products follow each other, so that they can use the same memory.
template <typename T>
union Space {
    Operand<T, kRows> scores;
    alignas(16) typename Sum<T>::type weight[kTileColumns][kRowsOfTile + 2];  // by column; even, so that two rows load at once
};

template <typename T>
struct Shared {
    Space<T> space;
    const T *from[kTileColumns];             // the columns' rows of the table
    typename Sum<T>::type total[kTileColumns], factor[kTileColumns];  // of the pairs in the tile, rows or columns
    unsigned bits[kTileColumns];             // hits: BY_USER by row and group of columns, else by column
};

// The softmax weights of a tile, by negatives times the slope of the pair.
template <typename T, bool BY_USER>
__device__ __forceinline__ void weights(const Batch<T> &of, Shared<T> &shared, const Spot<kRows> &spot, int64_t first_row,
                                        int64_t first_column, const typename Sum<T>::type (&score)[kRows][kMine]) {
    using S = typename Sum<T>::type;
#pragma unroll
    for (int u = 0; u < kRows; ++u)
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
            const int row = spot.first_row + u, column = spot.column(i), pair = BY_USER ? row : column;
            const int64_t b = BY_USER ? first_row + row : first_column + column;
            const int64_t j = BY_USER ? first_column + column : first_row + row;
            const unsigned word = BY_USER ? shared.bits[row * 4 + column / kBits] : shared.bits[column];
            const bool hit = word >> (BY_USER ? column % kBits : row) & 1;
            S weight = 0;
            if (b < of.batch && j < of.num_negatives && !hit && shared.total[pair] != -S(INFINITY))
                weight = exponential(score[u][i] * of.inverse + of.log_weight[j] - shared.total[pair]);
            shared.space.weight[column][row] = BY_USER ? weight : weight * shared.factor[pair];
        }
}

// What the tile adds to the gradient: rows threadIdx.x / 16 * 2 and the next, four dimensions from d on.
template <typename T>
__device__ __forceinline__ void add_rows(const Batch<T> &of, const Shared<T> &shared, int d,
                                         typename Sum<T>::type (&sum)[kRows][4]) {
    using S = typename Sum<T>::type;
    const int row = threadIdx.x / 16 * kRows;
#pragma unroll kUnroll
    for (int column = 0; column < kTileColumns; ++column) {
        S x[4], weight[kRows];
        load_shared(&shared.space.weight[column][row], weight);
        load_four(shared.from[column], d, int(of.dim), of.vector, x);
#pragma unroll
        for (int u = 0; u < kRows; ++u)
#pragma unroll
            for (int i = 0; i < 4; ++i) sum[u][i] += weight[u] * x[i];
    }
}

template <typename T, bool BY_USER>
__device__ __forceinline__ void write(const Batch<T> &of, const Slopes<T> &slopes, int64_t first_row, int d,
                                      const typename Sum<T>::type (&sum)[kRows][4], T *out, T *positive_out) {
    using S = typename Sum<T>::type;
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
        const int64_t r = first_row + threadIdx.x / 16 * kRows + u;
        if (r >= (BY_USER ? of.batch : of.num_negatives)) continue;
        const S factor = BY_USER ? slopes.of_pair(r) : S(1);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (d + i >= of.dim) continue;
            if constexpr (BY_USER) {
                narrow(factor * (sum[u][i] - widen(of.positive(r)[d + i])), out[r * of.dim + d + i]);
                narrow(-factor * widen(of.user(r)[d + i]), positive_out[r * of.dim + d + i]);
            } else {
                narrow(sum[u][i], out[r * of.dim + d + i]);
            }
        }
    }
}

template <typename T, bool BY_USER>
__global__ void __launch_bounds__(kTileThreads, 1) softmax_gradients(const Batch<T> of, const Slopes<T> slopes, T *out,
                                                                  T *positive_out) {
    using S = typename Sum<T>::type;
    __shared__ Shared<T> shared;
    const Spot<kRows> spot;
    const int64_t first_row = int64_t(blockIdx.x) * kRowsOfTile, num_columns = BY_USER ? of.num_negatives : of.batch;
    const int d = int(blockIdx.y) * kDims + int(threadIdx.x % 16) * 4, place = threadIdx.x / 2, thread = threadIdx.x;
    const T *row = nullptr;
    if (place < kRowsOfTile) row = BY_USER ? of.user(first_row + place) : of.negative(first_row + place);
    S sum[kRows][4] = {};
    for (int64_t first = 0; first < num_columns; first += kTileColumns) {
        if (thread < kTileColumns) {
            shared.from[thread] = BY_USER ? of.negative(first + thread) : of.user(first + thread);
            const int64_t b = BY_USER ? first_row + thread / 4 : first + thread;
            shared.bits[thread] = of.hit_bits(b, BY_USER ? first + thread % 4 * kBits : first_row);
            const int64_t pair = BY_USER ? first_row + thread : first + thread;
            const bool real = pair < of.batch && (!BY_USER || thread < kRowsOfTile);
            shared.total[thread] = real ? slopes.total[pair] : S(0);
            shared.factor[thread] = real ? slopes.of_pair(pair) : S(0);
        }
        S score[kRows][kMine];
        const T *column = BY_USER ? of.negative(first + place) : of.user(first + place);
        product<T, kRows>(shared.space.scores, spot, row, column, int(of.dim), of.vector, score);
        weights<T, BY_USER>(of, shared, spot, first_row, first, score);
        __syncthreads();
        add_rows(of, shared, d, sum);
        __syncthreads();
    }
    write<T, BY_USER>(of, slopes, first_row, d, sum, out, positive_out);
}

}  // namespace

GRAPHREC_CUDA(sampled_softmax_backward)(int64_t dtype, int64_t batch, int64_t num_negatives, int64_t dim, const void *user_x,
                                        const void *item_x, const int64_t *users, const int64_t *positives,
                                        const int64_t *negatives, const void *log_weight, const int64_t *hit_indptr,
                                        const int32_t *hits, double temperature, const void *total, const void *slopes,
                                        const void *gradient, double scale, void *pair_gradient, void *positive_gradient,
                                        void *negative_gradient, void *stream) {
    if (const int32_t status = check(batch, num_negatives, dim, temperature)) return status;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Batch<T> of = batch_of<T>(batch, num_negatives, dim, user_x, item_x, users, positives, negatives, log_weight,
                                        hit_indptr, hits, temperature);
        const Slopes<T> slope{static_cast<const S *>(total), static_cast<const S *>(slopes), static_cast<const S *>(gradient),
                              S(scale / temperature)};
        const unsigned parts = blocks_for(dim, kDims);
        if (batch > 0)
            GRAPHREC_LAUNCH((softmax_gradients<T, true>), dim3(blocks_for(batch, kRowsOfTile), parts), kTileThreads, 0, stream, of,
                            slope, static_cast<T *>(pair_gradient), static_cast<T *>(positive_gradient));
        if (num_negatives > 0)
            GRAPHREC_LAUNCH((softmax_gradients<T, false>), dim3(blocks_for(num_negatives, kRowsOfTile), parts), kTileThreads, 0,
                            stream, of, slope, static_cast<T *>(negative_gradient), static_cast<T *>(nullptr));
        return launched();
    });
}
