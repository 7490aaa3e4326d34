// Several sparse-times-dense products in one launch: the relations of a heterograph, those with one destination summed.
#include "rows.h"

namespace {

template <typename T>
constexpr int kResidentBlocks = sizeof(T) == 2 ? kBlocksPerProcessor : 3;  // bfloat16 would spill
constexpr int kUnroll = 4;      // gathers in flight per group of lanes
constexpr int kPartFields = 8;  // of the parts table

template <typename T>
struct Part {
    using S = typename Sum<T>::type;
    int64_t num_rows;
    const int64_t *indptr;
    const int32_t *indices;
    const T *x;
    const S *left, *right;
    T *y;
    int64_t stride;
};

template <typename T>
__device__ __forceinline__ Part<T> read_part(const int64_t *parts, int64_t part) {
    using S = typename Sum<T>::type;
    const int64_t *field = parts + part * kPartFields;
    return {field[0], reinterpret_cast<const int64_t *>(field[1]), reinterpret_cast<const int32_t *>(field[2]),
            reinterpret_cast<const T *>(field[3]), reinterpret_cast<const S *>(field[4]),
            reinterpret_cast<const S *>(field[5]), reinterpret_cast<T *>(field[6]), field[7]};
}

// The parts first .. stop - 1 that have one y, and which of its rows is meant.
struct Target {
    int64_t first, stop, row;
};

__device__ __forceinline__ Target find_target(const int64_t *parts, int64_t num_parts, int64_t row) {
    Target target{0, 0, row};
    while (target.stop < num_parts) {
        target.first = target.stop;
        const int64_t *field = parts + target.first * kPartFields;
        while (target.stop < num_parts && parts[target.stop * kPartFields + 6] == field[6]) ++target.stop;
        if (target.row < field[0]) break;
        target.row -= field[0];
    }
    return target;
}

// Whether all addresses of the target allow 16-byte accesses; the table is in device memory, so the host cannot tell.
template <typename T>
__device__ __forceinline__ bool all_aligned(const int64_t *parts, const Target &target, int64_t dim) {
    bool result = dim % kVector<T> == 0;
    for (int64_t part = target.first; part < target.stop; ++part) {
        const int64_t *field = parts + part * kPartFields;
        result = result && (field[3] | field[6] | field[7] * int64_t(sizeof(T))) % 16 == 0;
    }
    return result;
}

// total += alpha * left[row] * the sum over the group's share of the part's edges.
template <typename T, int WIDTH>
__device__ __forceinline__ void add_part(const Part<T> &part, int64_t row, const Share &share, const Place &place,
                                         int64_t dim, int64_t column, typename Sum<T>::type alpha,
                                         SumOf<typename Sum<T>::type, WIDTH> &total) {
    using S = typename Sum<T>::type;
    SumOf<S, WIDTH> sum;
    sum.clear();
    const int64_t begin = part.indptr[row];
    const auto message_of = [&](int place_of_edge) -> Message<S> {
        const int32_t source = part.indices[begin + place_of_edge];
        return {source, part.right ? part.right[source] : S(1)};
    };
    each_message<kUnroll, WIDTH>(part.x, dim, column, int(part.indptr[row + 1] - begin), share, place, message_of,
                                 [&](const Message<S> &message, int, const S(&x)[WIDTH]) {
#pragma unroll
                                     for (int i = 0; i < WIDTH; ++i) sum.value[i] += message.weight * x[i];
                                 });
    const S scale = part.left ? alpha * part.left[row] : alpha;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) total.value[i] += scale * sum.value[i];
}

template <typename T, int WIDTH>
__device__ __forceinline__ void row_of(const int64_t *parts, const Target &target, int64_t dim,
                                       typename Sum<T>::type alpha, const Share &share, const Place &place) {
    for (int64_t tile = 0; tile < dim; tile += place.lanes * WIDTH) {
        const int64_t column = tile + place.part * WIDTH;
        SumOf<typename Sum<T>::type, WIDTH> total;
        total.clear();
        for (int64_t part = target.first; part < target.stop; ++part)
            add_part(read_part<T>(parts, part), target.row, share, place, dim, column, alpha, total);
        combine(total, place, share.whole_block);
        if (column >= dim || !share.writes(place)) continue;
        const Part<T> first = read_part<T>(parts, target.first);
        store(first.y + target.row * first.stride + column, total.value);
    }
}

template <typename T>
__global__ void __launch_bounds__(kBlockThreads, kResidentBlocks<T>) hetero_rows(const int64_t *parts, int64_t num_parts, int64_t total_rows,
                                                             int64_t dim, typename Sum<T>::type alpha, int lanes) {
    const Place place = place_of(lanes);
    // The number of edges is all that counts here: each part has its own range.
    const auto bounds = [&](int64_t r, int64_t &begin, int64_t &end) {
        const Target target = find_target(parts, num_parts, r);
        for (int64_t part = target.first; part < target.stop; ++part) {
            const int64_t *indptr = read_part<T>(parts, part).indptr + target.row;
            end += indptr[1] - indptr[0];
        }
        begin = 0;
    };
    each_row(int64_t(blockIdx.x) * kBlockRows, total_rows, place, bounds, [&](int64_t r, const Share &share) {
        const Target target = find_target(parts, num_parts, r);
        if (all_aligned<T>(parts, target, dim))
            row_of<T, kVector<T>>(parts, target, dim, alpha, share, place);
        else
            row_of<T, 1>(parts, target, dim, alpha, share, place);
    });
}

}  // namespace

GRAPHREC_CUDA(hetero_spmm)(int64_t dtype, int64_t num_parts, int64_t total_rows, int64_t dim, const int64_t *parts,
                           double alpha, void *stream) {
    if (num_parts < 0 || total_rows < 0 || dim < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        if (num_parts == 0 || total_rows == 0) return GRAPHREC_OK;
        // A row that turns out to be unaligned runs on the same lanes, one column each.
        const int lanes = lanes_for(dim, dim % kVector<T> == 0 ? kVector<T> : 1, kLeastLanes);
        GRAPHREC_LAUNCH(hetero_rows<T>, blocks_for(total_rows, kBlockRows), kBlockThreads, 0, stream, parts, num_parts,
                        total_rows, dim, typename Sum<T>::type(alpha), lanes);
        return launched();
    });
}
