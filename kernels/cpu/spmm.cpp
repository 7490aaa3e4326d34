// Sparse-times-dense product over CSR rows with normalisation, edge weights, row restriction and the epilogue fused.
//
// One row at a time: the partial sums stay in registers (256 floats with AVX-512), the neighbours' rows are prefetched some
// edges ahead, and the row is written once.
#include "gather.h"

namespace {

constexpr int kVectors = 8;
constexpr int64_t kParts = 16;  // ranges of rows per thread

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
    int64_t dim, num_edges;

    int64_t row(int64_t r) const { return rows ? rows[r] : r; }
    int64_t position(int64_t column) const { return positions ? positions[column] : column; }
    int64_t id(int64_t edge) const { return edge_ids ? edge_ids[edge] : edge; }
    S weight(int64_t edge) const {
        const S scale = right ? right[indices[edge]] : S(1);
        return edge_weight ? scale * edge_weight[id(edge)] : scale;
    }
    S scale(int64_t row) const { return left ? alpha * left[row] : alpha; }
};

// What an edge looks up besides its neighbour's row: nothing, the column's scale, a weight in the order of the edges, or
// whatever the operands have.
enum Lookup { kNothing, kScale, kWeight, kAnything };

// Sums VECTORS vectors of the neighbours of rows `begin` to `stop` from column `offset` on; the last vector holds `last` columns
// if PARTIAL. If WHOLE, they are all of a row, so that the row's length is known when this is compiled. The loop over rows is in here
// because a call costs as much as several edges of a narrow row.
template <typename T, int VECTORS, bool PARTIAL, bool WHOLE, Lookup LOOKUP>
void row_block(const Operands<T> &op, int64_t begin, int64_t stop, int64_t offset, int64_t last) {
    using S = typename Sum<T>::type;
    using V = typename Vector<S>::type;
    constexpr int kLanes = Vector<S>::lanes;
    constexpr int kFull = PARTIAL ? VECTORS - 1 : VECTORS;
    const S *right = op.right, *edge_weight = op.edge_weight;
    const T *base = op.x + offset;
    const int64_t dim = WHOLE ? VECTORS * kLanes : op.dim;
    const auto place = [&](int64_t column) { return LOOKUP == kAnything ? op.position(column) : column; };
    const auto weigh = [&](int64_t edge, int64_t column) {
        if (LOOKUP == kScale) return right[column];
        if (LOOKUP == kWeight) return edge_weight[edge];
        return LOOKUP == kNothing ? S(1) : op.weight(edge);
    };
    for (int64_t r = begin; r < stop; ++r) {
        const int64_t row = op.row(r);
        V sum[VECTORS] = {};
        const int64_t end = op.indptr[row + 1], limit = op.rows ? end : op.num_edges;
        add_messages<T, VECTORS, PARTIAL, LOOKUP == kAnything>(sum, op.indices, op.indptr[row], end, limit, base, dim, last,
                                                               place, weigh);
        const S scale = op.scale(row);
        const T *z = op.z ? op.z + r * dim + offset : nullptr;
        T *y = op.y + r * dim + offset;
        for (int v = 0; v < kFull; ++v) {
            V result = scale * sum[v];
            if (z) result += op.beta * load(z + v * kLanes);
            store(y + v * kLanes, result);
        }
        if (PARTIAL) {
            V result = scale * sum[kFull];
            if (z) result += op.beta * load_part(z + kFull * kLanes, last);
            store_part(y + kFull * kLanes, result, last);
        }
    }
}

template <typename T>
using Block = void (*)(const Operands<T> &, int64_t, int64_t, int64_t, int64_t);

template <typename T, int VECTORS, bool PARTIAL, bool WHOLE>
Block<T> block_looking_up(const Operands<T> &op) {
    if (op.edge_weight) return row_block<T, VECTORS, PARTIAL, WHOLE, kWeight>;
    return op.right ? row_block<T, VECTORS, PARTIAL, WHOLE, kScale> : row_block<T, VECTORS, PARTIAL, WHOLE, kNothing>;
}

template <typename T, int VECTORS, bool PARTIAL>
Block<T> block_with(const Operands<T> &op) {
    if (op.positions || (op.edge_weight && (op.edge_ids || op.right)))
        return row_block<T, VECTORS, PARTIAL, false, kAnything>;
    if constexpr (!PARTIAL)
        if (op.dim == VECTORS * Vector<typename Sum<T>::type>::lanes) return block_looking_up<T, VECTORS, false, true>(op);
    return block_looking_up<T, VECTORS, PARTIAL, false>(op);
}

// The block function for 1 .. kVectors vectors.
template <typename T, bool PARTIAL, int VECTORS = 1>
Block<T> block_of(const Operands<T> &op, int vectors) {
    if (vectors == VECTORS) return block_with<T, VECTORS, PARTIAL>(op);
    if constexpr (VECTORS < kVectors) return block_of<T, PARTIAL, VECTORS + 1>(op, vectors);
    return nullptr;
}

// A row of the sum: as many blocks of kMaxVectors and of kVectors as fit, then one that may be partial.
template <typename T>
struct SumRows {
    static constexpr int64_t kLanes = Vector<typename Sum<T>::type>::lanes;
    const Operands<T> &op;
    Block<T> wide, full, tail;
    int64_t last;

    explicit SumRows(const Operands<T> &operands) : op(operands) {
        const int64_t rest = op.dim % (kVectors * kLanes);
        last = rest % kLanes;
        wide = block_with<T, kMaxVectors, false>(op);
        full = block_with<T, kVectors, false>(op);
        tail = last ? block_of<T, true>(op, int(rest / kLanes) + 1) : block_of<T, false>(op, int(rest / kLanes));
    }
    // One block takes all rows of a range; several take a row after the other, so that the row's neighbours are read once.
    void operator()(int64_t begin, int64_t stop) const {
        const int64_t step = op.dim <= kVectors * kLanes || op.dim == kMaxVectors * kLanes ? stop - begin : 1;
        for (int64_t r = begin; r < stop; r += step) {
            int64_t offset = 0;
            for (; offset + kMaxVectors * kLanes <= op.dim; offset += kMaxVectors * kLanes) wide(op, r, r + step, offset, 0);
            for (; offset + kVectors * kLanes <= op.dim; offset += kVectors * kLanes) full(op, r, r + step, offset, 0);
            if (offset < op.dim) tail(op, r, r + step, offset, last);
        }
    }
};

template <typename T>
struct MaxRows {
    static constexpr int64_t kColumns = 64;
    const Operands<T> &op;
    int64_t *argmax;

    void operator()(int64_t begin, int64_t stop) const {
        for (int64_t r = begin; r < stop; ++r)
            for (int64_t offset = 0; offset < op.dim; offset += kColumns)
                columns(r, op.row(r), offset, op.dim - offset < kColumns ? op.dim - offset : kColumns);
    }
    void columns(int64_t r, int64_t row, int64_t offset, int64_t width) const {
        using S = typename Sum<T>::type;
        S best[kColumns];
        int64_t *arg = argmax + r * op.dim + offset;
        for (int64_t d = 0; d < width; ++d) best[d] = 0, arg[d] = -1;
        for (int64_t edge = op.indptr[row]; edge < op.indptr[row + 1]; ++edge) {
            const int64_t source = op.position(op.indices[edge]);
            if (source < 0) continue;
            const S weight = op.weight(edge);
            const T *x = op.x + source * op.dim + offset;
            for (int64_t d = 0; d < width; ++d) {
                const S value = weight * widen(x[d]);
                // The first NaN wins, as for torch.amax.
                if (arg[d] >= 0 && (value <= best[d] || best[d] != best[d])) continue;
                best[d] = value;
                arg[d] = op.id(edge);
            }
        }
        const S scale = op.scale(row);
        for (int64_t d = 0; d < width; ++d) {
            S result = scale * best[d];
            if (op.z) result += op.beta * widen(op.z[r * op.dim + offset + d]);
            narrow(result, op.y[r * op.dim + offset + d]);
        }
    }
};

// Every row is summed by one thread; ranges with equal numbers of edges are handed out as threads become free.
template <typename T, typename Rows>
void all_rows(const Operands<T> &op, int64_t num_rows, const Rows &each, [[maybe_unused]] int64_t num_threads) {
    if (op.rows) {
        constexpr int64_t kChunk = 64;
#pragma omp parallel for schedule(dynamic, 1) num_threads(int(num_threads))
        for (int64_t begin = 0; begin < num_rows; begin += kChunk)
            each(begin, begin + kChunk < num_rows ? begin + kChunk : num_rows);
        return;
    }
    const int64_t parts = num_threads == 1 ? 1 : kParts * num_threads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(int(num_threads))
    for (int64_t part = 0; part < parts; ++part)
        each(balanced_row(op.indptr, num_rows, part, parts), balanced_row(op.indptr, num_rows, part + 1, parts));
}

}  // namespace

GRAPHREC_CPU(spmm)(int64_t dtype, int64_t reduce, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                   const int64_t *rows, const int32_t *positions, const void *edge_weight, const int64_t *edge_ids,
                   const void *x, const void *left, const void *right, double alpha, const void *z, double beta, void *y,
                   int64_t *argmax, int64_t num_threads) {
    if (num_rows < 0 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    if (reduce != GRAPHREC_SUM && (reduce != GRAPHREC_MAX || !argmax)) return GRAPHREC_BAD_OPTION;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        const Operands<T> op{indptr, indices, rows, positions, static_cast<const S *>(edge_weight), edge_ids,
                             static_cast<const T *>(x), static_cast<const S *>(left), static_cast<const S *>(right), S(alpha),
                             static_cast<const T *>(z), S(beta), static_cast<T *>(y), dim, rows ? 0 : indptr[num_rows]};
        if (reduce == GRAPHREC_SUM)
            all_rows(op, num_rows, SumRows<T>(op), num_threads);
        else
            all_rows(op, num_rows, MaxRows<T>{op, argmax}, num_threads);
        return GRAPHREC_OK;
    });
}

GRAPHREC_CPU(spmm_max_backward)(int64_t dtype, int64_t num_rows, int64_t dim, const int64_t *indptr, const int32_t *indices,
                                const int32_t *positions, const void *edge_weight, const int64_t *edge_ids,
                                const void *gradient, const void *left, const void *right, double alpha,
                                const int64_t *argmax, void *x_gradient, int64_t num_threads) {
    if (num_rows < 0 || dim < 1 || num_threads < 1) return GRAPHREC_BAD_SIZE;
    return for_dtype(dtype, [&](auto type) -> int32_t {
        using T = decltype(type);
        using S = typename Sum<T>::type;
        constexpr int64_t kColumns = 64;
        const T *g = static_cast<const T *>(gradient);
        const S *weight = static_cast<const S *>(edge_weight), *scale = static_cast<const S *>(left);
#pragma omp parallel for schedule(dynamic, 64) num_threads(int(num_threads))
        for (int64_t row = 0; row < num_rows; ++row) {
            const S outer = right ? S(alpha) * static_cast<const S *>(right)[row] : S(alpha);
            for (int64_t offset = 0; offset < dim; offset += kColumns) {
                const int64_t width = dim - offset < kColumns ? dim - offset : kColumns;
                S sum[kColumns] = {};
                for (int64_t edge = indptr[row]; edge < indptr[row + 1]; ++edge) {
                    const int64_t target = positions ? positions[indices[edge]] : indices[edge];
                    if (target < 0) continue;
                    const int64_t id = edge_ids ? edge_ids[edge] : edge;
                    const S factor = (scale ? scale[indices[edge]] : S(1)) * (weight ? weight[id] : S(1));
                    const int64_t start = target * dim + offset;
                    for (int64_t d = 0; d < width; ++d)
                        if (argmax[start + d] == id) sum[d] += factor * widen(g[start + d]);
                }
                for (int64_t d = 0; d < width; ++d)
                    narrow(outer * sum[d], static_cast<T *>(x_gradient)[row * dim + offset + d]);
            }
        }
        return GRAPHREC_OK;
    });
}
