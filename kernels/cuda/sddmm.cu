// Dot products along edges: scores of pairs, and the edge-weight gradient of spmm.
#include "rows.h"

namespace {

constexpr int kUnroll = 4;  // gathers in flight per group of lanes
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kWideBlocks = 3;  // with 4 packs of several columns would spill
#else
constexpr int kWideBlocks = 4;
#endif
template <typename T, int WIDTH, bool WINNERS>
constexpr int kResidentBlocks = WINNERS || sizeof(T) == 8 ? kBlocksPerProcessor : WIDTH > 1 ? kWideBlocks : 4;

template <typename T>
struct Operands {
    using S = typename Sum<T>::type;
    const int64_t *indptr;
    const int32_t *indices;
    const int64_t *rows;
    const T *a, *b;
    const S *left, *right;
    S alpha;
    const int64_t *argmax;
    S *out;
    int64_t dim;

    __device__ __forceinline__ int64_t row(int64_t r) const { return rows ? rows[r] : r; }
};

// The row's columns that a thread holds, and which edge won each of them.
template <typename T, int WIDTH, bool WINNERS>
struct Half {
    typename Sum<T>::type value[WIDTH];
    int64_t winner[WINNERS ? WIDTH : 1];

    __device__ __forceinline__ void read(const Operands<T> &op, int64_t r, int64_t column) {
        widen(load_pack<WIDTH>(op.a + r * op.dim + column), value);
        if constexpr (WINNERS) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) winner[i] = op.argmax[r * op.dim + column + i];
        }
    }
    __device__ __forceinline__ typename Sum<T>::type dot(const Pack<T, WIDTH> &other, [[maybe_unused]] int64_t edge) const {
        typename Sum<T>::type wide[WIDTH], sum = 0;
        widen(other, wide);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            if constexpr (WINNERS) {
                if (winner[i] != edge) continue;
            }
            sum += value[i] * wide[i];
        }
        return sum;
    }
};

template <typename T, int WIDTH, bool WINNERS>
__device__ __forceinline__ void row_edges(const Operands<T> &op, int64_t r, const Share &share, const Place &place) {
    using S = typename Sum<T>::type;
    const int64_t tile = int64_t(place.lanes) * WIDTH;
    const S outer = op.left ? op.alpha * op.left[op.row(r)] : op.alpha;
    Half<T, WIDTH, WINNERS> mine;
    if (place.part * WIDTH < op.dim) mine.read(op, r, place.part * WIDTH);
    // The lanes of an edge meet in shuffles, so the warp leaves the loop together.
    for (int64_t base = share.begin; base < share.end; base += kUnroll * share.units) {
        int32_t source[kUnroll];
        S sum[kUnroll];
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const int64_t edge = base + u * share.units + share.unit;
            source[u] = edge < share.end ? op.indices[edge] : -1;
            sum[u] = 0;
        }
        for (int64_t column = place.part * WIDTH, first = column; column < op.dim; column += tile) {
            Pack<T, WIDTH> other[kUnroll];
#pragma unroll
            for (int u = 0; u < kUnroll; ++u)
                if (source[u] >= 0) other[u] = load_pack<WIDTH>(op.b + source[u] * op.dim + column);
            Half<T, WIDTH, WINNERS> here = mine;
            if (column != first) here.read(op, r, column);
#pragma unroll
            for (int u = 0; u < kUnroll; ++u)
                if (source[u] >= 0) sum[u] += here.dot(other[u], base + u * share.units + share.unit);
        }
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const S product = edge_sum(sum[u], place.lanes);
            if (source[u] < 0 || place.part != 0) continue;
            op.out[base + u * share.units + share.unit] = outer * (op.right ? op.right[source[u]] : S(1)) * product;
        }
    }
}

template <typename T, int WIDTH, bool WINNERS>
__global__ void __launch_bounds__(kBlockThreads, kResidentBlocks<T, WIDTH, WINNERS>) sddmm_rows(const Operands<T> op, int64_t num_rows, int lanes) {
    const Place place = place_of(lanes);
    const auto bounds = [&](int64_t r, int64_t &begin, int64_t &end) {
        begin = op.indptr[op.row(r)], end = op.indptr[op.row(r) + 1];
    };
    each_row(int64_t(blockIdx.x) * kBlockRows, num_rows, place, bounds,
             [&](int64_t r, const Share &share) { row_edges<T, WIDTH, WINNERS>(op, r, share, place); });
}

}  // namespace

GRAPHREC_CUDA(sddmm)(int64_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                     const int64_t *rows, const void *a, const void *b, const void *left, const void *right, double alpha,
                     const int64_t *argmax, void *out, void *stream) {
    if (num_rows < 0 || dim < 1) return GRAPHREC_BAD_SIZE;
    if (num_rows == 0) return dtype < 0 || dtype > GRAPHREC_BFLOAT16 ? GRAPHREC_BAD_DTYPE : GRAPHREC_OK;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Operands<T> op{indptr, indices, rows, static_cast<const T *>(a), static_cast<const T *>(b),
                             static_cast<const S *>(left), static_cast<const S *>(right), S(alpha), argmax,
                             static_cast<S *>(out), dim};
        return for_width<T>(dim, aligned(a) && aligned(b), [&](auto width) -> int32_t {
            constexpr int kWidth = decltype(width)::value;
            const unsigned grid = blocks_for(num_rows, kBlockRows);
            const int lanes = lanes_for(dim, kWidth);
            if (argmax)
                GRAPHREC_LAUNCH((sddmm_rows<T, kWidth, true>), grid, kBlockThreads, 0, stream, op, num_rows, lanes);
            else
                GRAPHREC_LAUNCH((sddmm_rows<T, kWidth, false>), grid, kBlockThreads, 0, stream, op, num_rows, lanes);
            return launched();
        });
    });
}
