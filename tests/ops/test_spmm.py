from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.ops import Relation, spmm, spmm_compact

NUM_DST, NUM_SRC = 33, 22


@pytest.fixture(scope="module")
def relation() -> Relation:
    """A hub (row 0), empty rows (from 30 on), isolated columns (20, 21), and a repeated edge, which merges."""
    rng = np.random.default_rng(0)
    dst = np.concatenate([np.zeros(20, int), rng.integers(1, 30, 150), [5, 5]])
    src = np.concatenate([np.arange(20), rng.integers(0, 20, 150), [3, 3]])
    return Relation.from_coo(dst, src, NUM_DST, NUM_SRC)


def dense(relation: Relation) -> torch.Tensor:
    matrix = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
    rows = torch.repeat_interleave(torch.arange(relation.num_dst), relation.degree_dst)
    matrix[rows, relation.indices.long()] = 1
    return matrix


@pytest.mark.parametrize("dim", [1, 3, 31, 32, 33, 64, 65, 100, 128, 200])
@pytest.mark.parametrize("restricted", [False, True])
def test_equals_the_dense_product_in_float64(relation, dim, restricted):
    generator = torch.Generator().manual_seed(dim)
    x = torch.randn(NUM_SRC, dim, generator=generator)
    rows = torch.tensor([31, 0, 7, 5]) if restricted else torch.arange(NUM_DST)
    z = torch.randn(len(rows), dim, generator=generator)
    left, right = relation.scale_dst(-0.5), relation.scale_src(-0.3)
    got = spmm(relation, x, left, right, 0.7, z, -0.2, rows if restricted else None)
    scaled = left.double()[:, None] * dense(relation) * right.double()
    expected = 0.7 * (scaled @ x.double())[rows] - 0.2 * z.double()
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def test_compact_columns_are_the_transpose_of_restricted_rows(relation):
    columns = torch.tensor([19, 2, 21])
    x = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    expected = dense(relation)[:, columns] @ x.double()
    torch.testing.assert_close(spmm_compact(relation, x, columns).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [None, torch.tensor([0, 31, 4])])
def test_gradients(relation, rows):
    x = torch.randn(NUM_SRC, 3, dtype=torch.float64, requires_grad=True)
    z = torch.randn(NUM_DST if rows is None else 3, 3, dtype=torch.float64, requires_grad=True)
    left, right = relation.scale_dst(-0.5, torch.float64), relation.scale_src(-0.5, torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: spmm(relation, a, left, right, 0.5, b, 2.0, rows), (x, z))


def test_non_contiguous_input_and_bitwise_reruns(relation):
    x = torch.randn(64, NUM_SRC).T
    first = spmm(relation, x)
    torch.testing.assert_close(first, spmm(relation, x.contiguous()), rtol=0, atol=0)
    assert torch.equal(first, spmm(relation, x))


def test_no_edges_give_zeros():
    empty = Relation.from_coo([], [], 4, 3)
    assert torch.equal(spmm(empty, torch.ones(3, 5)), torch.zeros(4, 5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(NUM_SRC + 1, 4)}, r"x must be \(num_src = 22, D\), got \(23, 4\)"),
        ({"left": torch.ones(3)}, r"left must be torch.float32 \(33,\)"),
        ({"rows": torch.tensor([33])}, r"rows must be in 0..32, got 33..33"),
    ],
)
def test_what_does_not_fit_is_named(relation, change, message):
    with pytest.raises(ValueError, match=message):
        spmm(**{"relation": relation, "x": torch.ones(NUM_SRC, 4)} | change)


def test_an_edge_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"src must be in 0..2, got 0..3"):
        Relation.from_coo([0, 1], [0, 3], 2, 3)
