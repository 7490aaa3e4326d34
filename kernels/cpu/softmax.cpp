// The softmax of one tile of scores in place: a row is read from the first cache on every pass after the first.
#include "kernel.h"

#include "exponential.h"

namespace {

constexpr int kRows = 8;  // handed out together

template <typename S>
struct Softmax {
    using V = typename Vector<S>::type;
    static constexpr int64_t kLanes = Vector<S>::lanes;
    int64_t columns;
    const S *log_weight;
    S inverse;  // of the temperature

    // Replaces scores by exponents and returns the largest.
    S exponents(S *row) const {
        V largest = V{} - S(__builtin_inf());
        int64_t j = 0;
        for (; j + kLanes <= columns; j += kLanes) {
            const V value = load(row + j) * inverse + load(log_weight + j);
            largest = value > largest ? value : largest;
            store(row + j, value);
        }
        S result = -S(__builtin_inf());
        for (int lane = 0; lane < kLanes; ++lane) result = largest[lane] > result ? largest[lane] : result;
        for (; j < columns; ++j) {
            row[j] = row[j] * inverse + log_weight[j];
            if (row[j] > result) result = row[j];
        }
        return result;
    }

    // Replaces exponents by exp(exponent - largest) and returns their sum.
    S terms(S *row, S largest) const {
        V sum = {};
        int64_t j = 0;
        for (; j + kLanes <= columns; j += kLanes) {
            const V term = exponential(V(load(row + j) - largest));
            sum += term;
            store(row + j, term);
        }
        if (j < columns) {
            const int64_t rest = columns - j;
            V value = load_part(row + j, rest) - largest;
            for (int64_t lane = rest; lane < kLanes; ++lane) value[lane] = -S(__builtin_inf());
            value = exponential(value);
            sum += value;
            store_part(row + j, value, rest);
        }
        S total = 0;
        for (int lane = 0; lane < kLanes; ++lane) total += sum[lane];
        return total;
    }

    S operator()(S *row, const int32_t *hits, const int32_t *hits_end) const {
        for (; hits < hits_end; ++hits) row[*hits] = -S(__builtin_inf());
        const S largest = exponents(row);
        if (largest == -S(__builtin_inf())) {  // nothing left, unless there are NaN
            bool finite = true;
            for (int64_t j = 0; j < columns; ++j) finite = finite && row[j] == row[j], row[j] = 0;
            return finite ? largest : S(__builtin_nan(""));
        }
        const S sum = terms(row, largest);
        const S scale = 1 / sum;
        for (int64_t j = 0; j < columns; ++j) row[j] *= scale;
        return largest + logarithm(sum);
    }
};

template <typename S>
int32_t run(int64_t num_rows, int64_t num_columns, void *scores, const void *log_weight, const int64_t *hit_indptr,
            const int32_t *hits, double temperature, void *total, [[maybe_unused]] int64_t num_threads) {
    const Softmax<S> softmax{num_columns, static_cast<const S *>(log_weight), S(1 / temperature)};
#pragma omp parallel for schedule(dynamic, kRows) num_threads(int(num_threads))
    for (int64_t b = 0; b < num_rows; ++b)
        static_cast<S *>(total)[b] =
            softmax(static_cast<S *>(scores) + b * num_columns, hits + hit_indptr[b], hits + hit_indptr[b + 1]);
    return GRAPHREC_OK;
}

}  // namespace

GRAPHREC_CPU(softmax_tile)(int64_t dtype, int64_t num_rows, int64_t num_columns, void *scores, const void *log_weight,
                           const int64_t *hit_indptr, const int32_t *hits, double temperature, void *total,
                           int64_t num_threads) {
    if (num_rows < 0 || num_columns < 0 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    if (!(temperature > 0)) return GRAPHREC_BAD_OPTION;
    const auto call = dtype == GRAPHREC_FLOAT32 ? run<float> : dtype == GRAPHREC_FLOAT64 ? run<double> : nullptr;
    if (!call) return GRAPHREC_BAD_DTYPE;
    return call(num_rows, num_columns, scores, log_weight, hit_indptr, hits, temperature, total, num_threads);
}
