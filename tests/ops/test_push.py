"""push against dense float64 products, on every implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.ops import Relation, push, spmm

NUM_DST, NUM_SRC = 53, 37


@pytest.fixture(scope="module")
def relation() -> Relation:
    """Rows without edges (from 50 on), a column that nothing reaches (36), a row with all the others (0)."""
    rng = np.random.default_rng(0)
    dst = np.concatenate([np.zeros(36, int), rng.integers(0, 50, 200)])
    src = np.concatenate([np.arange(36), rng.integers(0, 36, 200)])
    return Relation.from_coo(dst, src, NUM_DST, NUM_SRC)


def signals(batch: int, share: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(batch)
    x = torch.randn(batch, NUM_DST, generator=generator, dtype=dtype)
    return torch.where(torch.rand(batch, NUM_DST, generator=generator) < share, x, 0.0)


def dense(relation: Relation) -> torch.Tensor:
    matrix = torch.zeros(relation.num_dst, relation.num_src, dtype=torch.float64)
    matrix[relation.rows, relation.indices.long()] = 1.0
    return matrix


@pytest.mark.parametrize("batch", [0, 1, 7, 64])
@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_equals_the_dense_product(implementation, relation, batch, share, scaled, dtype):
    x = signals(batch, share, dtype)
    left, right = (relation.scale_dst(-0.5, dtype), relation.scale_src(-0.3, dtype)) if scaled else (None, None)
    matrix = dense(relation)
    if scaled:
        matrix = left.double()[:, None] * matrix * right.double()
    got = push(relation, x, left, right, 0.7)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), 0.7 * x.double() @ matrix, rtol=1e-5, atol=1e-5)


def test_equals_spmm_of_the_transpose(implementation, relation):
    x, right = signals(9, 0.3), relation.scale_src(-0.5)
    torch.testing.assert_close(push(relation, x, right=right), spmm(relation.transpose(), x.T.contiguous(), right).T)


def test_gradients(implementation, relation):
    x = signals(3, 0.5, torch.float64).requires_grad_()
    left, right = relation.scale_dst(-0.5, torch.float64), relation.scale_src(-0.3, torch.float64)
    assert torch.autograd.gradcheck(lambda x: push(relation, x, left, right, 0.7), (x,))  # in entries of zero, too
    assert torch.autograd.gradgradcheck(lambda x: push(relation, x, left, right, 0.7), (x,))
    index = relation.indptr, relation.indices, relation.t_indptr, relation.t_indices
    torch.library.opcheck(torch.ops.graphrec.push.default, (*index, x, left, right, 0.7))


def test_slices_and_transposes_are_read_as_they_stand(implementation, relation):
    x, left = signals(8, 0.5), relation.scale_dst(-0.5)
    for view in (x[::2], x.T.contiguous().T):
        assert torch.equal(push(relation, view, left.repeat_interleave(2)[::2]), push(relation, view.clone(), left))


def test_results_do_not_depend_on_the_number_of_threads(variant, relation):
    x, threads = signals(64, 0.5), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(push(relation, x))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_nan_and_infinity_spread_to_what_they_reach(implementation):
    relation = Relation.from_coo([0, 1, 2], [0, 1, 2], 3, 4)
    y = push(relation, torch.tensor([[float("nan"), float("inf"), -0.0]]))
    assert y.isnan().tolist() == [[True, False, False, False]] and y[0, 1].isposinf() and not y[0, 2:].any()
    scaled = push(relation, torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([torch.inf, 1.0, torch.nan]))
    assert scaled.tolist() == [[0.0, 2.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("x", "left", "right", "words"),
    [
        (torch.zeros(2, 5), None, None, "x must be .B, num_dst = 53., got .2, 5."),
        (torch.zeros(53), None, None, "x must be"),
        (torch.zeros(2, 53, dtype=torch.bfloat16), None, None, "x must be float32 or float64, got torch.bfloat16"),
        (torch.zeros(2, 53), torch.zeros(3), None, "left must be torch.float32 .53,., got torch.float32 .3,."),
        (torch.zeros(2, 53), None, torch.zeros(37, dtype=torch.float64), "right must be torch.float32 .37,."),
    ],
)
def test_what_does_not_fit_is_named(relation, x, left, right, words):
    with pytest.raises(ValueError, match=f"^push: {words}"):
        push(relation, x, left, right)
