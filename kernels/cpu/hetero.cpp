// Several sparse-times-dense products in one launch. Products into the same output are summed in the registers that hold
// its row, so the output is written once and no addition follows.
#include "gather.h"

namespace {

constexpr int64_t kRowsAndEdges = 16384;  // of one range of rows: small to balance, large to be worth handing out

// One row of the table of parts.
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

    explicit Part(const int64_t *entry)
        : num_rows(entry[0]), indptr(reinterpret_cast<const int64_t *>(entry[1])),
          indices(reinterpret_cast<const int32_t *>(entry[2])), x(reinterpret_cast<const T *>(entry[3])),
          left(reinterpret_cast<const S *>(entry[4])), right(reinterpret_cast<const S *>(entry[5])),
          y(reinterpret_cast<T *>(entry[6])), stride(entry[7]) {}
};

constexpr int64_t kEntries = 8;

// Consecutive parts with one output.
template <typename T>
struct Group {
    const int64_t *table;
    int64_t num_parts, num_rows;

    Group(const int64_t *first, int64_t most) : table(first), num_parts(1), num_rows(first[0]) {
        while (num_parts < most && table[num_parts * kEntries + 6] == table[6]) ++num_parts;
    }
    // Rows and edges before `row`.
    int64_t work(int64_t row) const {
        int64_t total = row;
        for (int64_t p = 0; p < num_parts; ++p) total += Part<T>(table + p * kEntries).indptr[row];
        return total;
    }
    // The first row with at least `share` of `shares` of the work before it.
    int64_t bound(int64_t share, int64_t shares) const {
        const int64_t target = work(0) + (work(num_rows) - work(0)) * share / shares;
        int64_t low = 0, high = num_rows;
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (work(middle) < target) low = middle + 1; else high = middle;
        }
        return low;
    }
};

// VECTORS vectors of rows `begin` to `stop` from column `offset` on; the last vector holds `last` columns.
template <typename T, int VECTORS, bool PARTIAL>
void row_block(const Group<T> &group, int64_t begin, int64_t stop, int64_t dim, int64_t offset, int64_t last, double alpha) {
    using S = typename Sum<T>::type;
    using V = typename Vector<S>::type;
    constexpr int kLanes = Vector<S>::lanes;
    constexpr int kFull = PARTIAL ? VECTORS - 1 : VECTORS;
    const auto place = [](int64_t column) { return column; };
    for (int64_t row = begin; row < stop; ++row) {
        V sum[VECTORS] = {};
        for (int64_t p = 0; p < group.num_parts; ++p) {
            const Part<T> part(group.table + p * kEntries);
            const S scale = part.left ? S(alpha) * part.left[row] : S(alpha), *right = part.right;
            const auto add = [&](auto weigh) {
                add_messages<T, VECTORS, PARTIAL, false>(sum, part.indices, part.indptr[row], part.indptr[row + 1],
                                                         part.indptr[part.num_rows], part.x + offset, dim, last, place, weigh);
            };
            if (right)
                add([&](int64_t, int64_t column) { return scale * right[column]; });
            else
                add([&](int64_t, int64_t) { return scale; });
        }
        const Part<T> first(group.table);
        T *y = first.y + row * first.stride + offset;
        for (int v = 0; v < kFull; ++v) store(y + v * kLanes, sum[v]);
        // last < kLanes always; a compiler that is not told warns of reading beyond the vector.
        if (PARTIAL) store_part(y + kFull * kLanes, sum[kFull], last < kLanes ? last : kLanes - 1);
    }
}

template <typename T>
using Block = void (*)(const Group<T> &, int64_t, int64_t, int64_t, int64_t, int64_t, double);

// The block function for 1 .. kMaxVectors vectors.
template <typename T, bool PARTIAL, int VECTORS = 1>
Block<T> block_of(int64_t vectors) {
    if (vectors == VECTORS) return row_block<T, VECTORS, PARTIAL>;
    if constexpr (VECTORS < kMaxVectors) return block_of<T, PARTIAL, VECTORS + 1>(vectors);
    return nullptr;
}

template <typename T>
void products(int64_t num_parts, int64_t dim, const int64_t *parts, double alpha, [[maybe_unused]] int64_t num_threads) {
    constexpr int64_t kLanes = Vector<typename Sum<T>::type>::lanes, kWidth = kMaxVectors * kLanes;
    const int64_t rest = dim % kWidth, last = rest % kLanes;
    const Block<T> full = block_of<T, false>(kMaxVectors);
    const Block<T> tail = last ? block_of<T, true>(rest / kLanes + 1) : block_of<T, false>(rest / kLanes);
#pragma omp parallel num_threads(int(num_threads))
    for (int64_t p = 0; p < num_parts;) {
        const Group<T> group(parts + p * kEntries, num_parts - p);
        const int64_t ranges = (group.work(group.num_rows) - group.work(0)) / kRowsAndEdges + 1;
        // A thread that finds nothing left of this output goes on with the next.
#pragma omp for schedule(dynamic, 1) nowait
        for (int64_t range = 0; range < ranges; ++range) {
            const int64_t end = group.bound(range + 1, ranges);
            const int64_t begin = group.bound(range, ranges);
            // One block takes all rows of a range; several take a row after the other, so that its neighbours are read once.
            const int64_t step = dim <= kWidth ? end - begin : 1;
            for (int64_t row = begin; row < end; row += step) {
                int64_t offset = 0;
                for (; offset + kWidth <= dim; offset += kWidth) full(group, row, row + step, dim, offset, 0, alpha);
                if (offset < dim) tail(group, row, row + step, dim, offset, last, alpha);
            }
        }
        p += group.num_parts;
    }
}

}  // namespace

GRAPHREC_CPU(hetero_spmm)(int64_t dtype, int64_t num_parts, int64_t total_rows, int64_t dim, const int64_t *parts, double alpha,
                          int64_t num_threads) {
    if (num_parts < 0 || total_rows < 0 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        products<decltype(type)>(num_parts, dim, parts, alpha, num_threads);
        return GRAPHREC_OK;
    });
}
