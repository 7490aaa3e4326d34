// Running top-k lists over scores: most scores lose against the current k-th best and cost a share of one vector compare.
#include "kernel.h"

#if defined(__AVX2__) && !defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr int64_t kChunk = 32;

struct TopList {
    int64_t k;
    float *values;
    int64_t *indices;

    float threshold() const { return values[k - 1]; }

    // Equal values stay behind the ones already there, which have lower columns.
    void insert(float value, int64_t column) {
        int64_t place = k - 1;
        for (; place > 0 && value > values[place - 1]; --place) {
            values[place] = values[place - 1];
            indices[place] = indices[place - 1];
        }
        values[place] = value;
        indices[place] = column;
    }
};

// The columns that a row leaves out.
struct Excluded {
    const int32_t *begin, *end;
    const uint8_t *candidates;

    Excluded(const int64_t *indptr, const int32_t *indices, const uint8_t *mask, int64_t row)
        : begin(indptr ? indices + indptr[row] : nullptr), end(indptr ? indices + indptr[row + 1] : nullptr), candidates(mask) {}

    bool operator()(int64_t column) const {
        if (candidates && !candidates[column]) return true;
        const int32_t *low = begin, *high = end;
        while (low < high) {
            const int32_t *middle = low + (high - low) / 2;
            if (*middle < column) low = middle + 1; else high = middle;
        }
        return low < end && *low == column;
    }
};

void offer(float value, int64_t column, const Excluded &excluded, TopList &list) {
    if (value > list.threshold() && !excluded(column)) list.insert(value, column);
}

// One panel of items against one group of users: the sums of kUsers x kVectors vectors stay in registers.
constexpr int kUsers = kVectorBytes == 64 ? 8 : 4;
constexpr int kVectors = 3;
constexpr int kLanes = Vector<float>::lanes;
constexpr int kPanel = kVectors * kLanes;
constexpr int64_t kPanelLimit = 48;   // the widest panel of all variants; the work space is rounded up to it
constexpr int64_t kUserBlock = 128;   // users that go through a panel while it is in the cache
using V = Vector<float>::type;

// A bit for each lane that beats the threshold.
inline uint32_t winners(V scores, float threshold) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)scores, _mm512_set1_ps(threshold), _CMP_GT_OQ);
#elif defined(__AVX2__)
    return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps((__m256)scores, _mm256_set1_ps(threshold), _CMP_GT_OQ)));
#else
    uint32_t bits = 0;
    for (int lane = 0; lane < kLanes; ++lane) bits |= uint32_t(scores[lane] > threshold) << lane;
    return bits;
#endif
}

struct Scores {
    int64_t num_rows, num_columns, dim;
    const float *user_x, *panels;
    const int64_t *excluded_indptr;
    const int32_t *excluded_indices;
    const uint8_t *candidates;
    int64_t k;
    float *values;
    int64_t *indices;

    template <int USERS>
    void group(int64_t first_user, int64_t panel) const {
        V sum[USERS][kVectors] = {};
        const float *users = user_x + first_user * dim;
        const float *items = panels + panel * kPanel * dim;
        for (int64_t d = 0; d < dim; ++d, items += kPanel) {
            V item[kVectors];
            for (int v = 0; v < kVectors; ++v) item[v] = load(items + v * kLanes);
            for (int u = 0; u < USERS; ++u) {
                const float value = users[u * dim + d];
                for (int v = 0; v < kVectors; ++v) sum[u][v] += value * item[v];
            }
        }
        for (int u = 0; u < USERS; ++u) {
            const int64_t row = first_user + u;
            TopList list{k, values + row * k, indices + row * k};
            for (int v = 0; v < kVectors; ++v) {
                uint32_t bits = winners(sum[u][v], list.threshold());
                if (!bits) continue;
                float scores[kLanes];
                store(scores, sum[u][v]);
                const Excluded excluded(excluded_indptr, excluded_indices, candidates, row);
                for (; bits; bits &= bits - 1) {
                    const int lane = __builtin_ctz(bits);
                    const int64_t column = panel * kPanel + v * kLanes + lane;
                    if (column < num_columns) offer(scores[lane], column, excluded, list);
                }
            }
        }
    }

    void block(int64_t begin, int64_t end) const {
        for (int64_t entry = begin * k; entry < end * k; ++entry) values[entry] = -__builtin_inff(), indices[entry] = -1;
        const int64_t num_panels = (num_columns + kPanel - 1) / kPanel;
        for (int64_t panel = 0; panel < num_panels; ++panel) {
            int64_t user = begin;
            for (; user + kUsers <= end; user += kUsers) group<kUsers>(user, panel);
            for (; user < end; ++user) group<1>(user, panel);
        }
    }
};

// Items as panels of kPanel columns, one dimension after the other, so that the product reads memory in order.
void pack(const float *item_x, int64_t num_columns, int64_t dim, int64_t panel, float *out) {
    for (int64_t d = 0; d < dim; ++d)
        for (int64_t lane = 0; lane < kPanel; ++lane) {
            const int64_t column = panel * kPanel + lane;
            out[(panel * dim + d) * kPanel + lane] = column < num_columns ? item_x[column * dim + d] : 0.0f;
        }
}

}  // namespace

GRAPHREC_CPU(topk)(int64_t num_rows, int64_t num_columns, int64_t first_column, int64_t stride, const float *scores,
                   const int64_t *excluded_indptr, const int32_t *excluded_indices, const uint8_t *candidates, int64_t k,
                   float *values, int64_t *indices, int64_t num_threads) {
    if (num_rows < 0 || num_columns < 0 || stride < num_columns || k < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
#pragma omp parallel for schedule(dynamic, 4) num_threads(int(num_threads))
    for (int64_t row = 0; row < num_rows; ++row) {
        TopList list{k, values + row * k, indices + row * k};
        const Excluded excluded(excluded_indptr, excluded_indices, candidates, row);
        const float *row_scores = scores + row * stride;
        for (int64_t begin = 0; begin < num_columns; begin += kChunk) {
            const int64_t end = begin + kChunk < num_columns ? begin + kChunk : num_columns;
            const float threshold = list.threshold();
            int hits = 0;
            for (int64_t column = begin; column < end; ++column) hits += row_scores[column] > threshold;
            if (!hits) continue;
            for (int64_t column = begin; column < end; ++column)
                offer(row_scores[column], first_column + column, excluded, list);
        }
    }
    return GRAPHREC_OK;
}

GRAPHREC_CPU(topk_scores)(int64_t num_rows, int64_t num_columns, int64_t dim, const float *user_x, const float *item_x,
                          const int64_t *excluded_indptr, const int32_t *excluded_indices, const uint8_t *candidates, int64_t k,
                          float *workspace, float *values, int64_t *indices, int64_t num_threads) {
    if (num_rows < 0 || num_columns < 0 || dim < 1 || k < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    static_assert(kPanelLimit % kPanel == 0, "the caller rounds the work space up to kPanelLimit columns");
    const Scores scores{num_rows, num_columns, dim, user_x, workspace, excluded_indptr, excluded_indices, candidates, k, values, indices};
    const int64_t num_panels = (num_columns + kPanel - 1) / kPanel;
#pragma omp parallel num_threads(int(num_threads))
    {
#pragma omp for schedule(static)
        for (int64_t panel = 0; panel < num_panels; ++panel) pack(item_x, num_columns, dim, panel, workspace);
#pragma omp for schedule(dynamic, 1)
        for (int64_t begin = 0; begin < num_rows; begin += kUserBlock)
            scores.block(begin, begin + kUserBlock < num_rows ? begin + kUserBlock : num_rows);
    }
    return GRAPHREC_OK;
}
