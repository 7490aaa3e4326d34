// Sparse-times-dense product over CSR rows with normalisation, edge weights, row restriction and the epilogue fused; its
// maximum, and the gradient of that, which is a sum over the edges that won.
#include <type_traits>

#include "pieces.h"

namespace {

constexpr int kUnroll = 4;      // gathers in flight per group of lanes
constexpr int kSomeUnroll = 2;  // where most edges have no row of x
// With 64 registers four blocks share a multiprocessor and hide more of the gathers' latency; some kernels would spill.
template <typename T, bool SOME>
constexpr int kSumBlocks = sizeof(T) == 8 ? kBlocksPerProcessor : sizeof(T) == 4 && SOME ? 3 : 4;
template <typename T>
constexpr int kMaxBlocks = sizeof(T) == 8 ? kBlocksPerProcessor : sizeof(T) == 4 ? 4 : 3;

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
    // SOME looks for positions. What does not depend on the column is read first.
    template <bool SOME>
    __device__ __forceinline__ Factors<S> factors(int64_t edge) const {
        const S weight = edge_weight ? edge_weight[id(edge)] : S(1);
        const int32_t column = indices[edge], source = SOME && positions ? positions[column] : column;
        if (SOME && source < 0) return {-1, S(0), S(0)};
        return {source, weight, right ? right[column] : S(1)};
    }
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

// y = scale * total + beta * z.
template <typename T, int WIDTH>
__device__ __forceinline__ void finish(const Operands<T> &op, int64_t r, int64_t column,
                                       const typename Sum<T>::type (&total)[WIDTH]) {
    using S = typename Sum<T>::type;
    const S scale = op.left ? op.alpha * op.left[op.row(r)] : op.alpha;
    const int64_t start = r * op.dim + column;
    S y[WIDTH], z[WIDTH];
    if (op.z) widen(load_pack<WIDTH>(op.z + start), z);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) y[i] = op.z ? scale * total[i] + op.beta * z[i] : scale * total[i];
    store(op.y + start, y);
}

template <typename T>
__device__ __forceinline__ void bounds_of(const Operands<T> &op, int64_t r, int64_t &begin, int64_t &end) {
    begin = op.indptr[op.row(r)], end = op.indptr[op.row(r) + 1];
#ifdef GRAPHREC_PLANT_OFF_BY_ONE  // for a test of the tests
    if (end > begin) --end;
#endif
}

template <typename T, int WIDTH, bool SOME>
__global__ void __launch_bounds__(kBlockThreads, kSumBlocks<T, SOME>) spmm_rows(const Operands<T> op, int64_t num_rows, int lanes) {
    const Place place = place_of(lanes);
    const int64_t column = (int64_t(blockIdx.y) * lanes + place.part) * WIDTH;
    const auto bounds = [&](int64_t r, int64_t &begin, int64_t &end) { bounds_of(op, r, begin, end); };
    each_piece(num_rows, place, bounds, [&](const Piece &piece) {
        SumOf<typename Sum<T>::type, WIDTH> total;
        total.clear();
        const auto factors_of = [&](int at) { return op.template factors<SOME>(piece.begin + at); };
        add_messages<SOME ? kSomeUnroll : kUnroll, SOME>(op.x, op.dim, column, piece, place, factors_of, total);
        if (piece.merged(place)) combine(total, place, piece.whole_block());
        if (column < op.dim && piece.writes(place)) finish(op, piece.row, column, total.value);
    });
}

// The maximum and who won, or, WINNERS, the sum over those who won.
template <typename T, int WIDTH, bool WINNERS>
__global__ void __launch_bounds__(kBlockThreads, kMaxBlocks<T>) spmm_max_rows(const Operands<T> op, int64_t num_rows, int lanes) {
    using S = typename Sum<T>::type;
    const Place place = place_of(lanes);
    const int64_t column = (int64_t(blockIdx.y) * lanes + place.part) * WIDTH;
    const auto bounds = [&](int64_t r, int64_t &begin, int64_t &end) { bounds_of(op, r, begin, end); };
    each_row(int64_t(blockIdx.x) * kBlockRows, num_rows, place, bounds, [&](int64_t r, const Share &share) {
        std::conditional_t<WINNERS, SumOf<S, WIDTH>, MaxOf<S, WIDTH>> total;
        total.clear();
        const auto take = [&](const Message<S> &message, int at, const S(&x)[WIDTH]) {
            if (message.source < 0) return;
            [[maybe_unused]] const int64_t start = message.source * op.dim + column, id = op.id(share.begin + at);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                if constexpr (!WINNERS) total.update(i, message.weight * x[i], at);
                else if (op.winners[start + i] == id) total.value[i] += message.weight * x[i];
            }
        };
        const auto message_of = [&](int at) { return op.template factors<true>(share.begin + at).message(); };
        each_message<kUnroll, WIDTH>(op.x, op.dim, column, int(share.end - share.begin), share, place, message_of, take);
        combine(total, place, share.whole_block);
        if (column >= op.dim || !share.writes(place)) return;
        finish(op, r, column, total.value);
        if constexpr (!WINNERS) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i)
                op.argmax[r * op.dim + column + i] = total.place[i] < 0 ? -1 : op.id(share.begin + total.place[i]);
        }
    });
}

// Calls run(width, lanes) for what the operands allow.
template <typename T, typename Run>
int32_t for_operands(const Operands<T> &op, Run run) {
    return for_width<T>(op.dim, aligned(op.x) && aligned(op.z) && aligned(op.y), [&](auto width) -> int32_t {
        run(width, tiles_for(op.dim, width.value), lanes_for(op.dim, width.value, kLeastLanes));
        return launched();
    });
}

template <typename T>
int32_t sum(const Operands<T> &op, int64_t num_rows, void *stream) {
    if (num_rows > kMostRows) return GRAPHREC_BAD_SIZE;
    return for_operands(op, [&](auto width, unsigned tiles, int lanes) {
        constexpr int kWidth = decltype(width)::value;
        const dim3 grid(blocks_of_pieces(num_rows), tiles);
        if (op.positions) GRAPHREC_LAUNCH((spmm_rows<T, kWidth, true>), grid, kBlockThreads, 0, stream, op, num_rows, lanes);
        else GRAPHREC_LAUNCH((spmm_rows<T, kWidth, false>), grid, kBlockThreads, 0, stream, op, num_rows, lanes);
    });
}

template <bool WINNERS, typename T>
int32_t maximum(const Operands<T> &op, int64_t num_rows, void *stream) {
    return for_operands(op, [&](auto width, unsigned tiles, int lanes) {
        constexpr int kWidth = decltype(width)::value;
        const dim3 grid(blocks_for(num_rows, kBlockRows), tiles);
        GRAPHREC_LAUNCH((spmm_max_rows<T, kWidth, WINNERS>), grid, kBlockThreads, 0, stream, op, num_rows, lanes);
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
        return reduce == GRAPHREC_SUM ? sum(op, num_rows, stream) : maximum<false>(op, num_rows, stream);
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
        return num_rows == 0 ? int32_t(GRAPHREC_OK) : maximum<true>(op, num_rows, stream);
    });
}
