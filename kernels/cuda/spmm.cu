// Sparse-times-dense product over CSR rows with normalisation, edge weights, row restriction and the epilogue fused; its
// maximum, and the gradient of that, which is a sum over the edges that won.
#include "rows.h"

namespace {

constexpr int kUnroll = 4;  // gathers in flight per group of lanes
enum Kind { kSum, kMax, kWinners };
// With 64 registers four blocks share a multiprocessor and hide more of the gathers' latency; some kernels would spill.
template <typename T, Kind KIND>
constexpr int kResidentBlocks = sizeof(T) == 8 ? kBlocksPerProcessor : sizeof(T) == 4 || KIND == kSum ? 4 : 3;

template <typename T>
struct Operands {
    using S = typename Sum<T>::type;
    const int64_t *indptr;
    const int32_t *indices;
    const int64_t *rows;
    const int32_t *positions;
    const S *edge_weight;
    const int64_t *edge_ids;
    const T *x;
    const S *left, *right;
    S alpha;
    const T *z;
    S beta;
    T *y;
    int64_t *argmax;         // written by the maximum
    const int64_t *winners;  // read by its gradient, shape of x
    int64_t dim;

    __device__ __forceinline__ int64_t row(int64_t r) const { return rows ? rows[r] : r; }
    __device__ __forceinline__ int64_t id(int64_t edge) const { return edge_ids ? edge_ids[edge] : edge; }
};

// The first of the largest values of each column, NaN before all numbers, with its place among the row's edges; -1 before the first.
template <typename S, int WIDTH>
struct MaxOf {
    S value[WIDTH];
    int place[WIDTH];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) value[i] = S(0), place[i] = -1;
    }
    __device__ __forceinline__ void update(int i, S other, int other_place) {
        const bool nan = other != other, same = other == value[i] || (nan && value[i] != value[i]);
        const bool better = place[i] < 0 || (same ? other_place < place[i] : nan || other > value[i]);
        if (other_place >= 0 && better) value[i] = other, place[i] = other_place;
    }
    __device__ __forceinline__ void merge(const MaxOf &other) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) update(i, other.value[i], other.place[i]);
    }
};


template <typename T, int WIDTH, Kind KIND>
struct Total : SumOf<typename Sum<T>::type, WIDTH> {
    using S = typename Sum<T>::type;
    __device__ __forceinline__ void take(const Operands<T> &op, int64_t begin, const Message<S> &message, int place,
                                         const S (&x)[WIDTH], int64_t column) {
        if constexpr (KIND == kSum) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) this->value[i] += message.weight * x[i];
        } else {
            if (message.source < 0) return;
            const int64_t start = message.source * op.dim + column, id = op.id(begin + place);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                if (op.winners[start + i] == id) this->value[i] += message.weight * x[i];
        }
    }
};
template <typename T, int WIDTH>
struct Total<T, WIDTH, kMax> : MaxOf<typename Sum<T>::type, WIDTH> {
    using S = typename Sum<T>::type;
    __device__ __forceinline__ void take(const Operands<T> &, int64_t, const Message<S> &message, int place,
                                         const S (&x)[WIDTH], int64_t) {
        if (message.source < 0) return;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) this->update(i, message.weight * x[i], place);
    }
};

template <typename T, int WIDTH, Kind KIND>
__device__ __forceinline__ void gather(const Operands<T> &op, const Share &share, const Place &place, int64_t column,
                                       Total<T, WIDTH, KIND> &total) {
    using S = typename Sum<T>::type;
    int length = int(share.end - share.begin);
#ifdef GRAPHREC_PLANT_OFF_BY_ONE  // for a test of the tests
    --length;
#endif
    const auto message_of = [&](int place_of_edge) -> Message<S> {
        const int64_t edge = share.begin + place_of_edge;
        const int32_t column = op.indices[edge], source = op.positions ? op.positions[column] : column;
        if (source < 0) return {-1, S(0)};
        S weight = op.right ? op.right[column] : S(1);
        if (op.edge_weight) weight *= op.edge_weight[op.id(edge)];
        return {source, weight};
    };
    each_message<kUnroll, WIDTH>(op.x, op.dim, column, length, share, place, message_of,
                                 [&](const Message<S> &message, int place_of_edge, const S(&x)[WIDTH]) {
                                     total.take(op, share.begin, message, place_of_edge, x, column);
                                 });
}

// y = scale * total + beta * z, and who won.
template <typename T, int WIDTH, Kind KIND>
__device__ __forceinline__ void finish(const Operands<T> &op, int64_t r, int64_t begin, int64_t column,
                                       const Total<T, WIDTH, KIND> &total) {
    using S = typename Sum<T>::type;
    const S scale = op.left ? op.alpha * op.left[op.row(r)] : op.alpha;
    const int64_t start = r * op.dim + column;
    S y[WIDTH], z[WIDTH];
    if (op.z) widen(load_pack<WIDTH>(op.z + start), z);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) y[i] = op.z ? scale * total.value[i] + op.beta * z[i] : scale * total.value[i];
    store(op.y + start, y);
    if constexpr (KIND == kMax) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const int64_t edge = begin + total.place[i];
            op.argmax[start + i] = total.place[i] < 0 ? -1 : op.id(edge);
        }
    }
}

template <typename T, int WIDTH, Kind KIND>
__global__ void __launch_bounds__(kBlockThreads, kResidentBlocks<T, KIND>) spmm_rows(const Operands<T> op, int64_t num_rows, int lanes) {
    const Place place = place_of(lanes);
    const int64_t column = (int64_t(blockIdx.y) * lanes + place.part) * WIDTH;
    const auto bounds = [&](int64_t r, int64_t &begin, int64_t &end) {
        begin = op.indptr[op.row(r)], end = op.indptr[op.row(r) + 1];
    };
    each_row(int64_t(blockIdx.x) * kBlockRows, num_rows, place, bounds, [&](int64_t r, const Share &share) {
        Total<T, WIDTH, KIND> total;
        total.clear();
        gather(op, share, place, column, total);
        combine(total, place, share.whole_block);
        if (column < op.dim && share.writes(place)) finish(op, r, share.begin, column, total);
    });
}

template <typename T, Kind KIND>
int32_t launch(const Operands<T> &op, int64_t num_rows, void *stream) {
    const bool all_aligned = aligned(op.x) && aligned(op.z) && aligned(op.y);
    return for_width<T>(op.dim, all_aligned, [&](auto width) -> int32_t {
        constexpr int kWidth = decltype(width)::value;
        const dim3 grid(blocks_for(num_rows, kBlockRows), tiles_for(op.dim, kWidth));
        GRAPHREC_LAUNCH((spmm_rows<T, kWidth, KIND>), grid, kBlockThreads, 0, stream, op, num_rows,
                        lanes_for(op.dim, kWidth, kLeastLanes));
        return launched();
    });
}

}  // namespace

GRAPHREC_CUDA(spmm)(int64_t dtype, int64_t reduce, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                    const int64_t *rows, const int32_t *positions, const void *edge_weight, const int64_t *edge_ids,
                    const void *x, const void *left, const void *right, double alpha, const void *z, double beta, void *y,
                    int64_t *argmax, void *stream) {
    if (num_rows < 0 || dim < 1) return GRAPHREC_BAD_SIZE;
    if (reduce != GRAPHREC_SUM && (reduce != GRAPHREC_MAX || !argmax)) return GRAPHREC_BAD_OPTION;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Operands<T> op{indptr, indices, rows, positions, static_cast<const S *>(edge_weight), edge_ids,
                             static_cast<const T *>(x), static_cast<const S *>(left), static_cast<const S *>(right), S(alpha),
                             static_cast<const T *>(z), S(beta), static_cast<T *>(y), argmax, nullptr, dim};
        if (num_rows == 0) return GRAPHREC_OK;
        return reduce == GRAPHREC_SUM ? launch<T, kSum>(op, num_rows, stream) : launch<T, kMax>(op, num_rows, stream);
    });
}

GRAPHREC_CUDA(spmm_max_backward)(int64_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                                 const int32_t *positions, const void *edge_weight, const int64_t *edge_ids,
                                 const void *gradient, const void *left, const void *right, double alpha,
                                 const int64_t *argmax, void *x_gradient, void *stream) {
    if (num_rows < 0 || dim < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        // Rows are the sources here, so the scales of the two sides change places.
        const Operands<T> op{indptr, indices, nullptr, positions, static_cast<const S *>(edge_weight), edge_ids,
                             static_cast<const T *>(gradient), static_cast<const S *>(right), static_cast<const S *>(left),
                             S(alpha), nullptr, S(0), static_cast<T *>(x_gradient), nullptr, argmax, dim};
        return num_rows == 0 ? int32_t(GRAPHREC_OK) : launch<T, kWinners>(op, num_rows, stream);
    });
}
