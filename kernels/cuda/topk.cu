// The best columns of a product of two tables: the scores stay in registers, where most lose against the threshold.
//
// A block takes 16 * ROWS users and all items, 128 at a time. A score above its user's threshold goes into the user's buffer
// in shared memory; when one fills up, warps look up the seen items, all at once, and merge the buffers into the lists.
// Thresholds come from lower columns only, so that an equal score of a later tile loses rightly; within a merge score and
// column decide, so that the order in which threads filled a buffer does not show.
#include <cmath>
#include <type_traits>

#include "product.h"

namespace {

constexpr int kBuffer = 16;   // candidates that a user can have waiting
constexpr int kMergeAt = 12;  // how many of them start a merge
constexpr int64_t kSharedList = 64;  // the longest list that is kept in shared memory
constexpr int64_t kManyUsers = 8448;  // blocks of 64 users for each of 132 processors

struct Task {
    int64_t num_users, num_items, dim;
    const float *user_x, *item_x;
    const int64_t *seen_indptr;
    const int32_t *seen;
    const uint8_t *candidates;
    int64_t k;
    float *values;
    int64_t *indices;
    bool vector;

    __device__ __forceinline__ bool has_seen(int64_t user, int32_t item) const {
        if (!seen_indptr) return false;
        const int64_t end = seen_indptr[user + 1];
        int64_t low = seen_indptr[user], high = end;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (seen[middle] < item) low = middle + 1;
            else high = middle;
        }
        return low < end && seen[low] == item;
    }
};

template <int ROWS>
struct Buffers {
    static constexpr int kUsers = kTileRows<ROWS>;
    alignas(16) float threshold[kUsers];
    int count[kUsers];
    float value[kBuffer][kUsers];
    int item[kBuffer][kUsers];
};

// Whether a score and its column come before another's.
__device__ __forceinline__ bool before(float value, int64_t item, float other_value, int64_t other_item) {
    return value > other_value || (value == other_value && item < other_item);
}

// Inserts into a sorted list of k entries, 32 of them moving at once, from the end on.
template <typename Index>
__device__ __forceinline__ void insert(float value, Index item, int64_t k, float *values, Index *items, int lane) {
    for (int64_t first = (k - 1) / kWarp * kWarp; first >= 0; first -= kWarp) {
        const int64_t entry = first + lane;
        float here = 0, ahead = 0;
        Index here_item = 0, ahead_item = 0;
        bool beats = false, beats_ahead = false;
        if (entry < k) {
            here = values[entry], here_item = items[entry];
            beats = before(value, item, here, here_item);
            if (entry > 0) {
                ahead = values[entry - 1], ahead_item = items[entry - 1];
                beats_ahead = before(value, item, ahead, ahead_item);
            }
        }
        __syncwarp();
        if (beats) values[entry] = beats_ahead ? ahead : value, items[entry] = beats_ahead ? ahead_item : item;
        __syncwarp();
        if (!__shfl_sync(kAllLanes, int(beats_ahead), 0)) return;  // nothing moves further ahead
    }
}

// Where the lists are: in shared memory, or in the outputs when they are long.
template <int ROWS, bool SHARED>
struct Lists {
    using Index = std::conditional_t<SHARED, int, int64_t>;
    float *values;
    Index *items;
    int64_t k;

    __device__ __forceinline__ Lists(const Task &task, int64_t first_user, [[maybe_unused]] float *shared) : k(task.k) {
        if constexpr (SHARED) {
            values = shared;
            items = reinterpret_cast<int *>(shared + kTileRows<ROWS> * k);
        } else {
            values = task.values + first_user * k;
            items = task.indices + first_user * k;
        }
    }
    __device__ __forceinline__ void clear(int64_t num_users) const {
        for (int64_t entry = threadIdx.x; entry < num_users * k; entry += kTileThreads)
            values[entry] = -INFINITY, items[entry] = -1;
    }
    __device__ __forceinline__ void write([[maybe_unused]] const Task &task, [[maybe_unused]] int64_t first_user,
                                          [[maybe_unused]] int64_t num_users) const {
        if constexpr (SHARED)
            for (int64_t entry = threadIdx.x; entry < num_users * k; entry += kTileThreads) {
                task.values[first_user * k + entry] = values[entry];
                task.indices[first_user * k + entry] = items[entry];
            }
    }
};

// Empties the buffers into the lists. A warp takes every eighth user.
template <int ROWS, bool SHARED>
__device__ __forceinline__ void merge(const Task &task, Buffers<ROWS> &buffers, const Lists<ROWS, SHARED> &lists,
                                      int64_t first_user) {
    constexpr int kUsers = kTileRows<ROWS>;
    // Neighbouring threads take neighbouring users, few of whom have many candidates: most warps skip the later slots.
    for (int slot = threadIdx.x; slot < kUsers * kBuffer; slot += kTileThreads) {
        const int user = slot % kUsers, at = slot / kUsers;
        if (at < buffers.count[user] && task.has_seen(first_user + user, buffers.item[at][user]))
            buffers.value[at][user] = -INFINITY;
    }
    __syncthreads();
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    for (int user = warp; user < kUsers; user += kTileThreads / kWarp) {
        const int count = min(buffers.count[user], kBuffer);
        float *values = lists.values + user * lists.k;
        for (int at = 0; at < count; ++at) {
            const float value = buffers.value[at][user];
            if (value != -INFINITY)
                insert<typename Lists<ROWS, SHARED>::Index>(value, buffers.item[at][user], lists.k, values,
                                                            lists.items + user * lists.k, lane);
        }
        __syncwarp();
        if (lane == 0 && count) buffers.count[user] = 0, buffers.threshold[user] = values[lists.k - 1];
    }
    __syncthreads();
}

// Puts the scores above the thresholds into the buffers, merging when one fills up.
template <int ROWS, bool SHARED>
__device__ __forceinline__ void offer(const Task &task, Buffers<ROWS> &buffers, const Lists<ROWS, SHARED> &lists,
                                      const Spot<ROWS> &spot, int64_t first_user, int64_t first_item,
                                      const float (&score)[ROWS][kMine]) {
    unsigned allowed = (1u << kMine) - 1;
    if (task.candidates || first_item + kTileColumns > task.num_items) {
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
            const int64_t item = first_item + spot.column(i);
            if (item >= task.num_items || (task.candidates && !task.candidates[item])) allowed &= ~(1u << i);
        }
    }
    static_assert(ROWS * kMine <= 64, "a bit for each score of a thread");
    uint64_t waiting = 0;
    float threshold[ROWS];
    load_shared(&buffers.threshold[spot.first_row], threshold);
#pragma unroll
    for (int u = 0; u < ROWS; ++u) {
        unsigned above = 0;
#pragma unroll
        for (int i = 0; i < kMine; ++i)
            if (score[u][i] > threshold[u]) above |= 1u << i;
        waiting |= uint64_t(above & allowed) << (u * kMine);
    }
    for (;;) {
        bool full = false;
        if (waiting) {
#pragma unroll
            for (int u = 0; u < ROWS; ++u) {
                if (!(waiting >> (u * kMine) & 255)) continue;
                const int user = spot.first_row + u;
                const float threshold = buffers.threshold[user];
#pragma unroll
                for (int i = 0; i < kMine; ++i) {
                    const uint64_t bit = uint64_t(1) << (u * kMine + i);
                    if (!(waiting & bit)) continue;
                    // After a merge the threshold may be a later column of this tile, so an equal score may still win.
                    const int at = score[u][i] >= threshold ? atomicAdd(&buffers.count[user], 1) : -1;
                    full = full || at + 1 >= kMergeAt;
                    if (at >= kBuffer) continue;
                    waiting &= ~bit;
                    if (at < 0) continue;
                    buffers.value[at][user] = score[u][i];
                    buffers.item[at][user] = int(first_item) + spot.column(i);
                }
            }
        }
        if (!__syncthreads_or(full)) return;
        merge<ROWS, SHARED>(task, buffers, lists, first_user);
    }
}

template <int ROWS, bool SHARED>
__global__ void __launch_bounds__(kTileThreads, 2) best_scores(const Task task) {
    constexpr int kUsers = kTileRows<ROWS>;
    __shared__ Operand<float, ROWS> operand;
    __shared__ Buffers<ROWS> buffers;
    GRAPHREC_DYNAMIC_SHARED(float, shared_lists);
    const int64_t first_user = int64_t(blockIdx.x) * kUsers, left = task.num_users - first_user;
    const int64_t num_users = left < kUsers ? left : kUsers;
    const Lists<ROWS, SHARED> lists(task, first_user, shared_lists);
    lists.clear(num_users);
    for (int user = threadIdx.x; user < kUsers; user += kTileThreads) {
        buffers.threshold[user] = user < num_users ? -INFINITY : INFINITY;  // nothing comes above that of no user
        buffers.count[user] = 0;
    }
    const Spot<ROWS> spot;
    const int place = threadIdx.x / 2;
    const float *row = place < num_users ? task.user_x + (first_user + place) * task.dim : nullptr;
    for (int64_t first_item = 0; first_item < task.num_items; first_item += kTileColumns) {
        const int64_t item = first_item + place;
        const float *column = item < task.num_items ? task.item_x + item * task.dim : nullptr;
        float score[ROWS][kMine];
        product<float, ROWS>(operand, spot, row, column, int(task.dim), task.vector, score);
        offer<ROWS, SHARED>(task, buffers, lists, spot, first_user, first_item, score);
    }
    __syncthreads();
    merge<ROWS, SHARED>(task, buffers, lists, first_user);
    lists.write(task, first_user, num_users);
}

template <int ROWS, bool SHARED>
int32_t run(const Task &task, void *stream) {
    constexpr int kUsers = kTileRows<ROWS>;
    const size_t bytes = SHARED ? size_t(kUsers) * size_t(task.k) * (sizeof(float) + sizeof(int)) : 0;
    const auto kernel = best_scores<ROWS, SHARED>;
    if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes)) != cudaSuccess)
        return GRAPHREC_DEVICE_ERROR;
    GRAPHREC_LAUNCH(kernel, blocks_for(task.num_users, kUsers), kTileThreads, bytes, stream, task);
    return launched();
}

}  // namespace

GRAPHREC_CUDA(topk_scores)(int64_t num_rows, int64_t num_columns, int64_t dim, const float *user_x, const float *item_x,
                           const int64_t *excluded_indptr, const int32_t *excluded_indices, const uint8_t *candidates, int64_t k,
                           [[maybe_unused]] float *workspace, float *values, int64_t *indices, void *stream) {
    if (num_rows < 0 || num_columns < 0 || num_columns > INT32_MAX - kTileColumns || dim < 1 || dim > kLargestDim || k < 1)
        return GRAPHREC_BAD_SIZE;
    if (num_rows == 0) return GRAPHREC_OK;
    const Task task{num_rows, num_columns, dim, user_x, item_x, excluded_indptr, excluded_indices, candidates, k,
                    values, indices, vectors<float>(user_x, item_x, dim)};
    if (k > kSharedList) return run<2, false>(task, stream);
    return num_rows < kManyUsers ? run<2, true>(task, stream) : run<8, true>(task, stream);
}
