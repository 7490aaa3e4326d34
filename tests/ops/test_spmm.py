"""spmm and sddmm against dense float64 products written out here, on every implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec import _kernels
from graphrec.ops import Relation, normalised_forward, sddmm, spmm, spmm_compact, spmm_forward

NUM_DST, NUM_SRC = 33, 22
DIMS = [1, 3, 16, 31, 32, 33, 64, 65, 100, 128, 200, 300]


@pytest.fixture(scope="module")
def relation() -> Relation:
    """A hub (row 0), empty rows (from 30 on), isolated columns (20, 21), and a repeated edge, which merges."""
    rng = np.random.default_rng(0)
    dst = np.concatenate([np.zeros(20, int), rng.integers(1, 30, 150), [5, 5]])
    src = np.concatenate([np.arange(20), rng.integers(0, 20, 150), [3, 3]])
    return Relation.from_coo(dst, src, NUM_DST, NUM_SRC)


def dense(relation: Relation, weight: torch.Tensor | None = None) -> torch.Tensor:
    matrix = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
    matrix[relation.rows, relation.indices.long()] = 1.0 if weight is None else weight.double()
    return matrix


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def dense_max(matrix: torch.Tensor, edges: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The largest entry of matrix[r, c] · x[c] over the edges of each row, 0 without edges: (U, D)."""
    message = (matrix[:, :, None] * x[None]).masked_fill(edges[:, :, None] == 0, -torch.inf)
    return message.amax(1).masked_fill(edges.sum(1)[:, None] == 0, 0.0)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_equals_the_dense_product_in_float64(implementation, relation, dim, restricted, weighted, reduce):
    x = normal(NUM_SRC, dim, seed=dim)
    rows = torch.tensor([31, 0, 7, 5]) if restricted else torch.arange(NUM_DST)
    z = normal(len(rows), dim, seed=1)
    weight = normal(relation.num_edges, seed=2) if weighted else None
    left, right = relation.scale_dst(-0.5), relation.scale_src(-0.3)
    got = spmm(
        *(relation, x, left, right, 0.7, z, -0.2, rows if restricted else None), edge_weight=weight, reduce=reduce
    )
    matrix = dense(relation, weight) * right.double()
    if reduce == "max":
        reduced = dense_max(matrix, dense(relation), x.double())
    else:
        reduced = matrix @ x.double()
    if reduce == "mean":
        reduced = reduced / relation.degree_dst.clamp_min(1)[:, None]
    expected = 0.7 * (left.double()[:, None] * reduced)[rows] - 0.2 * z.double()
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_normalised_product_equals_the_dense_one(implementation, relation, dim, restricted, weighted, dtype):
    if weighted:
        relation = relation.with_weight(normal(relation.num_edges, seed=2).abs())
    x = normal(NUM_SRC, dim, seed=dim, dtype=dtype)
    rows = torch.tensor([31, 0, 7, 5]) if restricted else torch.arange(NUM_DST)
    z = normal(len(rows), dim, seed=1, dtype=dtype)
    got = normalised_forward(relation, x, 0.7, z, rows if restricted else None)
    scaled = dense(relation, relation.weight) * relation.scale_src(-0.5, torch.float64)
    expected = 0.7 * ((relation.scale_dst(-0.5, torch.float64)[:, None] * scaled)[rows] @ x.double() + z.double())
    assert got.dtype == dtype
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2**-8}[dtype]
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=1e-5 if dtype != torch.float64 else 1e-12)


@pytest.mark.parametrize("dim", [1, 33, 64, 100, 256])
def test_bfloat16_is_the_float32_result_rounded_once(implementation, relation, dim):
    x = normal(NUM_SRC, dim, dtype=torch.bfloat16)
    left, right = relation.scale_dst(-0.5), relation.scale_src(-0.5)
    got = spmm(relation, x, left, right)
    assert got.dtype == torch.bfloat16
    exact = spmm(relation, x.float(), left, right)
    torch.testing.assert_close(got.float(), exact, rtol=2**-8, atol=1e-30)
    torch.testing.assert_close(sddmm(relation, got, x), sddmm(relation, got.float(), x.float()))


def test_bfloat16_keeps_nan_and_infinity(implementation):
    relation = Relation.from_coo([0, 1], [0, 1], 2, 2)
    x = torch.tensor([[float("nan")] * 40, [float("inf")] * 40], dtype=torch.bfloat16)
    assert spmm(relation, x)[0].isnan().all() and spmm(relation, x)[1].isposinf().all()


@pytest.mark.parametrize("dim", [1, 3, 31, 32, 33, 64, 65, 128])
def test_sddmm_equals_the_dense_scores(implementation, relation, dim):
    a, b = normal(NUM_DST, dim), normal(NUM_SRC, dim, seed=1)
    expected = (a.double() @ b.double().T)[relation.rows, relation.indices.long()]
    torch.testing.assert_close(sddmm(relation, a, b).double(), expected, rtol=1e-5, atol=1e-5)


def test_compact_columns_are_the_transpose_of_restricted_rows(implementation, relation):
    columns = torch.tensor([19, 2, 21])
    x = normal(3, 40)
    expected = dense(relation)[:, columns] @ x.double()
    torch.testing.assert_close(spmm_compact(relation, x, columns).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [None, torch.tensor([0, 31, 4])])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_gradients(implementation, relation, rows, weighted, reduce):
    x = normal(NUM_SRC, 3, dtype=torch.float64).requires_grad_()
    z = normal(NUM_DST if rows is None else 3, 3, dtype=torch.float64, seed=1).requires_grad_()
    weight = normal(relation.num_edges, dtype=torch.float64, seed=2).requires_grad_() if weighted else None
    left, right = relation.scale_dst(-0.5, torch.float64), relation.scale_src(-0.5, torch.float64)

    def run(x, z, weight=None):  # type: ignore[no-untyped-def]
        return spmm(relation, x, left, right, 0.5, z, 2.0, rows, edge_weight=weight, reduce=reduce)

    assert torch.autograd.gradcheck(run, (x, z) if weight is None else (x, z, weight))


def test_sddmm_gradients(implementation, relation):
    a, b = (normal(n, 3, dtype=torch.float64).requires_grad_() for n in (NUM_DST, NUM_SRC))
    assert torch.autograd.gradcheck(lambda a, b: sddmm(relation, a, b), (a, b))
    assert torch.autograd.gradgradcheck(lambda a, b: sddmm(relation, a, b), (a, b))


@pytest.mark.filterwarnings("error:.*autograd kernel was not registered")
@pytest.mark.parametrize("rows", [None, [4, 0, 2]])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_second_derivatives(implementation, relation, rows, weighted, reduce):
    x, index = normal(NUM_SRC, 2, dtype=torch.float64).requires_grad_(), None if rows is None else torch.tensor(rows)
    z = normal(NUM_DST if rows is None else len(rows), 2, dtype=torch.float64, seed=1).requires_grad_()
    left, right = relation.scale_dst(-0.5, torch.float64), relation.scale_src(-0.3, torch.float64)

    def run(x: torch.Tensor, z: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        return spmm(relation, x, left, right, 0.7, z, -0.2, index, edge_weight=weight, reduce=reduce)

    weight = (normal(relation.num_edges, dtype=torch.float64, seed=2).requires_grad_(),) if weighted else ()
    assert torch.autograd.gradgradcheck(run, (x, z, *weight))


def test_a_penalty_on_gradients_reaches_all_that_they_depend_on(implementation):
    relation = Relation.from_coo([0, 0], [0, 1], 1, 2)
    x, weight = torch.tensor([[2.0], [3.0]], requires_grad=True), torch.tensor([5.0, 7.0], requires_grad=True)
    (slope,) = torch.autograd.grad(spmm(relation, x, edge_weight=weight).square().sum(), x, create_graph=True)
    slope.sum().backward()  # y = 31, slope = 2 y w, their sum is 24 y
    assert x.grad.flatten().tolist() == [120.0, 168.0]
    assert weight.grad.tolist() == [24 * 2 + 62, 24 * 3 + 62]


def test_the_maximum_has_one_derivative(implementation, relation):
    x = normal(NUM_SRC, 2).requires_grad_()
    (slope,) = torch.autograd.grad(spmm(relation, x, reduce="max").square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match='spmm with reduce="max" is differentiable once'):
        slope.sum().backward()


def test_rows_that_repeat_are_named(implementation, relation):
    x, rows = torch.ones(NUM_SRC, 2), torch.tensor([3, 1, 3])
    for run in (
        lambda: spmm(relation, x, rows=rows),
        lambda: spmm_forward(relation, x, None, None, 1.0, None, 1.0, rows),
        lambda: spmm_compact(relation, torch.ones(3, 2), rows),
    ):
        with pytest.raises(ValueError, match="must be distinct, got 3 2 times; use unique"):
            run()
    wide = Relation.from_coo([0], [0], 1000, 1)  # a few rows of many
    with pytest.raises(ValueError, match="rows must be distinct, got 7 3 times"):
        spmm(wide, torch.ones(1, 2), rows=torch.tensor([7, 0, 7, 7]))
    assert spmm(wide, torch.ones(1, 2), rows=torch.tensor([7, 0])).tolist() == [[0, 0], [1, 1]]


def test_of_equal_maxima_the_first_edge_takes_the_gradient(implementation):
    relation = Relation.from_coo([0, 0, 0], [0, 1, 2], 1, 3)
    x = torch.tensor([[1.0], [2.0], [2.0]], requires_grad=True)
    spmm(relation, x, reduce="max").sum().backward()
    assert x.grad.flatten().tolist() == [0.0, 1.0, 0.0]


def test_nan_is_the_largest_wherever_it_stands(implementation):
    relation = Relation.from_coo([0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2], 4, 3)
    nan, inf = torch.nan, torch.inf
    x = torch.tensor([[1.0, nan, nan, -inf], [nan, 1.0, nan, -inf], [5.0, 5.0, 2.0, -inf]], requires_grad=True)
    y = spmm(relation, x, reduce="max")
    wanted = torch.tensor([[nan, nan, nan, -inf], [nan, 5, nan, -inf], [5, 5, 2, -inf], [0, 0, 0, 0]])
    torch.testing.assert_close(y, wanted, rtol=0, atol=0, equal_nan=True)
    y[0].sum().backward()
    assert x.grad.tolist() == [[0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]  # of several NaN the first


def test_scales_of_what_is_left_out_do_not_count(implementation, relation):
    columns = torch.tensor([3, 0, 7])
    right = torch.full((NUM_SRC,), torch.inf, dtype=torch.float64)
    right[columns] = 2.0
    x = normal(3, 4, dtype=torch.float64)
    got = spmm_compact(relation, x, columns, right=right)
    torch.testing.assert_close(got, 2 * dense(relation)[:, columns] @ x)


def test_torch_accepts_the_registrations(relation):
    x = normal(NUM_SRC, 4).requires_grad_()
    weight = normal(relation.num_edges).requires_grad_()
    index = (relation.indptr, relation.indices, relation.t_indptr, relation.t_indices, relation.t_edges)
    for maximum in (False, True):
        arguments = (*index, x, weight, None, relation.scale_src(-0.5), 0.5, None, 1.0, None, maximum)
        torch.library.opcheck(torch.ops.graphrec.spmm.default, arguments)
    y, rows = normal(NUM_DST, 4).requires_grad_(), torch.tensor([3, 0])
    torch.library.opcheck(torch.ops.graphrec.sddmm.default, (*index, y, x, None, None, 1.0, None, None))
    scales = None, relation.scale_src(-0.5), 0.5
    torch.library.opcheck(torch.ops.graphrec.sddmm.default, (*index, normal(2, 4).requires_grad_(), x, *scales, rows, None))
    torch.library.opcheck(torch.ops.graphrec.spmm_transpose.default, (*index, y, weight, *scales, None))
    torch.library.opcheck(torch.ops.graphrec.spmm_transpose.default, (*index, normal(2, 4).requires_grad_(), None, *scales, rows))


def test_non_contiguous_and_unaligned_inputs(implementation, relation):
    x = normal(64, NUM_SRC).T
    first = spmm(relation, x)
    torch.testing.assert_close(first, spmm(relation, x.contiguous()), rtol=0, atol=0)
    shifted = torch.empty(NUM_SRC * 64 + 1)[1:].view(NUM_SRC, 64).copy_(x)
    assert torch.equal(first, spmm(relation, shifted))


def test_every_other_entry_of_rows_and_scales(implementation, relation):
    """What lies between them is out of range."""
    rows = torch.tensor([4, 2**40, 0, 2**40, 31, 2**40])[::2]
    left, right = torch.rand(NUM_DST, 2)[:, 0], torch.rand(NUM_SRC, 2)[:, 0]
    x, weight = normal(NUM_SRC, 3).requires_grad_(), normal(relation.num_edges, seed=1).requires_grad_()
    found = []
    for parts in ((left, right, rows), (left.contiguous(), right.contiguous(), rows.contiguous())):
        y = spmm(relation, x, *parts[:2], rows=parts[2], edge_weight=weight)
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, weight))))
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("dim", [5, 64, 200])
def test_reruns_and_threads_give_the_same_bits(implementation, dim):
    rng = np.random.default_rng(1)
    relation = Relation.from_coo(rng.integers(0, 3000, 40000), rng.zipf(1.5, 40000) % 2000, 3000, 2000)
    x, weight = normal(2000, dim), normal(relation.num_edges)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 2, 3):
            torch.set_num_threads(count)
            results.append((spmm(relation, x, edge_weight=weight), spmm(relation, x, reduce="max")))
    finally:
        torch.set_num_threads(threads)
    if implementation != "reference":  # torch's own products may sum in another order
        assert all(torch.equal(got, first) for result in results for got, first in zip(result, results[0], strict=True))


def test_every_output_is_written_and_nothing_else(implementation, relation):
    if implementation == "reference":
        pytest.skip("the reference allocates its own outputs")
    dim, guard = 65, 7
    y = torch.full((NUM_DST * dim + 2 * guard,), float("nan"))
    inside = y[guard:-guard]
    x = normal(NUM_SRC, dim)
    arguments = (None, None, None, None, x, None, None, 1.0, None, 0.0, inside, None)
    _kernels.call("spmm", x, 0, 0, NUM_DST, dim, relation.indptr, relation.indices, *arguments)
    assert not inside.isnan().any()
    assert y[:guard].isnan().all() and y[-guard:].isnan().all()


def test_no_edges_and_no_columns(implementation):
    empty = Relation.from_coo([], [], 4, 3)
    assert torch.equal(spmm(empty, torch.ones(3, 5)), torch.zeros(4, 5))
    assert torch.equal(spmm(empty, torch.ones(3, 5), reduce="max"), torch.zeros(4, 5))
    assert spmm(empty, torch.ones(3, 0)).shape == (4, 0)
    assert sddmm(empty, torch.ones(4, 2), torch.ones(3, 2)).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(NUM_SRC + 1, 4)}, r"x must be \(num_src = 22, D\), got \(23, 4\)"),
        ({"left": torch.ones(3)}, r"left must be torch.float32 \(33,\)"),
        ({"rows": torch.tensor([33])}, r"rows must be in 0..32, got 33..33; give places among the 33 that there are"),
        ({"rows": torch.tensor([3], dtype=torch.int32)}, r"rows must be int64 \(n,\), got torch.int32 \(1,\); use .long\(\)"),
        ({"rows": torch.ones(33) > 0}, r"rows must be int64 \(n,\), got torch.bool \(33,\); take mask.nonzero"),
        ({"x": torch.ones(NUM_SRC, 4, device="meta")}, r"x must be where the relation is, on cpu, got meta"),
        ({"z": torch.ones(NUM_DST, 3)}, r"z must be torch.float32 \(33, 4\), got torch.float32 \(33, 3\)"),
        ({"edge_weight": torch.ones(3)}, r"edge_weight must be torch.float32 \(\d+,\), got torch.float32 \(3,\)"),
        ({"reduce": "min"}, r'reduce must be "sum", "mean" or "max", got \'min\''),
    ],
)
def test_what_does_not_fit_is_named(relation, change, message):
    with pytest.raises(ValueError, match=message):
        spmm(**{"relation": relation, "x": torch.ones(NUM_SRC, 4)} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(NUM_SRC - 1, 4)}, r"spmm_forward: x must be \(num_src = 22, D\), got \(21, 4\)"),
        ({"z": torch.ones(NUM_DST, 4, dtype=torch.float64)}, r"spmm_forward: z must be torch.float32 \(33, 4\), got torch.float64"),
        ({"rows": torch.tensor([-1])}, r"spmm_forward: rows must be in 0..32, got -1..-1"),
        ({"right": torch.ones(3)}, r"spmm_forward: right must be torch.float32 \(22,\), got torch.float32 \(3,\)"),
    ],
)
def test_the_forward_pass_alone_names_what_does_not_fit(relation, change, message):
    rest = {"left": None, "right": None, "alpha": 1.0, "z": None, "beta": 1.0, "rows": None}
    with pytest.raises(ValueError, match=message):
        spmm_forward(**{"relation": relation, "x": torch.ones(NUM_SRC, 4)} | rest | change)


def test_compact_columns_that_do_not_fit_are_named(relation):
    with pytest.raises(ValueError, match=r"spmm_compact: x must be \(a row for each column = 2, D\), got \(3, 4\)"):
        spmm_compact(relation, torch.ones(3, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"spmm_compact: columns must be in 0..21, got -1..0"):
        spmm_compact(relation, torch.ones(2, 4), torch.tensor([0, -1]))


def test_sddmm_names_what_does_not_fit(relation):
    with pytest.raises(ValueError, match=r"dst_x must be floating point \(33, D\), got torch.float32 \(3, 2\)"):
        sddmm(relation, torch.ones(3, 2), torch.ones(NUM_SRC, 2))
    with pytest.raises(ValueError, match="must agree in D and dtype"):
        sddmm(relation, torch.ones(NUM_DST, 2), torch.ones(NUM_SRC, 3))


def test_an_edge_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"src must be in 0..2, got 0..3"):
        Relation.from_coo([0, 1], [0, 3], 2, 3)


def test_the_transpose_knows_where_its_edges_are(relation):
    transpose = relation.transpose()
    assert torch.equal(relation.indices[relation.t_edges].long(), transpose.rows)
    assert torch.equal(relation.t_edges[transpose.t_edges], torch.arange(relation.num_edges))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_beta_0_nothing_of_z_is_read(implementation, dtype):
    relation = Relation.from_coo([0, 0, 1], [0, 1, 1], 3, 2)
    x, z = torch.ones(2, 3, dtype=dtype), torch.full((3, 3), torch.nan, dtype=dtype, requires_grad=True)
    y = spmm(relation, x, alpha=2.0, z=z, beta=0.0)
    assert torch.equal(y, torch.tensor([4.0, 2.0, 0.0], dtype=dtype)[:, None].expand(3, 3))
    y.sum().backward()
    assert torch.equal(z.grad, torch.zeros_like(z))
    rows = torch.tensor([2, 0])
    assert torch.equal(spmm_forward(relation, x, None, None, 2.0, z.detach()[rows], 0, rows), y.detach()[rows])


def test_a_mean_divides_by_the_relations_own_weights_and_not_by_edge_weights(implementation):
    """Row 0 has weights 1 and 3 on x = 2 and 6."""
    plain, x = Relation.from_coo([0, 0], [0, 1], 2, 2), torch.tensor([[2.0], [6.0]])
    weight = torch.tensor([1.0, 3.0])
    assert spmm(plain, x, reduce="mean").tolist() == [[4.0], [0.0]]
    assert spmm(plain, x, edge_weight=weight, reduce="mean").tolist() == [[10.0], [0.0]]  # 20 / 2 edges
    assert spmm(plain.with_weight(weight), x, reduce="mean").tolist() == [[5.0], [0.0]]  # 20 / 4
