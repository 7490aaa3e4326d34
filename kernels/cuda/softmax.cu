// The sampled softmax without its score matrix: sums by a running log-sum-exp.
#include "softmax.h"

namespace {

// log of the sum of exp(largest) * sum over what was added.
template <typename S>
struct LogSum {
    S largest, sum;

    __device__ __forceinline__ void scale_to(S other) {
        const S next = other > largest ? other : largest;
        // Nothing but -inf so far: any finite base gives exp(-inf) = 0 instead of exp(-inf + inf).
        sum *= exponential(largest - base(next));
        largest = next;
    }
    __device__ __forceinline__ static S base(S largest) { return largest == -S(INFINITY) ? S(0) : largest; }
    __device__ __forceinline__ void merge(S other_largest, S other_sum) {
        scale_to(other_largest);
        sum += other_sum * exponential(other_largest - base(largest));
    }
    __device__ __forceinline__ S value() const { return sum == 0 ? -S(INFINITY) : largest + logarithm(sum); }
};

template <typename T>
__device__ __forceinline__ void add_tile(const Batch<T> &of, const unsigned (&bits)[kRowsOfTile][4], const Spot<kRows> &spot,
                                         int64_t first, const typename Sum<T>::type (&score)[kRows][kMine],
                                         LogSum<typename Sum<T>::type> (&total)[kRows]) {
    using S = typename Sum<T>::type;
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
        S exponent[kMine], largest = -S(INFINITY);
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
            const int column = spot.column(i);
            const bool counts = first + column < of.num_negatives &&
                                !(bits[spot.first_row + u][column / kBits] >> (column % kBits) & 1);
            exponent[i] = counts ? score[u][i] * of.inverse + of.log_weight[first + column] : -S(INFINITY);
            largest = exponent[i] > largest ? exponent[i] : largest;
        }
        total[u].scale_to(largest);
        const S base = LogSum<S>::base(total[u].largest);
#pragma unroll
        for (int i = 0; i < kMine; ++i) total[u].sum += exponential(exponent[i] - base);
    }
}

// losses, total and slopes of 32 pairs from their totals: eight lanes take the positive's score of a pair.
template <typename T>
__device__ __forceinline__ void finish(const Batch<T> &of, int64_t first_pair, const typename Sum<T>::type *totals,
                                       typename Sum<T>::type *losses, typename Sum<T>::type *total,
                                       typename Sum<T>::type *slopes) {
    using S = typename Sum<T>::type;
    const int row = threadIdx.x / 8, part = threadIdx.x % 8;
    const int64_t b = first_pair + row;
    S score = 0;
    if (b < of.batch)
        for (int64_t d = part; d < of.dim; d += 8) score += widen(of.user(b)[d]) * widen(of.positive(b)[d]);
    score = warp_sum<8>(score);
    if (part != 0 || b >= of.batch) return;
    const S excess = totals[row] - score * of.inverse;
    total[b] = totals[row];
    losses[b] = softplus(excess);
    slopes[b] = sigmoid(excess);
}

template <typename T>
__global__ void __launch_bounds__(kTileThreads) softmax_totals(const Batch<T> of, typename Sum<T>::type *losses,
                                                               typename Sum<T>::type *total,
                                                               typename Sum<T>::type *slopes) {
    using S = typename Sum<T>::type;
    __shared__ Operand<T, kRows> operand;
    __shared__ unsigned bits[kRowsOfTile][4];
    __shared__ LogSum<S> halves[2][kRowsOfTile];
    __shared__ S totals[kRowsOfTile];
    const Spot<kRows> spot;
    const int64_t first_pair = int64_t(blockIdx.x) * kRowsOfTile;
    const int place = threadIdx.x / 2, half = threadIdx.x / kWarp % 2;
    const T *row = place < kRowsOfTile ? of.user(first_pair + place) : nullptr;
    LogSum<S> mine[kRows];
    for (int u = 0; u < kRows; ++u) mine[u] = {-S(INFINITY), S(0)};
    for (int64_t first = 0; first < of.num_negatives; first += kTileColumns) {
        if (threadIdx.x < kRowsOfTile * 4)
            bits[threadIdx.x / 4][threadIdx.x % 4] =
                of.hit_bits(first_pair + threadIdx.x / 4, first + int(threadIdx.x % 4) * kBits);
        S score[kRows][kMine];
        product<T, kRows>(operand, spot, row, of.negative(first + place), int(of.dim), of.vector, score);
        add_tile(of, bits, spot, first, score, mine);
        __syncthreads();
    }
#pragma unroll
    for (int u = 0; u < kRows; ++u) {
#pragma unroll
        for (int distance = 1; distance < 8; distance *= 2) {
            const S largest = __shfl_xor_sync(kAllLanes, mine[u].largest, distance);
            const S sum = __shfl_xor_sync(kAllLanes, mine[u].sum, distance);
            mine[u].merge(largest, sum);
        }
        if (threadIdx.x % 8 == 0) halves[half][spot.first_row + u] = mine[u];
    }
    __syncthreads();
    if (threadIdx.x < kRowsOfTile) {
        LogSum<S> whole = halves[0][threadIdx.x];
        whole.merge(halves[1][threadIdx.x].largest, halves[1][threadIdx.x].sum);
        totals[threadIdx.x] = whole.value();
    }
    __syncthreads();
    finish(of, first_pair, totals, losses, total, slopes);
}

}  // namespace

GRAPHREC_CUDA(sampled_softmax)(int64_t dtype, int64_t batch, int64_t num_negatives, int64_t dim, const void *user_x,
                               const void *item_x, const int64_t *users, const int64_t *positives, const int64_t *negatives,
                               const void *log_weight, const int64_t *hit_indptr, const int32_t *hits, double temperature,
                               void *losses, void *total, void *slopes, void *stream) {
    if (const int32_t status = check(batch, num_negatives, dim, temperature)) return status;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        if (batch == 0) return GRAPHREC_OK;
        const Batch<T> of = batch_of<T>(batch, num_negatives, dim, user_x, item_x, users, positives, negatives, log_weight,
                                        hit_indptr, hits, temperature);
        GRAPHREC_LAUNCH(softmax_totals<T>, blocks_for(batch, kRowsOfTile), kTileThreads, 0, stream, of,
                        static_cast<S *>(losses), static_cast<S *>(total), static_cast<S *>(slopes));
        return launched();
    });
}
