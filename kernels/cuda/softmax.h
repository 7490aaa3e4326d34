// What the sampled softmax and its gradients share: the batch, its hits, and tiles of 32 rows by 128 columns.
#pragma once

#include "loss.h"
#include "product.h"

namespace {

constexpr int kRows = 2;  // of a thread
constexpr int kRowsOfTile = kTileRows<kRows>;
constexpr int kBits = 32;

template <typename T>
struct Batch {
    using S = typename Sum<T>::type;
    int64_t batch, num_negatives, dim;
    const T *user_x, *item_x;
    const int64_t *users, *positives, *negatives;
    const S *log_weight;
    const int64_t *hit_indptr;
    const int32_t *hits;
    S inverse;  // of the temperature
    bool vector;

    __device__ __forceinline__ const T *user(int64_t b) const { return b < batch ? user_x + users[b] * dim : nullptr; }
    __device__ __forceinline__ const T *positive(int64_t b) const { return item_x + positives[b] * dim; }
    __device__ __forceinline__ const T *negative(int64_t j) const {
        return j < num_negatives ? item_x + negatives[j] * dim : nullptr;
    }

    // A bit for each of the negatives first .. first + 31 that pair b leaves out.
    __device__ __forceinline__ unsigned hit_bits(int64_t b, int64_t first) const {
        if (b >= batch) return 0;
        const int64_t end = hit_indptr[b + 1];
        int64_t low = hit_indptr[b], high = end;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (hits[middle] < first) low = middle + 1;
            else high = middle;
        }
        unsigned bits = 0;
        for (; low < end && hits[low] < first + kBits; ++low) bits |= 1u << (hits[low] - first);
        return bits;
    }
};

// The batch from an operator's arguments.
template <typename T>
Batch<T> batch_of(int64_t batch, int64_t num_negatives, int64_t dim, const void *user_x, const void *item_x, const int64_t *users,
                  const int64_t *positives, const int64_t *negatives, const void *log_weight, const int64_t *hit_indptr,
                  const int32_t *hits, double temperature) {
    using S = typename Sum<T>::type;
    return {batch, num_negatives, dim, static_cast<const T *>(user_x), static_cast<const T *>(item_x), users, positives,
            negatives, static_cast<const S *>(log_weight), hit_indptr, hits, S(1 / temperature),
            vectors<T>(user_x, item_x, dim)};
}

inline int32_t check(int64_t batch, int64_t num_negatives, int64_t dim, double temperature) {
    if (batch < 0 || num_negatives < 0 || dim < 1 || dim > kLargestDim) return GRAPHREC_BAD_SIZE;
    return temperature > 0 ? GRAPHREC_OK : GRAPHREC_BAD_OPTION;
}

}  // namespace
