// Bayesian personalised ranking on compact rows: losses of pairs, and gradients summed row by row in a fixed order.
#include "dot.h"
#include "exponential.h"

namespace {

inline float logarithm_of_more_than_one(float x) { return __builtin_log1pf(x); }
inline double logarithm_of_more_than_one(double x) { return __builtin_log1p(x); }

// log(1 + exp(x)) and its slope, from the exponential of -|x|, which cannot overflow.
template <typename S>
inline S softplus(S x, S &slope) {
    const S small = exponential(x < 0 ? x : -x);
    slope = (x < 0 ? small : S(1)) / (1 + small);
    return (x > 0 ? x : x != x ? x : S(0)) + logarithm_of_more_than_one(small);
}

constexpr int64_t kColumns = 64;

// sum += weight * row, for `width` columns.
template <typename T, typename S>
inline void add(S *sum, S weight, const T *row, int64_t width) {
    if (width == kColumns)
        for (int64_t d = 0; d < kColumns; ++d) sum[d] += weight * widen(row[d]);
    else
        for (int64_t d = 0; d < width; ++d) sum[d] += weight * widen(row[d]);
}

template <typename T>
struct Gradients {
    using S = typename Sum<T>::type;
    const T *user_x, *item_x;
    const int64_t *users, *positives, *negatives;
    const S *slopes;
    S scale;
    int64_t batch, num_negatives, dim;

    void user_columns(S *sum, const int64_t *pair, const int64_t *end, int64_t offset, int64_t width) const {
        for (; pair < end; ++pair) {
            const int64_t first = *pair * num_negatives;
            S slope = 0;
            for (int64_t j = first; j < first + num_negatives; ++j) {
                slope += slopes[j];
                add(sum, slopes[j], item_x + negatives[j] * dim + offset, width);
            }
            add(sum, -slope, item_x + positives[*pair] * dim + offset, width);
        }
    }

    void item_columns(S *sum, const int64_t *entry, const int64_t *end, int64_t offset, int64_t width) const {
        for (; entry < end; ++entry) {
            const int64_t pair = *entry < batch ? *entry : (*entry - batch) / num_negatives;
            S slope = 0;
            if (*entry < batch)
                for (int64_t j = pair * num_negatives; j < (pair + 1) * num_negatives; ++j) slope -= slopes[j];
            else
                slope = slopes[*entry - batch];
            add(sum, slope, user_x + users[pair] * dim + offset, width);
        }
    }

    // out[r] = scale * the sum over the row's entries; `columns` is one of the two above.
    template <typename Columns>
    void all(int64_t num_rows, const int64_t *indptr, const int64_t *order, T *out, Columns columns,
             [[maybe_unused]] int64_t num_threads) const {
#pragma omp parallel for schedule(dynamic, 32) num_threads(int(num_threads))
        for (int64_t r = 0; r < num_rows; ++r)
            for (int64_t offset = 0; offset < dim; offset += kColumns) {
                const int64_t width = dim - offset < kColumns ? dim - offset : kColumns;
                S sum[kColumns] = {};
                (this->*columns)(sum, order + indptr[r], order + indptr[r + 1], offset, width);
                for (int64_t d = 0; d < width; ++d) narrow(scale * sum[d], out[r * dim + offset + d]);
            }
    }
};

}  // namespace

GRAPHREC_CPU(bpr)(int64_t dtype, int64_t batch, int64_t num_negatives, int64_t dim, const void *user_x, const void *item_x,
                  const int64_t *users, const int64_t *positives, const int64_t *negatives, void *losses, void *slopes,
                  int64_t num_threads) {
    if (batch < 0 || num_negatives < 1 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const T *items = static_cast<const T *>(item_x);
#pragma omp parallel for schedule(static) num_threads(int(num_threads))
        for (int64_t b = 0; b < batch; ++b) {
            const T *user = static_cast<const T *>(user_x) + users[b] * dim;
            const S positive = dot(user, items + positives[b] * dim, dim);
            S loss = 0;
            for (int64_t j = b * num_negatives; j < (b + 1) * num_negatives; ++j)
                loss += softplus(S(dot(user, items + negatives[j] * dim, dim) - positive), static_cast<S *>(slopes)[j]);
            static_cast<S *>(losses)[b] = loss;
        }
        return GRAPHREC_OK;
    });
}

GRAPHREC_CPU(bpr_backward)(int64_t dtype, int64_t num_users, int64_t num_items, int64_t batch, int64_t num_negatives,
                           int64_t dim, const void *user_x, const void *item_x, const int64_t *users,
                           const int64_t *positives, const int64_t *negatives, const void *slopes, const void *gradient,
                           double scale, const int64_t *user_indptr, const int64_t *user_order, const int64_t *item_indptr,
                           const int64_t *item_order, void *user_gradient, void *item_gradient, int64_t num_threads) {
    if (num_users < 0 || num_items < 0 || batch < 0 || num_negatives < 1 || dim < 1 || num_threads < 1)
        return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Gradients<T> of{static_cast<const T *>(user_x), static_cast<const T *>(item_x), users, positives, negatives,
                              static_cast<const S *>(slopes), S(scale) * static_cast<const S *>(gradient)[0], batch,
                              num_negatives, dim};
        of.all(num_users, user_indptr, user_order, static_cast<T *>(user_gradient), &Gradients<T>::user_columns, num_threads);
        of.all(num_items, item_indptr, item_order, static_cast<T *>(item_gradient), &Gradients<T>::item_columns, num_threads);
        return GRAPHREC_OK;
    });
}
