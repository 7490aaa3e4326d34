from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from graphrec import _kernels
from graphrec.ops import Relation, backend, hetero_spmm, spmm

SIZES = {"user": 31, "item": 23, "tag": 9}
ORDER = ("generic", "avx2", "avx512")
BEST = backend().removeprefix("native-")
VARIANTS = ORDER[: ORDER.index(BEST) + 1] if BEST in ORDER else ()


@pytest.fixture(scope="module")
def relations() -> list[tuple[Relation, str, str]]:
    """Three relations into users, one of them without edges, one into items and one into tags with a hub and empty rows."""
    rng = np.random.default_rng(0)

    def draw(source: str, target: str, edges: int) -> Relation:
        dst, src = rng.integers(0, SIZES[target] - 2, edges), rng.integers(0, SIZES[source] - 2, edges)
        return Relation.from_coo(dst, src, SIZES[target], SIZES[source])

    hub = Relation.from_coo([3] * 31 + [5], [*range(31), 2], SIZES["tag"], SIZES["user"])
    return [
        (draw("item", "user", 200), "item", "user"),
        (draw("user", "item", 150), "user", "item"),
        (draw("user", "user", 80), "user", "user"),
        (hub, "user", "tag"),
        (Relation.from_coo([], [], SIZES["user"], SIZES["tag"]), "tag", "user"),
    ]


def features(dim: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(dim)
    drawn = {name: torch.randn(size, dim, generator=generator, dtype=torch.float64) for name, size in SIZES.items()}
    return {name: x.to(dtype).requires_grad_() for name, x in drawn.items()}


def scales(relations, dtype: torch.dtype = torch.float64) -> tuple[list, list]:  # type: ignore[no-untyped-def]
    """Left and right scales, with some left out."""
    left = [None if r == 1 else relation.scale_dst(-0.5, dtype) for r, (relation, _, _) in enumerate(relations)]
    right = [None if r == 2 else relation.scale_src(-0.3, dtype) for r, (relation, _, _) in enumerate(relations)]
    return left, right


def dense(relations, x, left, right, alpha: float, combine: str) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """The definition with dense matrices in float64."""
    parts: dict[str, list[Tensor]] = {}
    for (relation, source, target), a, b in zip(relations, left, right, strict=True):
        matrix = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
        rows = torch.repeat_interleave(torch.arange(relation.num_dst), relation.degree_dst)
        matrix[rows, relation.indices.long()] = 1
        matrix = matrix if a is None else a.double()[:, None] * matrix
        matrix = matrix if b is None else matrix * b.double()
        parts.setdefault(target, []).append(alpha * matrix @ x[source].double())
    return {name: sum(ys) if combine == "sum" else torch.stack(ys, 1) for name, ys in parts.items()}


def gradients(ys: dict[str, Tensor], x: dict[str, Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    toward = [torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype) for y in ys.values()]
    return list(torch.autograd.grad(list(ys.values()), list(x.values()), toward))


def run(relations, x, combine: str, dtype: torch.dtype = torch.float64) -> list[Tensor]:  # type: ignore[no-untyped-def]
    ys = hetero_spmm(relations, x, *scales(relations, dtype), 0.7, combine)
    return [*ys.values(), *gradients(ys, x)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("combine", ["sum", "stack"])
@pytest.mark.parametrize("dim", [1, 3, 16, 31, 32, 33, 64, 65, 300])
def test_output_and_gradients_equal_the_dense_definition(relations, dim, combine, variant):
    exact = features(dim)
    ys = dense(relations, exact, *scales(relations), 0.7, combine)
    expected = [*ys.values(), *gradients(ys, exact)]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2**-7)):
        x = {name: value.detach().to(dtype).requires_grad_() for name, value in exact.items()}
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        with _kernels.replaced(None, "cpu", variant):
            got = run(relations, x, combine, wide)
        for a, b in zip(got, expected, strict=True):
            assert a.dtype == dtype and a.shape == b.shape
            assert (a.double() - b).abs().max() <= tolerance * max(1.0, float(b.detach().abs().max()))


def test_types_come_in_order_of_appearance_and_stacks_in_order_of_relations(relations):
    x = features(4)
    ys = hetero_spmm(relations, x, combine="stack")
    assert list(ys) == ["user", "item", "tag"]
    assert ys["user"].shape == (31, 3, 4)
    into_users = [(relation, source) for relation, source, target in relations if target == "user"]
    for r, (relation, source) in enumerate(into_users):
        torch.testing.assert_close(ys["user"][:, r], spmm(relation, x[source]))


@pytest.mark.parametrize("combine", ["sum", "stack"])
def test_gradcheck_and_opcheck(relations, combine):
    x = features(2)
    left, right = scales(relations)

    def apply(*values):  # type: ignore[no-untyped-def]
        return tuple(hetero_spmm(relations, dict(zip(SIZES, values, strict=True)), left, right, 0.5, combine).values())

    assert torch.autograd.gradcheck(apply, tuple(x.values()))
    assert torch.autograd.gradgradcheck(apply, tuple(x.values()))
    index = [[getattr(r, name) for r, _, _ in relations] for name in ("indptr", "indices", "t_indptr", "t_indices")]
    names = ["item", "user", "tag"]
    operands = (*index, [x[name] for name in names], left, right, [0, 1, 1, 1, 2], [0, 1, 0, 2, 0], 0.5, combine == "stack")
    torch.library.opcheck(torch.ops.graphrec.hetero_spmm.default, operands)


@pytest.mark.parametrize("combine", ["sum", "stack"])
def test_the_reference_agrees(relations, combine, monkeypatch):
    x = features(33, torch.float32)
    native = run(relations, x, combine, torch.float32)
    monkeypatch.setattr(_kernels, "kind", lambda x: None)
    for a, b in zip(run(relations, x, combine, torch.float32), native, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("combine", ["sum", "stack"])
def test_bitwise_reruns_for_any_number_of_threads_and_every_entry_written(combine):
    rng = np.random.default_rng(1)
    large = [
        (Relation.from_coo(rng.integers(0, 4000, 40_000), rng.integers(0, 900, 40_000), 4000, 900), "item", "user")
        for _ in range(2)
    ]
    x = {"item": torch.randn(900, 16, requires_grad=True)}
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 2):
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(threads == 2)  # fills new memory with NaN
            results.append(run(large, x, combine, torch.float32))
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_non_contiguous_features(relations):
    x = features(8, torch.float32)
    strided = {name: value.detach().T.contiguous().T for name, value in x.items()}
    for name, y in hetero_spmm(relations, strided).items():
        assert torch.equal(y, hetero_spmm(relations, x)[name])


def test_no_relations_and_no_rows():
    assert hetero_spmm([], {}) == {}
    nobody = Relation.from_coo([], [], 0, 3)
    assert hetero_spmm([(nobody, "item", "user")], {"item": torch.ones(3, 2)})["user"].shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": {"user": torch.ones(31, 4)}}, r"x has no 'item', a source type; it has \['user'\]"),
        ({"user": torch.ones(30, 4)}, r"x\['user'\] must be floating point \(num_src = 31, D\), got .* \(30, 4\)"),
        ({"tag": torch.ones(9, 5)}, r"all features must agree in D and dtype"),
        ({"left": [None]}, r"left and right must hold one entry for each of the 5 relations, got 1 and 5"),
        ({"right": [torch.ones(2), None, None, None, None]}, r"right of 'item' to 'user' must be torch.float32 \(23,\)"),
        ({"combine": "mean"}, r'combine must be "sum" or "stack", got \'mean\''),
    ],
)
def test_what_does_not_fit_is_named(relations, change, message):
    x = {name: torch.ones(size, 4) for name, size in SIZES.items()}
    x |= {name: change.pop(name) for name in list(change) if name in SIZES}
    with pytest.raises(ValueError, match=message):
        hetero_spmm(**{"relations": relations, "x": x} | change)


def test_destination_types_of_two_sizes_are_named():
    relations = [(Relation.from_coo([], [], size, 3), "item", "user") for size in (4, 5)]
    with pytest.raises(ValueError, match=r"relations into 'user' must agree in num_dst, got 4 and 5"):
        hetero_spmm(relations, {"item": torch.ones(3, 2)})
