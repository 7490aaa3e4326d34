// Mostly empty signals pushed over the edges of their non-zero entries: histories to the users and items that they reach.
#include "device.h"

namespace {

constexpr int kThreads = 256;

template <typename T>
struct Signals {
    const int64_t *indptr;
    const int32_t *indices;
    const T *x, *left, *right;
    T alpha;
    T *y;
    int64_t num_rows, num_columns;
};

// One block per signal. The edges of one entry lead to different columns, so its threads may add at once; a barrier parts one
// entry's edges from the next one's, which keeps the order of the sums.
template <typename T>
__global__ void __launch_bounds__(kThreads) push_signals(Signals<T> op) {
    __shared__ T tile[kThreads];
    const T *x = op.x + blockIdx.x * op.num_rows;
    T *y = op.y + blockIdx.x * op.num_columns;
    const int64_t lane = threadIdx.x;
    for (int64_t c = lane; c < op.num_columns; c += kThreads) y[c] = T(0);
    for (int64_t first = 0; first < op.num_rows; first += kThreads) {
        const int64_t mine = first + lane;
        const T value = mine < op.num_rows ? x[mine] : T(0);
        tile[lane] = op.left && value != T(0) ? value * op.left[mine] : value;  // 0 * inf would push NaN from an empty entry
        if (!__syncthreads_count(value != T(0))) continue;  // also the barrier after the writes to y and to the tile
        for (int i = 0; i < kThreads && first + i < op.num_rows; ++i) {
            const T pushed = tile[i];
            if (pushed == T(0)) continue;  // the same for all threads
            const int64_t end = op.indptr[first + i + 1];
            for (int64_t edge = op.indptr[first + i] + lane; edge < end; edge += kThreads) y[op.indices[edge]] += pushed;
            __syncthreads();
        }
        __syncthreads();  // nobody may fill the tile anew before all have read it
    }
    for (int64_t c = lane; c < op.num_columns; c += kThreads) y[c] *= op.right ? op.alpha * op.right[c] : op.alpha;
}

}  // namespace

GRAPHREC_CUDA(push)(int64_t dtype, int64_t batch, int64_t num_rows, int64_t num_columns, const int64_t *indptr,
                    const int32_t *indices, const void *x, const void *left, const void *right, double alpha, void *y,
                    void *stream) {
    if (batch < 0 || batch >= (int64_t(1) << 31) || num_rows < 0 || num_columns < 0) return GRAPHREC_BAD_SIZE;
    if (dtype != GRAPHREC_FLOAT32 && dtype != GRAPHREC_FLOAT64) return GRAPHREC_BAD_DTYPE;
    if (batch == 0) return GRAPHREC_OK;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        if constexpr (sizeof(T) >= sizeof(float)) {
            const Signals<T> op{indptr,   indices,           static_cast<const T *>(x), static_cast<const T *>(left),
                                static_cast<const T *>(right), T(alpha), static_cast<T *>(y), num_rows, num_columns};
            GRAPHREC_LAUNCH(push_signals<T>, unsigned(batch), kThreads, 0, stream, op);
            return launched();
        }
        return GRAPHREC_BAD_DTYPE;
    });
}
