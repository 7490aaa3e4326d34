"""gat and gat_backward of the CUDA source, run on the host under several orders of threads, against float64 autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops import Relation

from .conftest import poisoned, tolerance, unaligned

GAT, GATV2 = 1, 2
SLOPE = 0.2
NUM_PARTIALS = 5


def philox(key: int, low: Tensor) -> Tensor:
    """Philox-4x32 with 10 rounds, (.., 4) words, written from the paper."""
    mask = 0xFFFFFFFF
    a, b, c, d = low & mask, low >> 32, torch.zeros_like(low), torch.zeros_like(low)
    k0, k1 = key & mask, key >> 32
    for _ in range(10):
        left, right = [0xD2511F53 * int(v) for v in a], [0xCD9E8D57 * int(v) for v in c]
        high = [torch.tensor([v >> 32 for v in part], dtype=torch.int64) for part in (left, right)]
        lower = [torch.tensor([v & mask for v in part], dtype=torch.int64) for part in (left, right)]
        a, b, c, d = high[1] ^ b ^ k0, lower[1], high[0] ^ d ^ k1, lower[0]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return torch.stack([a, b, c, d], -1)


def keeps(seed: int, count: int, dropout: float) -> Tensor:
    words = philox(seed, torch.arange((count + 3) // 4)).reshape(-1)[:count]
    return torch.where((words >> 8) / 2**24 < dropout, 0.0, 1 / (1 - dropout)).double()


def reference(graph: Relation, kind: int, dst, src_score, x, attention, keep) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
    row, column = graph.rows, graph.indices.long()
    leaky = torch.nn.functional.leaky_relu
    if kind == GAT:
        score = leaky(dst[row] + src_score[column], SLOPE)
    else:
        score = (attention * leaky(dst[row] + x[column], SLOPE)).sum(-1)
    index = row[:, None].expand_as(score)
    largest = torch.full((graph.num_dst, score.shape[1]), -torch.inf, dtype=score.dtype)
    largest = largest.scatter_reduce(0, index, score.detach(), "amax")
    mass = torch.zeros_like(largest).index_add(0, row, (score - largest[row]).exp())
    lse = largest + mass.log()
    share = (score - lse[row]).exp() * keep
    y = torch.zeros(graph.num_dst, *x.shape[1:], dtype=x.dtype).index_add(0, row, share[..., None] * x[column])
    return y, lse


def inputs(graph: Relation, kind: int, heads: int, dim: int, dtype: torch.dtype) -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(dim)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def draw(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    x, gradient = draw(graph.num_src, heads, dim), draw(graph.num_dst, heads, dim)
    if kind == GAT:
        dst, score = draw(graph.num_dst, heads, dtype=wide), draw(graph.num_src, heads, dtype=wide)
        return {"dst": dst, "src_score": score, "x": x, "attention": None, "gradient": gradient}
    attention = (draw(heads, dim).double() / dim**0.5).to(dtype)
    return {"dst": draw(graph.num_dst, heads, dim), "src_score": None, "x": x, "attention": attention, "gradient": gradient}


def native(graph: Relation, kind: int, values: dict[str, Tensor | None], dropout: float, seed: int) -> list[Tensor]:
    """y, lse and the gradients by dst, src_score or attention, and x."""
    dst, src_score, x, attention, gradient = values.values()
    _, heads, dim = x.shape
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    code, settings = _kernels.DTYPES[x.dtype], (SLOPE, dropout, seed)
    y, lse = poisoned(graph.num_dst, heads, dim, dtype=x.dtype), poisoned(graph.num_dst, heads, dtype=wide)
    csr = graph.indptr, graph.indices
    _kernels.call("gat", x, code, kind, graph.num_dst, heads, dim, *csr, dst, src_score, x, attention, *settings, y, lse)
    dst_gradient, x_gradient = poisoned(*dst.shape, dtype=dst.dtype), poisoned(*x.shape, dtype=x.dtype)
    score_gradient = None if src_score is None else poisoned(*src_score.shape, dtype=wide)
    partials = None if attention is None else poisoned(NUM_PARTIALS, heads, dim, dtype=wide)
    delta, edge_gradient = poisoned(graph.num_dst, heads, dtype=wide), poisoned(graph.num_edges, heads, dtype=wide)
    _kernels.call(
        *("gat_backward", x, code, kind, graph.num_dst, graph.num_src, heads, dim, *csr, graph.t_indptr, graph.t_indices),
        *(graph.t_edges, dst, src_score, x, attention, *settings, y, lse, gradient, dst_gradient, score_gradient),
        *(x_gradient, NUM_PARTIALS, partials, delta, edge_gradient),
    )
    third = partials.sum(0) if score_gradient is None else score_gradient
    return [y, lse, dst_gradient, third, x_gradient]


def expected(graph: Relation, kind: int, values: dict[str, Tensor | None], dropout: float, seed: int) -> list[Tensor]:
    wide = {name: None if v is None else v.double().requires_grad_() for name, v in values.items()}
    heads = wide["x"].shape[1]
    count = graph.num_edges * heads
    keep = keeps(seed, count, dropout).view(-1, heads) if dropout else torch.ones(graph.num_edges, heads)
    y, lse = reference(graph, kind, wide["dst"], wide["src_score"], wide["x"], wide["attention"], keep)
    third = wide["attention"] if kind == GATV2 else wide["src_score"]
    gradients = torch.autograd.grad(y, (wide["dst"], third, wide["x"]), wide["gradient"].detach())
    return [y.detach(), lse.detach(), *gradients]


@pytest.mark.parametrize("count", [8, 700])  # a row of one warp, and one of a block
def test_edges_of_score_minus_infinity_count_nothing(emulated, count):
    row = Relation.from_coo([0] * count, list(range(count)), 1, count)
    values = inputs(row, GAT, 2, 4, torch.float64) | {"dst": torch.zeros(1, 2, dtype=torch.float64)}
    values["src_score"] = torch.full((count, 2), -torch.inf, dtype=torch.float64)
    values["src_score"][count // 2] = 0.0
    y, lse, *gradients = emulated.run(lambda: native(row, GAT, values, 0.0, 0))
    torch.testing.assert_close(y, values["x"][count // 2][None])
    assert not lse.any() and not any(part.any() for part in gradients[:2])
    wanted = torch.zeros_like(gradients[2])
    wanted[count // 2] = values["gradient"][0]
    torch.testing.assert_close(gradients[2], wanted)


def compare(got: list[Tensor], wanted: list[Tensor], dtype: torch.dtype) -> None:
    for name, one, other in zip(("y", "lse", "dst", "src_score or attention", "x"), got, wanted, strict=True):
        size = float(other[other.isfinite()].abs().max().clamp(min=1.0)) if other.numel() else 1.0
        bound = tolerance(dtype)["atol"] * size * (10 if name != "y" and name != "lse" else 2)
        torch.testing.assert_close(one.double(), other, rtol=0, atol=bound, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("kind", [GAT, GATV2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("heads", "dim"), [(1, 1), (2, 3), (1, 31), (2, 32), (1, 33), (4, 64), (1, 65), (1, 128), (1, 300)])
def test_forward_and_backward(emulated, graph, kind, dtype, heads, dim):
    values = inputs(graph, kind, heads, dim, dtype)
    got = emulated.run(lambda: native(graph, kind, values, 0.0, 0))
    compare(got, expected(graph, kind, values, 0.0, 0), dtype)
    assert not got[0][300:].any() and (got[1][300:] == -torch.inf).all(), "rows without edges"
    assert not got[4][310:].any(), "isolated columns"


@pytest.mark.parametrize("kind", [GAT, GATV2])
def test_dropout_draws_by_edge_and_head(emulated, graph, kind):
    values = inputs(graph, kind, 3, 8, torch.float64)
    seed = (5 << 32) + 7
    compare(emulated.run(lambda: native(graph, kind, values, 0.4, seed)), expected(graph, kind, values, 0.4, seed), torch.float64)


@pytest.mark.parametrize("kind", [GAT, GATV2])
@pytest.mark.parametrize("dim", [3, 64])
def test_unaligned_pointers(emulated, graph, kind, dim):
    values = inputs(graph, kind, 2, dim, torch.float32)
    moved = {name: None if v is None else unaligned(v) for name, v in values.items()}
    compare(emulated.run(lambda: native(graph, kind, moved, 0.0, 0)), expected(graph, kind, values, 0.0, 0), torch.float32)


@pytest.mark.parametrize("kind", [GAT, GATV2])
def test_scores_far_apart_neither_overflow_nor_vanish(emulated, graph, kind):
    values = inputs(graph, kind, 1, 64, torch.float32)
    values["dst"] = values["dst"] * 300
    got = emulated.run(lambda: native(graph, kind, values, 0.0, 0))
    assert all(tensor.isfinite().all() for tensor in (got[0], got[2], got[3], got[4]))
    wanted = expected(graph, kind, values, 0.0, 0)
    torch.testing.assert_close(got[0].double(), wanted[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [GAT, GATV2])
def test_no_edges(emulated, no_edges, kind):
    y, lse, *gradients = emulated.run(lambda: native(no_edges, kind, inputs(no_edges, kind, 2, 64, torch.float32), 0.0, 0))
    assert not y.any() and (lse == -torch.inf).all()
    assert not any(gradient.any() for gradient in gradients)


def test_bad_options_are_refused(emulated, graph):
    values = inputs(graph, GAT, 1, 4, torch.float32)
    with _kernels.replaced(emulated.path, "cuda"):
        for kind, dropout in ((3, 0.0), (GAT, 1.0), (GAT, -0.1)):
            with pytest.raises(ValueError, match="option"):
                native(graph, kind, values, dropout, 0)
