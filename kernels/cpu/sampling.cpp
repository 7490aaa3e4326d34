// Negatives and neighbours from counter-based random numbers: entry i of a call gets the same draws from any thread and device.
#include "graphrec_random.h"
#include "kernel.h"

namespace {

constexpr int64_t kBlock = 64;  // entries whose first random words are made together

struct Draws {
    const int64_t *users, *indptr;
    const int32_t *indices;
    const int64_t *pool;
    uint32_t slots;
    const float *probability;
    const int32_t *alias;
    uint64_t seed, first_counter;
    int64_t max_attempts;

    int64_t item(uint32_t slot_word, uint32_t alias_word) const {
        int64_t slot = graphrec_below(slot_word, slots);
        if (probability && graphrec_unit(alias_word) >= probability[slot]) slot = alias[slot];
        return pool ? pool[slot] : slot;
    }

    // Whether the item is in the history. The conditional move has no branch to mispredict.
    bool known(int64_t user, int64_t item) const {
        const int32_t *base = indices + indptr[user];
        int64_t length = indptr[user + 1] - indptr[user];
        if (!length) return false;
        while (length > 1) {
            const int64_t half = length / 2;
            base += base[half] <= item ? half : 0;
            length -= half;
        }
        return *base == item;
    }
};

// The first two words of the first attempts: independent lanes, which the compiler turns into vectors.
void first_words(const Draws &draws, int64_t entry, uint32_t *slot_word, uint32_t *alias_word) {
    const uint64_t first = draws.first_counter + uint64_t(entry);
    for (int64_t lane = 0; lane < kBlock; ++lane) {
        const graphrec_random random = graphrec_philox(draws.seed, first + uint64_t(lane), 0);
        slot_word[lane] = random.word[0];
        alias_word[lane] = random.word[1];
    }
}

// Draws entries start .. start + count - 1, count at most kBlock; returns how many failed.
int64_t draw_block(const Draws &draws, int64_t start, int64_t count, int64_t *out) {
    uint32_t slot_word[kBlock], alias_word[kBlock];
    first_words(draws, start, slot_word, alias_word);
    for (int64_t lane = 0; lane < count; ++lane) __builtin_prefetch(draws.indices + draws.indptr[draws.users[start + lane]]);
    int64_t failed = 0;
    for (int64_t lane = 0; lane < count; ++lane) {
        const int64_t user = draws.users[start + lane];
        int64_t item = draws.item(slot_word[lane], alias_word[lane]);
        for (int64_t attempt = 1; draws.known(user, item); ++attempt) {
            if (attempt == draws.max_attempts) {
                item = -1;
                ++failed;
                break;
            }
            const uint64_t counter = draws.first_counter + uint64_t(start + lane);
            const graphrec_random random = graphrec_philox(draws.seed, counter, uint64_t(attempt));
            item = draws.item(random.word[0], random.word[1]);
        }
        out[start + lane] = item;
    }
    return failed;
}

// One row of sample_neighbors: `edges` of the row's `degree`, from `begin` on.
struct Row {
    int64_t begin, degree, fanout;
    const float *weights;  // of the row, or NULL
    uint64_t seed, counter;
    int64_t *edges;

    uint32_t word(int64_t n) const { return graphrec_philox(seed, counter, uint64_t(n) / 4).word[n & 3]; }

    // Fills `edges` and returns how many there are.
    int64_t draw(bool replace, double *scratch) const {
        if (replace) return weights ? weighted_replaced(scratch) : uniform_replaced();
        if (degree <= fanout) return every_positive();
        return weights ? weighted_distinct(scratch) : uniform_distinct();
    }

    int64_t uniform_replaced() const {
        if (!degree) return 0;
        for (int64_t n = 0; n < fanout; n += 4) {
            const graphrec_random random = graphrec_philox(seed, counter, uint64_t(n) / 4);
            for (int64_t k = n; k < n + 4 && k < fanout; ++k)
                edges[k] = begin + graphrec_below(random.word[k - n], uint32_t(degree));
        }
        return fanout;
    }

    // Floyd's method; the taken edges are kept in ascending order.
    int64_t uniform_distinct() const {
        graphrec_random random = {};
        for (int64_t n = 0; n < fanout; ++n) {
            if (n % 4 == 0) random = graphrec_philox(seed, counter, uint64_t(n) / 4);
            const int64_t last = degree - fanout + n;
            int64_t edge = begin + graphrec_below(random.word[n & 3], uint32_t(last + 1));
            int64_t at = n;
            while (at > 0 && edges[at - 1] > edge) --at;
            if (at > 0 && edges[at - 1] == edge) edge = begin + last, at = n;  // `last` is above all that were taken
            std::memmove(edges + at + 1, edges + at, size_t(n - at) * sizeof *edges);
            edges[at] = edge;
        }
        return fanout;
    }

    int64_t every_positive() const {
        int64_t count = 0;
        for (int64_t p = 0; p < degree; ++p)
            if (!weights || weights[p] > 0) edges[count++] = begin + p;
        return count;
    }

    // sums: `degree` doubles of scratch.
    int64_t weighted_replaced(double *sums) const {
        double sum = 0;
        int64_t last = -1;
        for (int64_t p = 0; p < degree; ++p) {
            if (weights[p] > 0) sum += double(weights[p]), last = p;
            sums[p] = sum;
        }
        if (last < 0) return 0;
        for (int64_t n = 0; n < fanout; ++n) {
            const double target = double(word(n)) * (1.0 / 4294967296.0) * sum;
            int64_t low = 0, high = last;  // a step up is at an edge with a positive weight
            while (low < high) {
                const int64_t middle = (low + high) / 2;
                if (sums[middle] > target) high = middle; else low = middle + 1;
            }
            edges[n] = begin + low;
        }
        return fanout;
    }

    // scratch: degree + fanout doubles, the keys and a heap of the smallest with the largest of them on top.
    int64_t weighted_distinct(double *scratch) const {
        double *keys = scratch, *heap = scratch + degree;
        int64_t positive = 0;
        graphrec_random random = {};
        for (int64_t p = 0; p < degree; ++p) {
            if (p % 4 == 0) random = graphrec_philox(seed, counter, uint64_t(p) / 4);
            if (!(weights[p] > 0)) {
                keys[p] = __builtin_inf();
                continue;
            }
            keys[p] = double(graphrec_race(random.word[p & 3])) / double(weights[p]);
            if (positive < fanout) heap[positive] = keys[p];
            if (++positive < fanout) continue;
            if (positive == fanout)
                for (int64_t node = fanout / 2; node-- > 0;) sink(heap, node, heap[node]);
            else if (keys[p] < heap[0])
                sink(heap, 0, keys[p]);
        }
        if (positive <= fanout) return every_positive();
        int64_t ties = fanout, count = 0;  // how many of the keys equal to the largest are taken
        for (int64_t p = 0; p < degree; ++p) ties -= keys[p] < heap[0];
        for (int64_t p = 0; p < degree; ++p)
            if (keys[p] < heap[0] || (keys[p] == heap[0] && ties-- > 0)) edges[count++] = begin + p;
        return count;
    }

    // Puts `value` into the heap at `node`, whose old value is dropped, and lets it sink to its place.
    void sink(double *heap, int64_t node, double value) const {
        for (int64_t child; (child = 2 * node + 1) < fanout; node = child) {
            if (child + 1 < fanout && heap[child + 1] > heap[child]) ++child;
            if (heap[child] <= value) break;
            heap[node] = heap[child];
        }
        heap[node] = value;
    }
};

}  // namespace

GRAPHREC_CPU(sample_negatives)(int64_t count, int64_t num_items, const int64_t *users, const int64_t *indptr,
                               const int32_t *indices, const int64_t *pool, int64_t pool_size,
                               const float *alias_probability, const int32_t *alias_index, int64_t seed,
                               int64_t first_counter, int64_t max_attempts, int64_t *out, int64_t *num_failed,
                               int64_t num_threads) {
    const int64_t slots = pool ? pool_size : num_items;
    if (count < 0 || slots < 1 || slots > INT32_MAX || max_attempts < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    const Draws draws{users, indptr, indices, pool, uint32_t(slots), alias_probability, alias_index, uint64_t(seed),
                      uint64_t(first_counter), max_attempts};
    int64_t failed = 0;
#pragma omp parallel for schedule(static) reduction(+ : failed) num_threads(int(num_threads))
    for (int64_t block = 0; block < (count + kBlock - 1) / kBlock; ++block) {
        const int64_t left = count - block * kBlock;
        failed += draw_block(draws, block * kBlock, left < kBlock ? left : kBlock, out);
    }
    num_failed[0] += failed;
    return GRAPHREC_OK;
}

GRAPHREC_CPU(sample_neighbors)(int64_t num_rows, int64_t fanout, int64_t replace, const int64_t *rows, const int64_t *indptr,
                               const int32_t *indices, const float *weights, int64_t seed, int64_t first_counter,
                               int64_t *out_columns, int64_t *out_edges, int64_t num_threads) {
    if (num_rows < 0 || fanout < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    if (replace != 0 && replace != 1) return GRAPHREC_BAD_OPTION;
    int64_t longest = 0;
    for (int64_t i = 0; weights && i < num_rows; ++i) {
        const int64_t degree = indptr[rows[i] + 1] - indptr[rows[i]];
        if (degree > longest) longest = degree;
    }
    int64_t skipped = 0;
#pragma omp parallel num_threads(int(num_threads)) reduction(+ : skipped)
    {
        double *scratch =
            weights ? static_cast<double *>(__builtin_malloc(size_t(longest + fanout) * sizeof(double))) : nullptr;
#pragma omp for schedule(dynamic, 64)
        for (int64_t i = 0; i < num_rows; ++i) {
            if (weights && !scratch) {
                ++skipped;
                continue;
            }
            const int64_t begin = indptr[rows[i]];
            const Row row{begin, indptr[rows[i] + 1] - begin, fanout, weights ? weights + begin : nullptr, uint64_t(seed),
                          uint64_t(first_counter) + uint64_t(i), out_edges + i * fanout};
            const int64_t kept = row.draw(replace, scratch);
            for (int64_t n = 0; n < fanout; ++n) {
                if (n >= kept) row.edges[n] = -1;
                out_columns[i * fanout + n] = n < kept ? indices[row.edges[n]] : -1;
            }
        }
        __builtin_free(scratch);
    }
    return skipped ? GRAPHREC_BAD_SIZE : GRAPHREC_OK;  // out of memory: a row is too long
}
