// Negatives and neighbours from counter-based random numbers: the same draws, bit for bit, as on every other device.
#include "device.h"
#include "graphrec_random.h"

namespace {

constexpr int kThreads = 256;

struct Negatives {
    const int64_t *users, *indptr;
    const int32_t *indices;
    const int64_t *pool;
    uint32_t slots;
    const float *probability;
    const int32_t *alias;
    uint64_t seed, first_counter;
    int64_t max_attempts;

    __device__ __forceinline__ int64_t item(int64_t entry, int64_t attempt) const {
        const graphrec_random random = graphrec_philox(seed, first_counter + uint64_t(entry), uint64_t(attempt));
        int64_t slot = graphrec_below(random.word[0], slots);
        if (probability && graphrec_unit(random.word[1]) >= probability[slot]) slot = alias[slot];
        return pool ? pool[slot] : slot;
    }

    __device__ __forceinline__ bool known(const int32_t *history, int64_t length, int64_t item) const {
        if (!length) return false;
        while (length > 1) {
            const int64_t half = length / 2;
            history += history[half] <= item ? half : 0;
            length -= half;
        }
        return *history == item;
    }
};

__global__ void __launch_bounds__(kThreads) draw_negatives(const Negatives draws, int64_t count, int64_t *out,
                                                           unsigned long long *num_failed) {
    const int64_t entry = int64_t(blockIdx.x) * kThreads + threadIdx.x;
    if (entry >= count) return;
    const int64_t user = draws.users[entry], begin = draws.indptr[user], length = draws.indptr[user + 1] - begin;
    for (int64_t attempt = 0; attempt < draws.max_attempts; ++attempt) {
        const int64_t item = draws.item(entry, attempt);
        if (draws.known(draws.indices + begin, length, item)) continue;
        out[entry] = item;
        return;
    }
    out[entry] = -1;
    atomicAdd(num_failed, 1ull);
}

// One row of sample_neighbors, drawn by a warp. `edges` and `work`, of `fanout` each, are the row's two outputs.
struct Row {
    int64_t begin, degree, fanout;
    const float *weights;  // of the row, or NULL
    uint64_t seed, counter;
    int64_t *edges, *work;
    int lane;

    // Chosen without an index, which would put the words into local memory.
    __device__ __forceinline__ uint32_t word(int64_t n) const {
        const graphrec_random random = graphrec_philox(seed, counter, uint64_t(n) / 4);
        const int place = int(n & 3);
        return place < 2 ? (place ? random.word[1] : random.word[0]) : (place > 2 ? random.word[3] : random.word[2]);
    }

    __device__ __forceinline__ float weight(int64_t p) const { return p < degree ? weights[p] : 0.0f; }

    // The key of the race as bits, which order like it because keys are positive; all ones for edges that never win.
    __device__ __forceinline__ uint64_t key(int64_t p) const {
        const float w = weight(p);
        if (!(w > 0)) return ~uint64_t(0);
        return uint64_t(__double_as_longlong(double(graphrec_race(word(p))) / double(w)));
    }

    // Writes the edges for which keep(p) holds, in order, at most fanout of them; returns how many.
    template <typename Keep>
    __device__ int64_t compact(Keep keep) const {
        int64_t count = 0;
#pragma unroll 1
        for (int64_t base = 0; base < degree; base += kWarp) {
            const bool mine = keep(base + lane);
            const unsigned votes = __ballot_sync(kAllLanes, mine);
            const int64_t at = count + __popc(votes & ((1u << lane) - 1));
            if (mine && at < fanout) edges[at] = begin + base + lane;
            count += __popc(votes);
        }
        return count < fanout ? count : fanout;
    }

    __device__ int64_t every_positive() const {
        return compact([&](int64_t p) { return p < degree && (!weights || weights[p] > 0); });
    }

    __device__ int64_t uniform_replaced() const {
        if (!degree) return 0;
        for (int64_t n = lane; n < fanout; n += kWarp) edges[n] = begin + graphrec_below(word(n), uint32_t(degree));
        return fanout;
    }

    // Floyd's method, one draw after the other; the lanes look together whether a place was taken.
    __device__ int64_t uniform_distinct() const {
        uint32_t words = 0;
        for (int64_t n = 0; n < fanout; ++n) {
            if (n % kWarp == 0) words = word(n + lane);
            const int64_t last = degree - fanout + n;
            int64_t place = graphrec_below(__shfl_sync(kAllLanes, words, int(n % kWarp)), uint32_t(last + 1));
            bool taken = false;
            for (int64_t other = lane; other < n; other += kWarp) taken = taken || work[other] == place;
            if (__any_sync(kAllLanes, taken)) place = last;
            if (lane == int(n % kWarp)) work[n] = place;  // the lane that reads it again
        }
        __syncwarp();
        for (int64_t n = lane; n < fanout; n += kWarp) {
            const int64_t place = work[n];
            int64_t rank = 0;
            for (int64_t other = 0; other < fanout; ++other) rank += work[other] < place;
            edges[rank] = begin + place;
        }
        return fanout;
    }

    // The running sum of the weights in order, which every lane keeps: another order would round differently. Calls
    // visit(p, sum) after each positive weight until it returns true on every lane.
    template <typename Visit>
    __device__ void run_through(Visit visit) const {
        double sum = 0;
        for (int64_t base = 0; base < degree; base += kWarp) {
            const float mine = weight(base + lane);
            bool done = false;
            for (int i = 0; i < kWarp; ++i) {
                const float w = __shfl_sync(kAllLanes, mine, i);
                if (!(w > 0)) continue;
                sum += double(w);
                done = visit(base + i, sum);
            }
            if (__all_sync(kAllLanes, done)) return;
        }
    }

    __device__ int64_t weighted_replaced() const {
        double total = 0;
        int64_t last = -1;
        run_through([&](int64_t p, double sum) {
            total = sum, last = p;
            return false;
        });
        if (last < 0) return 0;
        for (int64_t first = 0; first < fanout; first += kWarp) {
            const int64_t n = first + lane;
            const double target = double(word(n)) * (1.0 / 4294967296.0) * total;
            int64_t found = -1;
            run_through([&](int64_t p, double sum) {
                if (found < 0 && sum > target) found = p;
                return found >= 0;
            });
            if (n < fanout) edges[n] = begin + (found < 0 ? last : found);
        }
        return fanout;
    }

    // The fanout smallest keys by radix selection from the highest byte down: `counts` holds how many keys that agree with
    // the bytes found so far have each value of the next byte.
    __device__ int64_t weighted_distinct(unsigned *counts) const {
        int64_t positive = 0;
        for (int64_t base = 0; base < degree; base += kWarp)
            positive += __popc(__ballot_sync(kAllLanes, weight(base + lane) > 0));
        if (positive <= fanout) return every_positive();
        uint64_t bound = 0;       // the bytes found so far of the largest key that is taken
        int64_t wanted = fanout;  // how many of the keys that agree with them are taken
        int shift = 64;
        for (bool done = false; shift > 0 && !done;) {
            shift -= 8;
            for (int digit = lane; digit < 256; digit += kWarp) counts[digit] = 0;
            __syncwarp();
#pragma unroll 1  // a key takes many registers
            for (int64_t p = lane; p < degree; p += kWarp) {
                const uint64_t bits = key(p);
                const bool agrees = shift == 56 || (bits >> (shift + 8)) == (bound >> (shift + 8));
                if (agrees && bits != ~uint64_t(0)) atomicAdd(&counts[(bits >> shift) & 255], 1u);
            }
            __syncwarp();
            int digit = 0;
            for (; int64_t(counts[digit]) < wanted; ++digit) wanted -= counts[digit];
            bound |= uint64_t(digit) << shift;
            done = int64_t(counts[digit]) == wanted;
            __syncwarp();
        }
        // Keys below the bound are taken, and the first `wanted` of those that agree with it.
        int64_t before = 0;
        return compact([&](int64_t p) {
            const uint64_t bits = key(p) >> shift;
            const bool equal = bits == bound >> shift;
            const unsigned votes = __ballot_sync(kAllLanes, equal);
            const bool taken = bits < bound >> shift || (equal && before + __popc(votes & ((1u << lane) - 1)) < wanted);
            before += __popc(votes);
            return taken;
        });
    }
};

template <bool WEIGHTED, bool REPLACE>
__global__ void __launch_bounds__(kThreads, 1) draw_neighbors(int64_t num_rows, int64_t fanout, const int64_t *rows,
                                                           const int64_t *indptr, const int32_t *indices,
                                                           const float *weights, uint64_t seed, uint64_t first_counter,
                                                           int64_t *out_columns, int64_t *out_edges) {
    __shared__ unsigned counts[WEIGHTED && !REPLACE ? kThreads / kWarp : 1][256];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const int64_t i = int64_t(blockIdx.x) * (kThreads / kWarp) + warp;
    if (i >= num_rows) return;
    const int64_t begin = indptr[rows[i]];
    const Row row{begin, indptr[rows[i] + 1] - begin, fanout, WEIGHTED ? weights + begin : nullptr, seed,
                  first_counter + uint64_t(i), out_edges + i * fanout, out_columns + i * fanout, lane};
    int64_t kept;
    if constexpr (REPLACE && WEIGHTED) kept = row.weighted_replaced();
    else if constexpr (REPLACE) kept = row.uniform_replaced();
    else if (row.degree <= fanout) kept = row.every_positive();
    else if constexpr (WEIGHTED) kept = row.weighted_distinct(counts[warp]);
    else kept = row.uniform_distinct();
    __syncwarp();
    for (int64_t n = lane; n < fanout; n += kWarp) {
        if (n >= kept) row.edges[n] = -1;
        row.work[n] = n < kept ? indices[row.edges[n]] : -1;
    }
}

}  // namespace

GRAPHREC_CUDA(sample_negatives)(int64_t count, int64_t num_items, const int64_t *users, const int64_t *indptr,
                                const int32_t *indices, const int64_t *pool, int64_t pool_size,
                                const float *alias_probability, const int32_t *alias_index, int64_t seed,
                                int64_t first_counter, int64_t max_attempts, int64_t *out, int64_t *num_failed, void *stream) {
    const int64_t slots = pool ? pool_size : num_items;
    if (count < 0 || slots < 1 || slots > INT32_MAX || max_attempts < 1) return GRAPHREC_BAD_SIZE;
    if (count == 0) return GRAPHREC_OK;
    const Negatives draws{users, indptr, indices, pool, uint32_t(slots), alias_probability, alias_index, uint64_t(seed),
                          uint64_t(first_counter), max_attempts};
    GRAPHREC_LAUNCH(draw_negatives, blocks_for(count, kThreads), kThreads, 0, stream, draws, count, out,
                    reinterpret_cast<unsigned long long *>(num_failed));
    return launched();
}

GRAPHREC_CUDA(sample_neighbors)(int64_t num_rows, int64_t fanout, int64_t replace, const int64_t *rows, const int64_t *indptr,
                                const int32_t *indices, const float *weights, int64_t seed, int64_t first_counter,
                                int64_t *out_columns, int64_t *out_edges, void *stream) {
    if (num_rows < 0 || fanout < 1) return GRAPHREC_BAD_SIZE;
    if (replace != 0 && replace != 1) return GRAPHREC_BAD_OPTION;
    if (num_rows == 0) return GRAPHREC_OK;
    const auto kernel = weights ? (replace ? draw_neighbors<true, true> : draw_neighbors<true, false>)
                                : (replace ? draw_neighbors<false, true> : draw_neighbors<false, false>);
    GRAPHREC_LAUNCH(kernel, blocks_for(num_rows, kThreads / kWarp), kThreads, 0, stream, num_rows, fanout, rows, indptr, indices,
                    weights, uint64_t(seed), uint64_t(first_counter), out_columns, out_edges);
    return launched();
}
