// Running top-k over tiles of a score matrix: most scores lose against the current k-th best and cost one vector compare.
#include "variants.h"

#include <limits>

namespace graphrec {
namespace GRAPHREC_VARIANT {

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

// Columns begin..end-1 of one row hold no excluded column.
static void scan(const float *scores, int64_t begin, int64_t end, int64_t first_column, TopList &list) {
    int64_t column = begin;
    for (; column + kChunk <= end; column += kChunk) {
        const float threshold = list.threshold();
        int hits = 0;
        for (int64_t lane = 0; lane < kChunk; ++lane) hits += scores[column + lane] > threshold;
        if (!hits) continue;
        for (int64_t lane = 0; lane < kChunk; ++lane)
            if (scores[column + lane] > list.threshold()) list.insert(scores[column + lane], first_column + column + lane);
    }
    for (; column < end; ++column)
        if (scores[column] > list.threshold()) list.insert(scores[column], first_column + column);
}

void topk(int64_t num_rows, int64_t num_columns, int64_t first_column, int64_t stride, const float *scores,
          const int64_t *excluded_indptr, const int32_t *excluded_indices, int64_t k, float *values, int64_t *indices,
          [[maybe_unused]] int num_threads) {
#pragma omp parallel for schedule(dynamic, 4) num_threads(num_threads)
    for (int64_t row = 0; row < num_rows; ++row) {
        TopList list{k, values + row * k, indices + row * k};
        const float *row_scores = scores + row * stride;
        int64_t next = 0;
        if (excluded_indptr) {
            const int32_t *excluded = excluded_indices + excluded_indptr[row];
            const int64_t count = excluded_indptr[row + 1] - excluded_indptr[row];
            int64_t low = 0, high = count;  // first excluded column inside the tile
            while (low < high) {
                const int64_t middle = (low + high) / 2;
                if (excluded[middle] < first_column) low = middle + 1; else high = middle;
            }
            for (; low < count && excluded[low] < first_column + num_columns; ++low) {
                const int64_t column = excluded[low] - first_column;
                scan(row_scores, next, column, first_column, list);
                next = column + 1;
            }
        }
        scan(row_scores, next, num_columns, first_column, list);
    }
}

}  // namespace GRAPHREC_VARIANT
}  // namespace graphrec
