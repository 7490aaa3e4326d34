from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops import Relation, attention, backend, gat, gatv2

NUM_DST, NUM_SRC = 37, 29
SLOPE = 0.2
ORDER = ("generic", "avx2", "avx512")
BEST = backend().removeprefix("native-")
VARIANTS = ORDER[: ORDER.index(BEST) + 1] if BEST in ORDER else ()
KINDS = (gat, gatv2)


@pytest.fixture(scope="module")
def relation() -> Relation:
    """A hub row and column (0), empty rows (from 34 on), isolated columns (27, 28), repeated edges, which merge."""
    rng = np.random.default_rng(0)
    dst = np.concatenate([np.zeros(27, int), np.arange(34), rng.integers(1, 34, 150), [5, 5]])
    src = np.concatenate([np.arange(27), np.zeros(34, int), rng.integers(0, 27, 150), [3, 3]])
    return Relation.from_coo(dst, src, NUM_DST, NUM_SRC)


@pytest.fixture(scope="module")
def long_relation() -> Relation:
    """A row and a column with thousands of edges: many chunks of scores."""
    return Relation.from_coo([0] * 2500 + [1] * 2 + [*range(2, 300)], [*range(2500), 3, 5, *([7] * 298)], 300, 2500)


def inputs(kind, relation: Relation, heads: int, dim: int, dtype=torch.float64, scale: float = 1.0) -> list[Tensor]:  # type: ignore[no-untyped-def]
    """What the operator takes after the relation: random, seeded by the sizes, requiring gradients."""
    generator = torch.Generator().manual_seed(1000 * heads + dim)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    dst, src = relation.num_dst, relation.num_src
    if kind is gat:
        shapes = [((dst, heads), wide), ((src, heads), wide), ((src, heads, dim), dtype)]
    else:
        shapes = [((dst, heads, dim), dtype), ((src, heads, dim), dtype), ((heads, dim), dtype)]
    drawn = [(scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(kept) for shape, kept in shapes]
    if kind is gatv2:
        drawn[2] = (drawn[2] / dim**0.5).to(dtype)
    return [x.requires_grad_() for x in drawn]


def dense(kind, relation: Relation, first: Tensor, second: Tensor, third: Tensor, keep: Tensor | None = None) -> Tensor:  # type: ignore[no-untyped-def]
    """The definition on a dense (U, I, H) table of scores, in float64."""
    first, second, third = first.double(), second.double(), third.double()
    linked = torch.zeros(relation.num_dst, relation.num_src, 1, dtype=torch.bool)
    rows = torch.repeat_interleave(torch.arange(relation.num_dst), relation.degree_dst)
    linked[rows, relation.indices.long()] = True
    both = first[:, None] + second[None]
    both = torch.where(both > 0, both, SLOPE * both)  # at 0, which bfloat16 sums hit, the slope is that of the left
    score, x = (both, third) if kind is gat else ((both * third).sum(-1), second)
    weight = torch.softmax(score.masked_fill(~linked, -torch.inf), 1).masked_fill(~linked, 0.0)
    if keep is not None:
        factor = torch.zeros_like(weight).index_put_((rows, relation.indices.long()), keep.double())
        weight = weight * factor
    return torch.einsum("uih,ihf->uhf", weight, x)


def output_and_gradients(run, tensors: list[Tensor]) -> list[Tensor]:  # type: ignore[no-untyped-def]
    y = run(*tensors)
    toward = torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(y.dtype)
    return [y, *torch.autograd.grad(y, tensors, toward)]


def assert_near(got: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for a, b in zip(got, expected, strict=True):
        error = (a.double() - b.double()).abs().max() / b.abs().max()
        assert error < tolerance, f"{tuple(a.shape)}: {error:.2e}"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [1, 4, 8, 3, 17])
def test_output_and_gradients_equal_the_dense_definition(relation, kind, heads, variant):
    for dim in (1, 3, 16, 31, 32, 33, 64, 65):
        exact = inputs(kind, relation, heads, dim)
        expected = output_and_gradients(lambda *x: dense(kind, relation, *x), exact)
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
            tensors = [x.detach().to(dtype).requires_grad_() for x in exact]
            with _kernels.replaced(None, "cpu", variant):
                got = output_and_gradients(lambda *x: kind(relation, *x), tensors)
            assert_near(got, expected, tolerance)
            assert not got[0][34:].any() and got[0].dtype == dtype


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_within_its_rounding(relation, kind, variant):
    tensors = inputs(kind, relation, 4, 33, torch.bfloat16)
    expected = output_and_gradients(lambda *x: dense(kind, relation, *x), tensors)
    with _kernels.replaced(None, "cpu", variant):
        got = output_and_gradients(lambda *x: kind(relation, *x), tensors)
    # delta reads the rounded output, so gradients carry a few of its roundings (2^-9 each).
    assert_near(got[:1], expected[:1], 2**-8)
    assert_near(got[1:], expected[1:], 2**-6)
    assert [x.dtype for x in got[1:]] == [x.dtype for x in tensors]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [1, 4, 5])
def test_rows_of_thousands_of_edges(long_relation, kind, heads, variant):
    exact = inputs(kind, long_relation, heads, 5, scale=3.0)
    expected = output_and_gradients(lambda *x: dense(kind, long_relation, *x), exact)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        tensors = [x.detach().to(dtype).requires_grad_() for x in exact]
        with _kernels.replaced(None, "cpu", variant):
            assert_near(output_and_gradients(lambda *x: kind(long_relation, *x), tensors), expected, tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_native_equals_the_reference(relation, kind, dropout, dtype):
    if not VARIANTS:
        pytest.skip("no native library")
    first, second, third = (x.detach() for x in inputs(kind, relation, 4, 16, dtype))
    operands = (first, second, third, None) if kind is gat else (first, None, second, third)
    csr = (relation.indptr, relation.indices)
    y, lse = attention._gat_reference(*csr, *operands, SLOPE, dropout, 5)
    got_y, got_lse = attention._GAT(*attention._index(relation), *operands, SLOPE, dropout, 5)
    assert torch.equal(got_lse.isinf(), lse.isinf()) and bool((lse[34:] == -torch.inf).all())
    assert_near([got_y, got_lse[:34]], [y, lse[:34]], 1e-5)
    expected = attention._gat_backward_reference(*csr, *operands, y, lse, y + 1, SLOPE, dropout, 5)
    got = attention._GAT_BACKWARD(*attention._index(relation), *operands, y, lse, y + 1, SLOPE, dropout, 5)
    assert [x.shape for x in got] == [x.shape for x in expected]
    assert_near([x for x in got if x.numel()], [x for x in expected if x.numel()], 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_runs_where_no_library_does(relation, kind, monkeypatch):
    monkeypatch.setattr(_kernels, "kind", lambda x: None)
    tensors = inputs(kind, relation, 4, 3)
    assert_near(
        output_and_gradients(lambda *x: kind(relation, *x), tensors),
        output_and_gradients(lambda *x: dense(kind, relation, *x), tensors),
        1e-12,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradcheck(kind, dropout):
    small = Relation.from_coo([0, 0, 0, 1, 3], [0, 1, 3, 1, 0], 4, 5)
    tensors = inputs(kind, small, 2, 3)
    assert torch.autograd.gradcheck(lambda *x: kind(small, *x, dropout=dropout, seed=3), tensors)


@pytest.mark.filterwarnings("error:.*autograd kernel was not registered")
@pytest.mark.parametrize("kind", KINDS)
def test_the_second_derivative_is_an_error(relation, kind):
    tensors = inputs(kind, relation, 2, 3)
    slopes = torch.autograd.grad(kind(relation, *tensors).sum(), tensors, create_graph=True)
    for slope in slopes:
        with pytest.raises(RuntimeError, match=r"attention \(gat, gatv2\) is differentiable once"):
            torch.autograd.grad(slope.sum(), tensors, allow_unused=True, retain_graph=True)


@pytest.mark.parametrize("kind", KINDS)
def test_opcheck(relation, kind):
    first, second, third = inputs(kind, relation, 4, 16)
    operands = (first, second, third, None) if kind is gat else (first, None, second, third)
    torch.library.opcheck(torch.ops.graphrec.gat.default, (*attention._index(relation), *operands, SLOPE, 0.1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_bitwise_reruns_for_any_number_of_threads(long_relation, kind):
    tensors = inputs(kind, long_relation, 4, 16, torch.float32)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            results.append(output_and_gradients(lambda *x: kind(long_relation, *x, dropout=0.1), tensors))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [3, 16])
def test_every_entry_is_written(relation, kind, dim):
    tensors = inputs(kind, relation, 4, dim, torch.float32)
    expected = output_and_gradients(lambda *x: kind(relation, *x), tensors)
    torch.use_deterministic_algorithms(True)  # fills new memory with NaN
    try:
        assert torch.empty(3).isnan().all()
        got = output_and_gradients(lambda *x: kind(relation, *x), tensors)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_non_contiguous_inputs(relation, kind):
    tensors = inputs(kind, relation, 4, 16, torch.float32)
    strided = [x.detach().movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_() for x in tensors]
    assert not strided[0].is_contiguous()
    got = output_and_gradients(lambda *x: kind(relation, *x), strided)
    expected = output_and_gradients(lambda *x: kind(relation, *x), tensors)
    assert_near(got, expected, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_edges_give_zeros(kind):
    empty = Relation.from_coo([], [], 4, 3)
    got = output_and_gradients(lambda *x: kind(empty, *x), inputs(kind, empty, 2, 5, torch.float32))
    assert not any(x.any() for x in got)
    nothing = Relation.from_coo([], [], 0, 0)
    assert kind(nothing, *inputs(kind, nothing, 2, 5)).shape == (0, 2, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_would_overflow_an_exponential(relation, kind):
    exact = inputs(kind, relation, 4, 16, scale=200.0)
    expected = output_and_gradients(lambda *x: dense(kind, relation, *x), exact)
    tensors = [x.detach().float().requires_grad_() for x in exact]
    assert_near(output_and_gradients(lambda *x: kind(relation, *x), tensors)[:1], expected[:1], 1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("heads", [1, 4, 3])
@pytest.mark.parametrize("place", [slice(0, 5), slice(600, 605), slice(2495, 2500)], ids=["first", "middle", "last"])
def test_edges_of_score_minus_infinity_count_nothing(variant, heads, place):
    """Whole chunks of them too, before and after the edges that count."""
    row = Relation.from_coo(np.zeros(2500, int), np.arange(2500), 1, 2500)
    x = torch.randn(2500, heads, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    score = torch.full((2500, heads), -torch.inf, dtype=torch.float64)
    score[place] = 1.0
    share = torch.zeros(2500, dtype=torch.float64)
    share[place] = 0.2
    with _kernels.replaced(None, "cpu", variant):
        y = gat(row, torch.zeros(1, heads, dtype=torch.float64), score.requires_grad_(), x)
        x_gradient, score_gradient = torch.autograd.grad(y.sum(), (x, score))
        single = gat(row, torch.zeros(1, heads), score.detach().float(), x.detach().float())
    torch.testing.assert_close(y, torch.einsum("i,ihf->hf", share, x)[None])
    torch.testing.assert_close(single, y.detach().float())
    torch.testing.assert_close(x_gradient, share[:, None, None].expand_as(x))
    message = x.sum(2).detach()
    torch.testing.assert_close(score_gradient, share[:, None] * (message - (share[:, None] * message).sum(0)))


def test_one_edge_copies_and_equal_scores_average():
    pair = Relation.from_coo([0, 1, 1], [0, 0, 1], 2, 2)
    x = torch.tensor([[[2.0, 4.0]], [[6.0, 0.0]]])
    y = gat(pair, torch.zeros(2, 1), torch.zeros(2, 1), x)
    torch.testing.assert_close(y, torch.tensor([[[2.0, 4.0]], [[4.0, 2.0]]]))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [1, 3, 4, 8])
def test_dropout_draws_what_the_reference_draws(relation, kind, heads, variant):
    tensors = inputs(kind, relation, heads, 16)
    keep = attention.keep_factors(relation.num_edges, heads, seed=-9, dropout=0.35)
    with _kernels.replaced(None, "cpu", variant):
        got = output_and_gradients(lambda *x: kind(relation, *x, dropout=0.35, seed=-9), tensors)
    assert_near(got, output_and_gradients(lambda *x: dense(kind, relation, *x, keep), tensors), 1e-12)


def test_keep_factors_are_those_of_philox():
    # Known answers of Random123 for philox4x32-10: counter and key zero give these four words.
    words = np.array([0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8], dtype=np.uint64)
    units = torch.from_numpy((words >> np.uint64(8)).astype(np.float32) / np.float32(2**24))
    for share in (0.3, 0.5, 0.65, 0.8, 0.95):
        kept = attention.keep_factors(1, 4, seed=0, dropout=share)[0]
        assert torch.equal(kept == 0, units < share)


def test_dropout_keeps_its_share_and_the_mean():
    keep = attention.keep_factors(50_000, 4, seed=11, dropout=0.3)
    rate = float((keep > 0).double().mean())
    assert abs(rate - 0.7) < 4 * (0.3 * 0.7 / keep.numel()) ** 0.5
    assert abs(float(keep.double().mean()) - 1.0) < 0.01
    assert not torch.equal(keep, attention.keep_factors(50_000, 4, seed=12, dropout=0.3))
    # The mean over seeds of a dropped-out average is the average.
    small = Relation.from_coo([0] * 5 + [1], [*range(5), 2], 2, 5)
    tensors = [x.detach() for x in inputs(gat, small, 2, 3)]
    mean = torch.stack([gat(small, *tensors, dropout=0.3, seed=seed) for seed in range(4000)]).mean(0)
    torch.testing.assert_close(mean, gat(small, *tensors), rtol=0, atol=0.06)
    assert torch.equal(gat(small, *tensors, dropout=0.3, seed=8), gat(small, *tensors, dropout=0.3, seed=8))


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (gat, {0: torch.ones(3, 4)}, r"gat: dst_score must be torch.float32 \(37, 4\), got torch.float32 \(3, 4\)"),
        (gat, {1: torch.ones(29, 4, dtype=torch.float64)}, r"gat: src_score must be torch.float32 \(29, 4\)"),
        (gat, {2: torch.ones(29, 4)}, r"gat: src_x must be floating point \(num_src = 29, H, F\)"),
        (gatv2, {0: torch.ones(37, 4, 8)}, r"gatv2: dst_x must be torch.float32 \(37, 4, 16\)"),
        (gatv2, {2: torch.ones(4)}, r"gatv2: attention must be torch.float32 \(4, 16\)"),
    ],
)
def test_what_does_not_fit_is_named(relation, kind, change, message):
    tensors = inputs(kind, relation, 4, 16, torch.float32)
    for place, value in change.items():
        tensors[place] = value
    with pytest.raises(ValueError, match=message):
        kind(relation, *tensors)


@pytest.mark.parametrize("dropout", [1.0, -0.1, float("nan")])
def test_a_dropout_out_of_range_is_named(relation, dropout):
    with pytest.raises(ValueError, match=r"gat: dropout must be (in \[0, 1\), got|finite, got nan)"):
        gat(relation, *inputs(gat, relation, 4, 16), dropout=dropout)
