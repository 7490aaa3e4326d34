from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from graphrec import _kernels
from graphrec.ops import select_topk, topk_scores


def brute_force(scores: np.ndarray, k: int, seen: list[list[int]]) -> np.ndarray:
    """The k best unseen columns of each row, ties to the lower column, -1 where none is left."""
    lists = np.full((len(scores), k), -1)
    for row, values in enumerate(scores):
        allowed = [c for c in range(len(values)) if c not in seen[row] and values[c] > -np.inf]
        best = sorted(allowed, key=lambda c: (-values[c], c))[:k]
        lists[row, : len(best)] = best
    return lists


def csr(seen: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.cumsum([0, *map(len, seen)]), np.array([item for row in seen for item in row], dtype=np.int32)


@pytest.mark.parametrize("k", [1, 5, 40])
@pytest.mark.parametrize("num_columns", [1, 31, 33, 200])
def test_equals_sorting_with_ties_and_seen_columns(implementation, k, num_columns):
    rng = np.random.default_rng(num_columns)
    scores = rng.integers(0, 6, (7, num_columns)).astype(np.float32)  # many ties
    seen = [sorted(rng.permutation(num_columns)[: rng.integers(0, num_columns + 1)].tolist()) for _ in range(7)]
    values, indices = select_topk(torch.from_numpy(scores), k, *csr(seen))
    expected = brute_force(scores, k, seen)
    np.testing.assert_array_equal(indices, expected)
    taken = np.where(expected >= 0, np.take_along_axis(scores, np.maximum(expected, 0), 1), -np.inf)
    np.testing.assert_array_equal(values, taken)


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("shape", [(9, 50), (3, 1), (4, 0), (0, 5)])
def test_what_selects_on_a_gpu_gives_the_lists_of_a_stable_sort(monkeypatch, shape, k):
    """On the CPU here: it is made of torch's operations. Without it a GPU would sort whole rows."""
    rng = np.random.default_rng(7)
    values = np.array([-np.inf, -3e38, -2.5, -1e-45, -0.0, 0.0, 1e-45, 1.0, 2.5, 3e38, np.inf, np.nan], dtype=np.float32)
    scores = torch.from_numpy(rng.choice(values, shape))
    seen = csr([sorted(rng.permutation(shape[1])[: row % 4].tolist()) for row in range(shape[0])])
    candidates = torch.from_numpy(rng.random(shape[1]) < 0.8)
    monkeypatch.setattr(_kernels, "kind", lambda x: None)
    wanted = [select_topk(scores, k), select_topk(scores, k, *seen, candidates)]
    monkeypatch.setattr(_kernels, "kind", lambda x: "cuda")
    monkeypatch.setattr(torch, "sort", lambda *_, **__: pytest.fail("sorted"))
    for (best, listed), one in zip(wanted, [select_topk(scores, k), select_topk(scores, k, *seen, candidates)], strict=True):
        assert torch.equal(one[1], listed)
        assert torch.equal(one[0].view(torch.int32), best.view(torch.int32))  # the sign of 0 too


def test_nan_and_minus_infinity_are_never_listed(implementation):
    scores = torch.tensor([[float("nan"), 1.0, float("-inf"), float("inf")]])
    assert select_topk(scores, 4)[1].tolist() == [[3, 1, -1, -1]]


def test_products_over_several_tiles_equal_the_whole_matrix(implementation):
    generator = torch.Generator().manual_seed(0)
    users = torch.randint(-2, 3, (150, 4), generator=generator).float()  # small integers: exact products, many ties
    items = torch.randint(-2, 3, (9000, 4), generator=generator).float()
    seen = [list(range(user % 7)) for user in range(150)]
    listed = topk_scores(users, items, 20, *csr(seen))[1]
    whole = select_topk(users @ items.T, 20, *csr(seen))[1]
    assert torch.equal(listed, whole)
    np.testing.assert_array_equal(listed[:5], brute_force((users[:5] @ items.T).numpy(), 20, seen))


@pytest.mark.parametrize("dim", [1, 3, 31, 33, 64])
@pytest.mark.parametrize(("num_users", "num_items"), [(1, 1), (9, 47), (8, 48), (130, 49), (3, 500)])
@pytest.mark.parametrize("k", [1, 20, 60])
def test_every_shape_of_the_product(implementation, dim, num_users, num_items, k):
    generator = torch.Generator().manual_seed(dim)
    users, items = (torch.randint(-3, 4, (n, dim), generator=generator).float() for n in (num_users, num_items))
    seen = [list(range(user % 5, num_items, 4)) for user in range(num_users)]
    candidates = torch.rand(num_items, generator=generator) < 0.7
    values, indices = topk_scores(users, items, k, *csr(seen), candidates)
    outside = set(range(num_items)) - set(candidates.nonzero().flatten().tolist())
    scores = (users @ items.T).numpy()
    expected = brute_force(scores, k, [[*row, *outside] for row in seen])
    np.testing.assert_array_equal(indices, expected)
    taken = np.where(expected >= 0, np.take_along_axis(scores, np.maximum(expected, 0), 1), -np.inf)
    np.testing.assert_array_equal(values, taken)
    whole = select_topk(torch.from_numpy(scores), k, *csr(seen), candidates)
    assert torch.equal(whole[0], values) and torch.equal(whole[1], indices)


def test_nan_vectors_and_infinite_products_do_not_spread(implementation):
    users = torch.tensor([[1.0, 1.0], [float("nan"), 1.0]])
    items = torch.tensor([[2.0, 0.0], [float("inf"), 0.0], [-float("inf"), 0.0], [3.0, 1.0]])
    assert topk_scores(users, items, 4)[1].tolist() == [[1, 3, 0, -1], [-1, -1, -1, -1]]


def test_any_number_of_threads_gives_the_same_lists(implementation):
    generator = torch.Generator().manual_seed(3)
    users, items = torch.randn(300, 16, generator=generator), torch.randn(700, 16, generator=generator)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = topk_scores(users, items, 10)
        torch.set_num_threads(3)
        three = topk_scores(users, items, 10)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one[1], three[1])
    single = torch.cat([topk_scores(users[u : u + 1], items, 10)[1] for u in range(40)])
    assert torch.equal(one[1][:40], single)


@pytest.mark.parametrize("masked", [False, True])
def test_operators_are_registered_correctly(implementation, masked):
    users, items = torch.rand(3, 4), torch.rand(5, 4)
    masks = None, None, None
    if masked:
        starts, seen = csr([[0, 2], [], [1]])
        masks = torch.from_numpy(starts), torch.from_numpy(seen), torch.tensor([1, 1, 0, 1, 1], dtype=torch.uint8)
    for k in (2, 7):
        torch.library.opcheck(torch.ops.graphrec.topk_scores.default, (users, items, k, *masks))
        for scores in (torch.rand(3, 5), torch.rand(5, 3).T):
            torch.library.opcheck(torch.ops.graphrec.select_topk.default, (scores, k, *masks))


@pytest.mark.parametrize("masked", [False, True])
def test_tensors_without_values_give_lists_without_values(masked):
    masks = ([0, 2, 2], np.array([0, 3], dtype=np.int32), np.ones(5, dtype=bool)) if masked else ()
    with FakeTensorMode():
        lists = [select_topk(torch.rand(2, 5), 3, *masks), topk_scores(torch.rand(2, 4), torch.rand(5, 4), 3, *masks)]
    lists.append(select_topk(torch.rand(2, 5, device="meta"), 3, *masks))
    for values, indices in lists:
        assert values.shape == indices.shape == (2, 3) and (values.dtype, indices.dtype) == (torch.float32, torch.int64)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        select_topk(torch.ones(2, 3), 0)
    with pytest.raises(ValueError, match=r"seen_indptr must hold 2 \+ 1 entries, got 2"):
        select_topk(torch.ones(2, 3), 1, [0, 0], [])
    for starts in ([0, 1, 9], [0, 2, 1], [-1, 0, 1]):
        with pytest.raises(ValueError, match=r"seen_indptr must ascend within 0..2, the length of seen_indices"):
            topk_scores(torch.ones(2, 3), torch.ones(3, 3), 1, starts, [0, 1])
    with pytest.raises(ValueError, match=r"candidates must hold 3 entries, one for each column, got \(2,\)"):
        select_topk(torch.ones(2, 3), 1, candidates=[True, False])
    with pytest.raises(ValueError, match=r"need \(U, D\) and \(I, D\), got \(2, 3\) and \(2, 4\)"):
        topk_scores(torch.ones(2, 3), torch.ones(2, 4), 1)


def test_autocast_does_not_reach_into_the_lists(implementation):
    generator = torch.Generator().manual_seed(5)
    users, items = torch.randn(20, 16, generator=generator), torch.randn(70, 16, generator=generator)
    plain = topk_scores(users, items, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values, indices = topk_scores(users, items, 10)
    assert values.dtype == torch.float32
    assert torch.equal(values, plain[0]) and torch.equal(indices, plain[1])
    with pytest.raises(ValueError, match=r"scores must be \(B, I\), got \(3,\)"):
        select_topk(torch.ones(3), 1)


@pytest.mark.parametrize("function", ["select_topk", "topk_scores"])
def test_masks_that_would_be_misread_are_refused(implementation, function):
    def call(*masks, dtype=torch.float32):
        if function == "select_topk":
            return select_topk(torch.ones(2, 300, dtype=dtype), 3, *masks)
        return topk_scores(torch.ones(2, 4, dtype=dtype), torch.ones(300, 4, dtype=dtype), 3, *masks)

    for masks, message in (
        ((None, [5, 0, 2]), "seen_indptr and seen_indices go together, got seen_indices alone"),
        (([0, 2, 3], None), "seen_indptr and seen_indices go together, got seen_indptr alone"),
        (([0, 0, 3], [5, 0, 2]), "seen_indices must ascend within a row, got 5 before 0 in row 1"),
        (([0, 3, 3], [0, 5, 2]), "seen_indices must ascend within a row, got 5 before 2 in row 0"),
        (([1, 1, 4], np.array([9, 2, 5, 0])), "seen_indices must ascend within a row, got 5 before 0 in row 1"),
        (([0, 1, 2], [0, 300]), r"seen_indices must be columns in 0..299, got 0..300"),
        (([0, 1, 2], [2**32, 0]), r"seen_indices must be columns in 0..299, got 0..4294967296"),
        (([0, 1, 2], [0.0, 1.0]), r"seen_indices must be integers \(n,\), got torch.float32"),
        ((None, None, np.arange(300)), r"candidates must be a bool mask of the columns, got torch.int64; make one of column ids"),
        ((None, None, torch.ones(300)), r"candidates must be a bool mask of the columns, got torch.float32"),
    ):
        with pytest.raises(ValueError, match=message):
            call(*masks)
    with pytest.raises(ValueError, match="must be float32, got torch.float64, and rounding may change the order"):
        call(dtype=torch.float64)
    assert call(dtype=torch.bfloat16)[1].tolist() == [[0, 1, 2]] * 2


def test_rows_may_start_lower_than_the_row_before_ends_and_name_a_column_twice(implementation):
    scores = torch.arange(6.0).repeat(4, 1)
    starts, seen = [1, 3, 3, 6, 8], [9, 4, 5, 0, 5, 5, 1, 5]
    assert select_topk(scores, 2, starts, seen)[1].tolist() == [[3, 2], [5, 4], [4, 3], [4, 3]]
    assert select_topk(scores, 2, [0, 0, 0, 0, 0], [])[1].tolist() == [[5, 4]] * 4
