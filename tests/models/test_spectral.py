from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.models import spectral
from graphrec.models.spectral import NormalisedInteractions, leading_directions, spectral_embeddings, truncated_svd


def random_matrix(weighted: bool = False) -> sp.csr_matrix:
    """(30, 22) with an empty row and an empty column."""
    rng = np.random.default_rng(2)
    dense = (rng.random((30, 22)) < 0.3) * (rng.integers(1, 6, (30, 22)) if weighted else 1.0)
    dense[8], dense[:, 5] = 0, 0
    return sp.csr_matrix(dense.astype(np.float32))


def dense_normalised(matrix: sp.csr_matrix, user_exponent: float, item_exponent: float) -> np.ndarray:
    x = matrix.toarray().astype(np.float64)
    row, column = np.maximum(x.sum(1), 1e-9), np.maximum(x.sum(0), 1e-9)
    return x / row[:, None] ** user_exponent / column**item_exponent


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("exponents", [(0.5, 0.5), (0.7, 0.2), (0.0, 1.0)])
def test_products_follow_the_formula(weighted, exponents):
    matrix = random_matrix(weighted)
    interactions, expected = NormalisedInteractions(matrix, *exponents), dense_normalised(matrix, *exponents)
    assert interactions.shape == (30, 22)
    np.testing.assert_allclose(interactions.to_users(torch.eye(22)), expected, rtol=1e-5)
    np.testing.assert_allclose(interactions.to_items(torch.eye(30)), expected.T, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pushed_share", [0.0, 1.0])  # always by spmm, always by push
def test_smoothed_histories_are_added(weighted, pushed_share, monkeypatch):
    monkeypatch.setattr(spectral, "_PUSHED_SHARE", pushed_share)
    matrix, rng = random_matrix(weighted), np.random.default_rng(0)
    histories = sp.random(150, 22, 0.1, format="csr", random_state=rng, dtype=np.float32)  # more than one block
    scores = torch.ones(150, 22)
    NormalisedInteractions(matrix, 0.3, 0.5).add_smoothed(scores, histories, 0.5)
    normalised = dense_normalised(matrix, 0.3, 0.5)
    np.testing.assert_allclose(scores, 1 + 0.5 * histories @ normalised.T @ normalised, rtol=1e-5)


def test_nothing_is_smoothed_on_an_empty_graph():
    scores = torch.ones(2, 4)
    NormalisedInteractions(sp.csr_matrix((3, 4), dtype=np.float32), 0.5, 0.5).add_smoothed(
        scores, sp.csr_matrix(np.eye(2, 4, dtype=np.float32)), 1.0
    )
    assert torch.equal(scores, torch.ones(2, 4))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("flipped", [False, True])  # bases are taken on the side with fewer nodes
def test_svd_equals_the_exact_one(weighted, flipped):
    matrix = random_matrix(weighted).T.tocsr() if flipped else random_matrix(weighted)
    users, values, items = truncated_svd(NormalisedInteractions(matrix, 0.5, 0.3), 6, generator())
    left, exact, right = np.linalg.svd(dense_normalised(matrix, 0.5, 0.3), full_matrices=False)
    np.testing.assert_allclose(values, exact[:6], rtol=1e-5)
    best = left[:, :6] * exact[:6] @ right[:6]
    np.testing.assert_allclose((users * values) @ items.T, best, atol=1e-5)
    np.testing.assert_allclose(users.T @ users, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(items.T @ items, np.eye(6), atol=1e-5)


def test_svd_converges_where_the_spectrum_decays_slowly():
    rng = np.random.default_rng(0)
    matrix = sp.csr_matrix((rng.random((400, 300)) < 0.05).astype(np.float32))
    _, values, items = truncated_svd(NormalisedInteractions(matrix, 0.5, 0.5), 20, generator())
    _, exact, right = np.linalg.svd(dense_normalised(matrix, 0.5, 0.5), full_matrices=False)
    np.testing.assert_allclose(values, exact[:20], rtol=0.05)
    captured = np.linalg.norm(right[:10] @ items.numpy(), axis=1)  # 1 where a direction is found entirely
    assert captured[0] > 0.999999 and captured.min() > 0.9


def test_a_matrix_of_lower_rank_has_zero_values_and_no_nan():
    board = sp.csr_matrix(np.kron(np.eye(2), np.ones((4, 3))).astype(np.float32))
    users, values, items = truncated_svd(NormalisedInteractions(board, 0.5, 0.5), 5, generator())
    np.testing.assert_allclose(values, [1, 1, 0, 0, 0], atol=1e-6)
    assert bool(torch.isfinite(users).all() and torch.isfinite(items).all())
    assert float(users[:, 2:].abs().max()) == float(items[:, 2:].abs().max()) == 0.0


def test_svd_signs_are_fixed_and_reruns_are_equal():
    interactions = NormalisedInteractions(random_matrix(), 0.5, 0.5)
    first, second = (truncated_svd(interactions, 6, generator()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    items = first[2]
    assert bool((items.gather(0, items.abs().argmax(0, keepdim=True)) > 0).all())
    other_start = truncated_svd(interactions, 3, torch.Generator().manual_seed(99))
    torch.testing.assert_close(other_start[2], items[:, :3], atol=1e-3, rtol=0)


@pytest.mark.parametrize("rank", [0, 23])
def test_impossible_ranks_are_refused(rank):
    with pytest.raises(ValueError, match=rf"rank must lie in 1..22 for shape \(30, 22\), got {rank}"):
        truncated_svd(NormalisedInteractions(random_matrix(), 0.5, 0.5), rank, generator())


def test_spectral_embeddings_multiply_to_the_matrix(board):
    users, items = spectral_embeddings(board, 64, 0.5, 0.25)
    assert users.shape == (40, 64) and items.shape == (30, 64)
    expected = dense_normalised(board.train_matrix(), 0.5, 0.25)
    np.testing.assert_allclose(users @ items.T, expected, atol=1e-5)
    for left, right in zip((users, items), spectral_embeddings(board.train_matrix(), 64, 0.5, 0.25), strict=True):
        assert torch.equal(left, right)


def test_power_zero_weighs_all_directions_alike(board):
    users, items = spectral_embeddings(board, 3, power=0.0)
    torch.testing.assert_close(items.T @ items, torch.eye(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(users.T @ users, torch.eye(3), atol=1e-4, rtol=0)


@pytest.fixture
def in_slices(monkeypatch):
    """Five columns of the thirty users' side at a time, never more; what each product was given is remembered."""
    monkeypatch.setattr(spectral, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(spectral, "_SLICE_BYTES", 5 * 4 * 30)
    widths, to_users = [], NormalisedInteractions.to_users
    monkeypatch.setattr(NormalisedInteractions, "to_users", lambda self, x: (widths.append(x.shape[1]), to_users(self, x))[1])
    return widths


@pytest.mark.parametrize("weighted", [False, True])
def test_directions_in_slices_of_columns_equal_those_of_the_whole(weighted, in_slices):
    interactions = NormalisedInteractions(random_matrix(weighted), 0.5, 0.3)
    values, items = leading_directions(interactions, 6, generator())
    assert max(in_slices) == 5 and len(in_slices) == 4 * 5  # four passes over 22 columns
    _, expected, directions = truncated_svd(interactions, 6, generator())
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(items, directions, rtol=0, atol=1e-3)
    exact = np.linalg.svd(dense_normalised(random_matrix(weighted), 0.5, 0.3), compute_uv=False)
    np.testing.assert_allclose(values, exact[:6], rtol=1e-5)


def test_directions_in_slices_of_a_matrix_of_lower_rank_have_zero_values(in_slices):
    board = sp.csr_matrix(np.kron(np.eye(2), np.ones((15, 3))).astype(np.float32))
    values, items = leading_directions(NormalisedInteractions(board, 0.5, 0.5), 5, generator())
    np.testing.assert_allclose(values, [1, 1, 0, 0, 0], atol=1e-6)
    assert in_slices and bool(torch.isfinite(items).all()) and float(items[:, 2:].abs().max()) == 0.0


def test_directions_of_a_small_matrix_are_those_of_the_whole_bit_for_bit():
    interactions = NormalisedInteractions(random_matrix(), 0.5, 0.3)
    found, (_, *expected) = leading_directions(interactions, 6, generator()), truncated_svd(interactions, 6, generator())
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    with pytest.raises(ValueError, match=r"rank must lie in 1..22"):
        leading_directions(interactions, 23, generator())
