// Bayesian personalised ranking on compact tables: the scores of the pairs, and gradients row by row in a fixed order.
#include "loss.h"
#include "rows.h"

namespace {

constexpr int kUnroll = 4;  // gathers in flight per group of lanes
// Float32 fits 80 registers, so that three blocks share a multiprocessor; the others spill unless they get more.
template <typename T>
constexpr int kResidentBlocks = sizeof(T) == 4 ? 3 : kBlocksPerProcessor;

template <typename T>
struct Pairs {
    using S = typename Sum<T>::type;
    const T *user_x, *item_x;
    const int64_t *users, *positives, *negatives;
    int64_t batch, num_negatives, dim;
};

template <typename T, int WIDTH>
struct Scores {
    using S = typename Sum<T>::type;
    const Pairs<T> &pairs;
    const Place &place;
    const T *user;
    S mine[WIDTH];  // the first columns of the user that a lane holds; beyond one tile they are read again

    __device__ __forceinline__ Scores(const Pairs<T> &pairs, const Place &place, int64_t b)
        : pairs(pairs), place(place), user(pairs.user_x + pairs.users[b] * pairs.dim) {
        read(place.part * WIDTH, mine);
    }
    __device__ __forceinline__ void read(int64_t column, S (&to)[WIDTH]) const {
        if (column < pairs.dim) widen(load_pack<WIDTH>(user + column), to);
    }
    // The scores of COUNT items, on every lane of the group.
    template <int COUNT>
    __device__ __forceinline__ void operator()(const int64_t (&item)[COUNT], S (&sum)[COUNT]) const {
        const int64_t first = place.part * WIDTH, tile = int64_t(place.lanes) * WIDTH;
#pragma unroll
        for (int u = 0; u < COUNT; ++u) sum[u] = 0;
        for (int64_t column = first; column < pairs.dim; column += tile) {
            S left[WIDTH];
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) left[i] = mine[i];
            if (column != first) read(column, left);
            Pack<T, WIDTH> right[COUNT];
#pragma unroll
            for (int u = 0; u < COUNT; ++u) right[u] = load_pack<WIDTH>(pairs.item_x + item[u] * pairs.dim + column);
#pragma unroll
            for (int u = 0; u < COUNT; ++u) {
                S wide[WIDTH];
                widen(right[u], wide);
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) sum[u] += left[i] * wide[i];
            }
        }
#pragma unroll
        for (int u = 0; u < COUNT; ++u) sum[u] = edge_sum(sum[u], place.lanes);
    }
};

// A group of lanes takes a pair.
template <typename T, int WIDTH>
__global__ void __launch_bounds__(kBlockThreads, kResidentBlocks<T>) pair_losses(const Pairs<T> pairs, int lanes,
                                                                                 typename Sum<T>::type *losses,
                                                                                 typename Sum<T>::type *slopes) {
    using S = typename Sum<T>::type;
    const Place place = place_of(lanes);
    const int64_t b = (int64_t(blockIdx.x) * kBlockWarps + place.warp) * place.groups + place.group;
    const bool real = b < pairs.batch;
    const int64_t pair = real ? b : pairs.batch - 1;  // the lanes meet in shuffles, so none leaves
    const Scores<T, WIDTH> scores(pairs, place, pair);
    const int64_t *negatives = pairs.negatives + pair * pairs.num_negatives;
    S *slope = slopes + pair * pairs.num_negatives;
    S loss = 0, positive = 0;
    for (int64_t j = 0; j < pairs.num_negatives; j += kUnroll) {
        int64_t item[kUnroll + 1];
        S score[kUnroll + 1];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) item[u] = negatives[j + u < pairs.num_negatives ? j + u : j];
        item[kUnroll] = pairs.positives[pair];
        scores(item, score);
        positive = score[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            if (j + u >= pairs.num_negatives) continue;
            loss += softplus(score[u] - positive);
            if (real && place.part == 0) slope[j + u] = sigmoid(score[u] - positive);
        }
    }
    if (real && place.part == 0) losses[b] = loss;
}

// What a row of a gradient sums: entry e of the row gives a weight and a row of the other table.
template <typename T>
struct UserEntries {
    using S = typename Sum<T>::type;
    Pairs<T> pairs;
    const S *slopes;
    const int64_t *order;

    // The negatives of the row's pairs and, behind those of each pair, its positive with minus the sum of the slopes.
    __device__ __forceinline__ const T *operator()(int64_t entry, S &weight) const {
        const int64_t n = pairs.num_negatives, pair = order[entry / (n + 1)], j = entry % (n + 1);
        if (j < n) {
            weight = slopes[pair * n + j];
            return pairs.item_x + pairs.negatives[pair * n + j] * pairs.dim;
        }
        weight = 0;
        for (int64_t other = 0; other < n; ++other) weight -= slopes[pair * n + other];
        return pairs.item_x + pairs.positives[pair] * pairs.dim;
    }
    __device__ __forceinline__ int64_t row(int64_t place) const { return pairs.users[order[place]]; }
    __device__ __forceinline__ int64_t entries() const { return pairs.num_negatives + 1; }
};

template <typename T>
struct ItemEntries {
    using S = typename Sum<T>::type;
    Pairs<T> pairs;
    const S *slopes;
    const int64_t *order;

    __device__ __forceinline__ const T *operator()(int64_t entry, S &weight) const {
        const int64_t n = pairs.num_negatives, place = order[entry] - pairs.batch;
        int64_t pair = place / n;
        if (place >= 0) {
            weight = slopes[place];
        } else {
            pair = place + pairs.batch;
            weight = 0;
            for (int64_t other = 0; other < n; ++other) weight -= slopes[pair * n + other];
        }
        return pairs.user_x + pairs.users[pair] * pairs.dim;
    }
    __device__ __forceinline__ int64_t row(int64_t place) const {
        const int64_t entry = order[place];
        return entry < pairs.batch ? pairs.positives[entry] : pairs.negatives[entry - pairs.batch];
    }
    __device__ __forceinline__ int64_t entries() const { return 1; }
};

// One table's gradient. With fewer places in `order` than rows, `some`, only the rows that these name are summed, each at its first
// place, and all are set to zero before.
template <typename T, typename Entries>
struct Side {
    Entries entries;
    const int64_t *indptr;
    T *out;
    bool some;
    int64_t num_rows, count;  // of places with `some`, else of rows

    Side(const Entries &entries, int64_t num_places, int64_t num_rows, const int64_t *indptr, void *out)
        : entries(entries), indptr(indptr), out(static_cast<T *>(out)), some(num_places < num_rows), num_rows(num_rows),
          count(some ? num_places : num_rows) {}

    bool set_zero(int64_t dim, void *stream) const {
        const size_t bytes = size_t(num_rows) * size_t(dim) * sizeof(T);
        return !some || cudaMemsetAsync(out, 0, bytes, static_cast<cudaStream_t>(stream)) == cudaSuccess;
    }
    __device__ __forceinline__ int64_t row(int64_t at) const { return some ? entries.row(at) : at; }
    __device__ __forceinline__ void bounds(int64_t at, int64_t &begin, int64_t &end) const {
        const int64_t first = indptr[row(at)];
        begin = first * entries.entries(), end = some && first != at ? begin : indptr[row(at) + 1] * entries.entries();
    }
};

template <int WIDTH, typename T, typename Entries>
__device__ __forceinline__ void sum_rows(const Side<T, Entries> &side, int64_t block, int64_t dim, int lanes,
                                         typename Sum<T>::type factor) {
    using S = typename Sum<T>::type;
    const Place place = place_of(lanes);
    const int64_t column = (int64_t(blockIdx.y) * lanes + place.part) * WIDTH;
    const auto bounds = [&](int64_t at, int64_t &begin, int64_t &end) { side.bounds(at, begin, end); };
    each_row(block * kBlockRows, side.count, place, bounds, [&](int64_t at, const Share &share) {
        if (side.some && share.begin == share.end) return;
        SumOf<S, WIDTH> sum;
        sum.clear();
        if (column < dim)
            for (int64_t base = share.begin + share.unit; base < share.end; base += kUnroll * share.units) {
                S weight[kUnroll];
                Pack<T, WIDTH> x[kUnroll];
#pragma unroll
                for (int u = 0; u < kUnroll; ++u) {
                    const int64_t entry = base + u * share.units;
                    weight[u] = 0;
                    if (entry < share.end) x[u] = load_pack<WIDTH>(side.entries(entry, weight[u]) + column);
                }
#pragma unroll
                for (int u = 0; u < kUnroll; ++u) {
                    if (base + u * share.units >= share.end) continue;
                    S wide[WIDTH];
                    widen(x[u], wide);
#pragma unroll
                    for (int i = 0; i < WIDTH; ++i) sum.value[i] += weight[u] * wide[i];
                }
            }
        combine(sum, place, share.whole_block);
        if (!share.writes(place) || column >= dim) return;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) sum.value[i] *= factor;
        store<WIDTH>(side.out + side.row(at) * dim + column, sum.value);
    });
}

// The first `user_blocks` blocks are the users', the others the items'.
template <int WIDTH, typename T>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerProcessor)
    row_gradients(const Side<T, UserEntries<T>> users, const Side<T, ItemEntries<T>> items, unsigned user_blocks, int64_t dim,
                  int lanes, const typename Sum<T>::type *gradient, typename Sum<T>::type scale) {
    const typename Sum<T>::type factor = scale * gradient[0];
    if (blockIdx.x < user_blocks) sum_rows<WIDTH>(users, blockIdx.x, dim, lanes, factor);
    else sum_rows<WIDTH>(items, blockIdx.x - user_blocks, dim, lanes, factor);
}

}  // namespace

GRAPHREC_CUDA(bpr)(int64_t dtype, int64_t batch, int64_t num_negatives, int64_t dim, const void *user_x, const void *item_x,
                   const int64_t *users, const int64_t *positives, const int64_t *negatives, void *losses, void *slopes,
                   void *stream) {
    if (batch < 0 || num_negatives < 1 || dim < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        if (batch == 0) return GRAPHREC_OK;
        const Pairs<T> pairs{static_cast<const T *>(user_x), static_cast<const T *>(item_x), users, positives, negatives,
                             batch, num_negatives, dim};
        return for_width<T>(dim, aligned(user_x) && aligned(item_x), [&](auto width) -> int32_t {
            constexpr int kWidth = decltype(width)::value;
            const int lanes = lanes_for(dim, kWidth);
            GRAPHREC_LAUNCH((pair_losses<T, kWidth>), blocks_for(batch, kBlockThreads / lanes), kBlockThreads, 0, stream, pairs,
                            lanes, static_cast<S *>(losses), static_cast<S *>(slopes));
            return launched();
        });
    });
}

GRAPHREC_CUDA(bpr_backward)(int64_t dtype, int64_t num_users, int64_t num_items, int64_t batch, int64_t num_negatives,
                            int64_t dim, const void *user_x, const void *item_x, const int64_t *users,
                            const int64_t *positives, const int64_t *negatives, const void *slopes, const void *gradient,
                            double scale, const int64_t *user_indptr, const int64_t *user_order, const int64_t *item_indptr,
                            const int64_t *item_order, void *user_gradient, void *item_gradient, void *stream) {
    if (num_users < 0 || num_items < 0 || batch < 0 || num_negatives < 1 || dim < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Pairs<T> pairs{static_cast<const T *>(user_x), static_cast<const T *>(item_x), users, positives, negatives,
                             batch, num_negatives, dim};
        const Side<T, UserEntries<T>> by_user({pairs, static_cast<const S *>(slopes), user_order}, batch, num_users, user_indptr,
                                              user_gradient);
        const Side<T, ItemEntries<T>> by_item({pairs, static_cast<const S *>(slopes), item_order}, batch * (1 + num_negatives),
                                              num_items, item_indptr, item_gradient);
        if (!by_user.set_zero(dim, stream) || !by_item.set_zero(dim, stream)) return GRAPHREC_DEVICE_ERROR;
        const bool all_aligned = aligned(user_x) && aligned(item_x) && aligned(user_gradient) && aligned(item_gradient);
        return for_width<T>(dim, all_aligned, [&](auto width) -> int32_t {
            constexpr int kWidth = decltype(width)::value;
            const unsigned user_blocks = blocks_for(by_user.count, kBlockRows);
            const dim3 grid(user_blocks + blocks_for(by_item.count, kBlockRows), tiles_for(dim, kWidth));
            GRAPHREC_LAUNCH((row_gradients<kWidth, T>), grid, kBlockThreads, 0, stream, by_user, by_item, user_blocks, dim,
                            lanes_for(dim, kWidth), static_cast<const S *>(gradient), S(scale));
            return launched();
        });
    });
}
