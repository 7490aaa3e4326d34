"""spmm, push, sddmm and hetero_spmm of the CUDA source, run on the host under several orders of threads, against float64."""

from __future__ import annotations

import pytest
import torch

from graphrec import _kernels
from graphrec.ops import Relation, normalised_forward, push, sddmm, spmm, spmm_compact, spmm_forward
from graphrec.ops.sddmm import sddmm_forward

from .conftest import ORDERS, ROOT, Emulated, poisoned, tolerance, unaligned

DIMS = [1, 3, 31, 32, 33, 64, 65, 128]
DTYPES = [torch.float32, torch.float64, torch.bfloat16]


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def dense(relation: Relation, weight: torch.Tensor | None = None) -> torch.Tensor:
    matrix = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
    matrix[relation.rows, relation.indices.long()] = 1.0 if weight is None else weight.double()
    return matrix


def check(got: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), expected, **tolerance(dtype))


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_spmm_with_everything(emulated, graph, dim, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, z = random(320, dim, dtype=dtype), random(310, dim, dtype=dtype, seed=1)
    left, right = graph.scale_dst(-0.5, wide), graph.scale_src(-0.3, wide)
    weight = random(graph.num_edges, dtype=wide, seed=2)
    (got,) = emulated.run(lambda: [spmm(graph, x, left, right, 0.7, z, -0.2, edge_weight=weight)])
    scaled = left.double()[:, None] * dense(graph, weight) * right.double()
    check(got, 0.7 * scaled @ x.double() - 0.2 * z.double(), dtype)


@pytest.mark.parametrize("dim", [200, 257, 300])
def test_spmm_of_more_columns_than_a_warp_holds(emulated, graph, dim):
    x = random(320, dim)
    (got,) = emulated.run(lambda: [spmm(graph, x)])
    torch.testing.assert_close(got.double(), dense(graph) @ x.double(), rtol=2e-5, atol=1e-4)


def test_scales_of_edges_stand_for_those_of_columns(emulated, graph):
    x, z = random(320, 64), random(310, 64, seed=1)
    weighted = graph.with_weight(random(graph.num_edges, seed=2).abs())

    def products() -> list[torch.Tensor]:
        by_column = [
            spmm_forward(each, x, each.scale_dst(-0.5), each.scale_src(-0.5), 0.7, z, 0.7, None) for each in (graph, weighted)
        ]
        return by_column + [normalised_forward(each, x, 0.7, z) for each in (graph, weighted)]

    by_column, by_column_weighted, by_edge, by_edge_weighted = emulated.run(products)
    assert torch.equal(by_column, by_edge)
    torch.testing.assert_close(by_edge_weighted, by_column_weighted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(normalised_forward(weighted, x, 0.7, z), by_edge_weighted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_of_every_length(emulated, dtype):
    """0 to 69 edges, and where a warp and a block take over; few rows, so that blocks are not full, and many."""
    lengths = torch.cat([torch.arange(70), torch.tensor([255, 256, 257, 300, 511, 512, 513])])
    lengths = lengths[torch.randperm(len(lengths), generator=torch.Generator().manual_seed(3))]
    dst = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    src = torch.cat([torch.randperm(600, generator=torch.Generator().manual_seed(int(n)))[:n] for n in lengths])
    for times in (1, 4):
        all_dst = torch.cat([dst + len(lengths) * k for k in range(times)])
        relation = Relation.from_coo(all_dst, src.repeat(times), len(lengths) * times, 600)
        x = random(600, 24, dtype=dtype)
        (got,) = emulated.run(lambda relation=relation, x=x: [spmm(relation, x)])
        expected = dense(relation) @ x.double()
        error = (got.double() - expected).abs() / (1 + dense(relation) @ x.double().abs())
        assert got.dtype == dtype and float(error.max()) < tolerance(dtype)["atol"]


def test_restricted_rows_and_compact_columns(emulated, graph):
    rows = torch.tensor([305, 3, 17, 0, 250])
    x, compact = random(320, 64), random(5, 64, seed=1)
    whole, part = emulated.run(lambda: [spmm(graph, x), spmm(graph, x, rows=rows)])
    assert torch.equal(whole[rows], part)
    (got,) = emulated.run(lambda: [spmm_compact(graph.transpose(), compact, rows, alpha=0.5)])
    check(got, 0.5 * dense(graph).T[:, rows] @ compact.double(), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("share", [0.0, 0.02, 1.0])
def test_pushed_signals(emulated, graph, dtype, share):
    x = random(3, 310, dtype=dtype)
    x = torch.where(torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < share, x, 0.0)
    left, right = graph.scale_dst(-0.5, dtype), graph.scale_src(-0.3, dtype)
    plain, scaled = emulated.run(lambda: [push(graph, x), push(graph, x, left, right, 0.7)])
    check(plain, x.double() @ dense(graph), dtype)
    check(scaled, 0.7 * x.double() @ (left.double()[:, None] * dense(graph) * right.double()), dtype)


@pytest.mark.parametrize("dim", [3, 64])
def test_unaligned_pointers_give_the_same(emulated, graph, dim):
    x, z = random(320, dim), random(310, dim, seed=1)
    aligned, other = emulated.run(lambda: [spmm(graph, x, z=z), spmm(graph, unaligned(x), z=unaligned(z))])
    torch.testing.assert_close(other, aligned, rtol=1e-5, atol=1e-5)
    one, two = emulated.run(lambda: [sddmm(graph, z, x), sddmm(graph, unaligned(z), unaligned(x))])
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)


def test_z_may_be_y_and_nothing_else_is_written(emulated, graph):
    x, z = random(320, 32), random(310, 32, seed=1)

    def compute() -> list[torch.Tensor]:
        buffer = poisoned(312, 32)
        y = buffer[1:311].copy_(z)
        arguments = (graph.indptr, graph.indices, None, None, None, None, x, None, None, 1.0, y, 2.0, y, None)
        _kernels.call("spmm", x, 0, 0, 310, 32, *arguments)
        return [buffer]

    (buffer,) = emulated.run(compute)
    check(buffer[1:311], dense(graph) @ x.double() + 2 * z.double(), torch.float32)
    assert buffer[[0, 311]].isnan().all()


def test_scales_of_what_is_left_out_do_not_count(emulated, graph):
    columns = torch.tensor([7, 0, 250])
    right = torch.full((320,), torch.inf)
    right[columns] = 2.0
    signal, left = torch.zeros(1, 310), torch.full((310,), torch.inf)
    signal[0, 3], left[3] = 2.0, 1.0
    x = random(3, 64)
    product, pushed = emulated.run(lambda: [spmm_compact(graph, x, columns, right=right), push(graph, signal, left)])
    check(product, 2 * dense(graph)[:, columns] @ x.double(), torch.float32)
    assert torch.equal(pushed[0].double(), 2 * dense(graph)[3])


@pytest.mark.parametrize("dim", [3, 64])
def test_nan_is_the_largest_wherever_it_stands(emulated, graph, dim):
    x = random(320, dim)
    x[torch.tensor([5, 100, 299]), 0] = torch.nan
    x[torch.tensor([5, 250, 299]), dim - 1] = torch.nan

    def compute() -> list[torch.Tensor]:
        got = x.clone().requires_grad_()
        y = spmm(graph, got, reduce="max")
        y.nan_to_num(1.0).sum().backward()
        return [y.detach(), got.grad]

    y, gradient = emulated.run(compute)
    messages = torch.where(dense(graph)[..., None] > 0, x.double(), -torch.inf)
    wanted = torch.where((dense(graph).sum(1) > 0)[:, None], messages.amax(1), 0.0)
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(gradient, spmm_gradient(graph, x, y))


def spmm_gradient(graph: Relation, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """What the first edge of each row's maximum gets where a number, and no NaN, has won."""
    gradient = torch.zeros_like(x)
    matrix = dense(graph) > 0
    for r, d in y.isfinite().nonzero().tolist():
        wins = (matrix[r] & (x[:, d] == y[r, d])).nonzero()
        if len(wins):
            gradient[wins[0, 0], d] += 1
    return gradient


@pytest.mark.parametrize("dim", [1, 31, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_max_and_its_gradients_equal_the_reference(emulated, graph, dim, dtype, monkeypatch):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    rows = torch.tensor([305, 3, 17, 0, 250])
    # Small whole numbers: many ties, and every product is exact in bfloat16.
    x = random(320, dim, dtype=torch.float64).mul(2).round().to(dtype).requires_grad_()
    weight = random(graph.num_edges, dtype=wide, seed=1).round().requires_grad_()
    left, right = graph.scale_dst(0.0, wide) * 2, graph.scale_src(0.0, wide) * 0.5

    def compute() -> list[torch.Tensor]:
        whole = spmm(graph, x, left, right, 0.5, edge_weight=weight, reduce="max")
        part = spmm(graph, x, left, right, rows=rows, edge_weight=weight, reduce="max")
        return [whole, part, *torch.autograd.grad(whole.sum() + part.sum(), (x, weight))]

    got = emulated.run(compute)
    monkeypatch.setattr(_kernels, "kind", lambda x: None)
    for one, expected in zip(got, compute(), strict=True):
        torch.testing.assert_close(one.detach(), expected.detach(), rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", [*DIMS, 300])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sddmm(emulated, graph, dim, dtype):
    a, b = random(310, dim, dtype=dtype), random(320, dim, dtype=dtype, seed=1)
    (got,) = emulated.run(lambda: [sddmm(graph, a, b)])
    expected = (a.double() @ b.double().T)[graph.rows, graph.indices.long()]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    torch.testing.assert_close(got.double(), expected, **tolerance(wide) | {"atol": 1e-4})


def test_sddmm_of_restricted_rows_leaves_the_others(emulated, graph):
    rows = torch.tensor([305, 3, 17, 0, 250])
    a, b = random(5, 64), random(320, 64, seed=1)
    left, right = graph.scale_dst(-0.5), graph.scale_src(-0.5)
    (got,) = emulated.run(lambda: [sddmm_forward(graph.indptr, graph.indices, a, b, left, right, 0.3, rows)])
    scores = torch.zeros(310, 320, dtype=torch.float64)
    scores[rows] = 0.3 * left.double()[rows, None] * (a.double() @ b.double().T) * right.double()
    check(got, scores[graph.rows, graph.indices.long()], torch.float32)


@pytest.mark.parametrize("dim", [3, 64, 300])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hetero_spmm(emulated, graph, no_edges, dim, dtype):
    """Two relations into one y of stride dim + 4, one into another; the second y is unaligned, so its rows go one by one."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    back, left, right = graph.transpose(), graph.scale_dst(-0.5, wide), graph.scale_src(-0.5, wide)
    xs = [random(size, dim, dtype=dtype, seed=size) for size in (320, 310, 320)]
    second = Relation.from_coo([0, 309, 309], [309, 0, 1], 310, 310)

    def compute() -> list[torch.Tensor]:
        first, other = poisoned(310, dim + 4, dtype=dtype), unaligned(poisoned(320, dim, dtype=dtype))
        empty = poisoned(9, dim, dtype=dtype)
        parts = [
            (310, graph.indptr, graph.indices, xs[0], left, right, first, dim + 4),
            (310, second.indptr, second.indices, xs[1], None, None, first, dim + 4),
            (320, back.indptr, back.indices, xs[1], None, left, other, dim),
            (9, no_edges.indptr, no_edges.indices, xs[2], None, None, empty, dim),
        ]
        table = torch.tensor([[v.data_ptr() if isinstance(v, torch.Tensor) else v or 0 for v in part] for part in parts])
        _kernels.call("hetero_spmm", xs[0], _kernels.DTYPES[dtype], len(parts), 310 + 320 + 9, dim, table, 0.5)
        return [first, other, empty]

    first, other, empty = emulated.run(compute)
    scaled = left.double()[:, None] * dense(graph) * right.double()
    check(first[:, :dim], 0.5 * (scaled @ xs[0].double() + dense(second) @ xs[1].double()), dtype)
    assert first[:, dim:].isnan().all()
    check(other, 0.5 * dense(graph).T @ (left.double()[:, None] * xs[1].double()), dtype)
    assert torch.equal(empty, torch.zeros_like(empty))


def test_no_edges_give_zeros(emulated, no_edges):
    x, z = random(5, 64), random(9, 64)
    zeros, kept, none, scores = emulated.run(
        lambda: [
            spmm(no_edges, x),
            spmm(no_edges, x, z=z),
            spmm(no_edges, x, reduce="max"),
            sddmm(no_edges, z, x),
        ]
    )
    assert not zeros.any() and torch.equal(kept, z) and not none.any() and len(scores) == 0


def test_what_does_not_fit_is_refused(emulated, graph):
    x = random(320, 4)
    with _kernels.replaced(emulated.path, "cuda"):
        with pytest.raises(ValueError, match="dtype"):
            _kernels.call("sddmm", x, 7, 310, 4, graph.indptr, graph.indices, None, x, x, None, None, 1.0, None, x)
        with pytest.raises(ValueError, match="size"):
            _kernels.call("hetero_spmm", x, 0, 1, 5, 0, x, 1.0)


@pytest.mark.parametrize("plant", ["GRAPHREC_PLANT_OFF_BY_ONE", "GRAPHREC_PLANT_MISSING_BARRIER"])
def test_planted_mistakes_are_found(build, graph, plant, capfd):
    """A kernel that skips an edge or a barrier must fail the comparison that the kernels pass."""
    x = random(320, 64)
    library = Emulated(build([plant], [ROOT / "kernels" / "cuda" / name for name in ("library.cu", "spmm.cu")]))
    expected = dense(graph) @ x.double()

    results = [library.once(lambda: [spmm(graph, x)], order, races=False)[0] for order in ORDERS]
    with pytest.raises(AssertionError):
        for got in results:
            check(got, expected, torch.float32)
    if plant == "GRAPHREC_PLANT_MISSING_BARRIER":
        with pytest.raises(ValueError, match="refused the launch"):
            library.once(lambda: [spmm(graph, x)], ORDERS[0])
        assert "a race for shared memory" in capfd.readouterr().err
