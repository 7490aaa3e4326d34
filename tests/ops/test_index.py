"""What operators are given and cannot take: each is named, with the rule, what came and the mend."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec.ops import (
    FusedAdam,
    Relation,
    RowAdam,
    bpr,
    gat,
    gatv2,
    hetero_spmm,
    push,
    sample_negatives,
    sample_neighbors,
    sampled_softmax,
    sddmm,
    select_topk,
    spmm,
    spmm_forward,
    topk_scores,
)  # fmt: skip

RELATION = Relation.from_coo([0, 0, 1, 2], [0, 1, 1, 3], 4, 5)
USER, ITEM, HEADS = torch.ones(4, 2), torch.ones(5, 2), torch.ones(5, 1, 2)
ROWS, SCORES = torch.tensor([0, 1]), (torch.ones(4, 1), torch.ones(5, 1))
ZEROS, NO_HITS = torch.zeros(2), torch.zeros(2, 0, dtype=torch.int64)


def a_spmm(x=ITEM, **options):
    return spmm(RELATION, x, **options)


def a_forward(**options):
    given = {"left": None, "right": None, "alpha": 1.0, "z": None, "beta": 1.0, "rows": None} | options
    return spmm_forward(RELATION, ITEM, **given)


def a_sddmm(dst_x=USER, src_x=ITEM):
    return sddmm(RELATION, dst_x, src_x)


def a_gat(dst_score=SCORES[0], src_score=SCORES[1], src_x=HEADS, **options):
    return gat(RELATION, dst_score, src_score, src_x, **options)


def a_gatv2(dst_x=USER[:, None], src_x=HEADS, attention=USER[:1], **options):
    return gatv2(RELATION, dst_x, src_x, attention, **options)


def a_hetero(x=ITEM, left=None, **options):
    return hetero_spmm([(RELATION, "item", "user")], {"item": x}, [left], **options)


def a_push(x=USER.T, **options):
    return push(RELATION, x, **options)


def a_bpr(user_x=USER, item_x=ITEM, negatives=ROWS[:, None]):
    return bpr(user_x, item_x, ROWS, ROWS, negatives)


def a_softmax(item_x=ITEM, negatives=ROWS, log_weight=ZEROS, hits=NO_HITS, temperature=1.0):
    return sampled_softmax(USER, item_x, ROWS, ROWS, negatives, log_weight, hits, temperature)


def a_topk(user_x=USER, item_x=ITEM, k=2):
    return topk_scores(user_x, item_x, k)


def a_selection(scores=USER, k=2):
    return select_topk(scores, k)


def some_negatives(**options):
    return sample_negatives(RELATION, ROWS, **{"seed": 0} | options)


def some_neighbors(fanout=2, **options):
    return sample_neighbors(RELATION, ROWS, fanout, **{"seed": 0} | options)


def an_adam(**options):
    return FusedAdam([torch.nn.Parameter(torch.ones(2))], **options)


def a_row_adam(**options):
    return RowAdam([torch.nn.Parameter(torch.ones(2))], **options)


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (a_spmm, ["x", "left", "right", "z", "rows", "edge_weight"]), (a_sddmm, ["dst_x", "src_x"]),
        (a_gat, ["dst_score", "src_score", "src_x"]), (a_gatv2, ["dst_x", "src_x", "attention"]), (a_hetero, ["x", "left"]),
        (a_push, ["x", "left", "right"]), (a_bpr, ["user_x", "item_x", "negatives"]),
        (a_softmax, ["item_x", "negatives", "log_weight", "hits"]), (a_topk, ["user_x", "item_x"]), (a_selection, ["scores"]),
        (some_negatives, ["pool"]), (some_neighbors, ["weights"]),
    ],
)  # fmt: skip
def test_what_is_no_tensor_is_named(run, names):
    run()
    for name in names:
        for value in ([[1.0, 1.0]], np.ones(4, np.float32)):
            with pytest.raises(TypeError, match=rf"{name}.* must be a tensor, got (list|ndarray); make one with torch.as_tensor"):
                run(**{name: value})
    if run is a_softmax:
        with pytest.raises(TypeError, match="hits must be a tensor, got NoneType"):
            run(hits=None)


@pytest.mark.parametrize(
    ("run", "names"),
    [
        (a_spmm, ["alpha", "beta"]), (a_forward, ["alpha", "beta"]), (a_gat, ["negative_slope", "dropout"]),
        (a_gatv2, ["negative_slope", "dropout"]), (a_hetero, ["alpha"]), (a_push, ["alpha"]), (a_softmax, ["temperature"]),
        (an_adam, ["lr", "eps", "weight_decay"]), (a_row_adam, ["lr", "eps"]),
    ],
)  # fmt: skip
def test_factors_are_finite_numbers_that_do_not_learn(run, names):
    for name in names:
        for value in ("1", None, [0.5]):
            with pytest.raises(TypeError, match=rf"{name} must be a number, got .*; make one with float\(\)"):
                run(**{name: value})
        for value in (float("nan"), float("inf"), -np.inf):
            with pytest.raises(ValueError, match=f"{name} must be finite, got -?(nan|inf); "):
                run(**{name: value})
        learned = torch.tensor(0.5, requires_grad=True)
        with pytest.raises(ValueError, match=f"{name} is a constant and gets no gradient, got one that requires it; "):
            run(**{name: learned})
        for value in (np.float32(0.5), np.float64(0.5), torch.tensor(0.5)):
            run(**{name: value})
        with torch.no_grad():  # where nothing learns, nothing is lost
            run(**{name: learned})


@pytest.mark.parametrize(
    ("run", "name", "low", "high"),
    [
        (a_topk, "k", 1, None), (a_selection, "k", 1, None), (some_neighbors, "fanout", 1, None),
        (some_neighbors, "offset", 0, 2**63), (some_negatives, "offset", 0, 2**63), (some_negatives, "num_items", 1, 2**31),
        (some_negatives, "max_attempts", 1, 2**63),
    ],
)  # fmt: skip
def test_counts_are_integers_in_range(run, name, low, high):
    for value in (2.5, "2", [2]):
        with pytest.raises(TypeError, match=rf"{name} must be an integer, got .*; give a whole number"):
            run(**{name: value})
    with pytest.raises(ValueError, match=f"{name} must be at least {low}, got {low - 1}"):
        run(**{name: low - 1})
    if high is not None:
        with pytest.raises(ValueError, match=f"{name} must be at most {high - 1}, got {2 * high}"):
            run(**{name: 2 * high})
    run(**{name: np.int64(3)})


@pytest.mark.parametrize("run", [a_gat, a_gatv2, some_negatives, some_neighbors])
def test_any_integer_is_a_seed(run):
    for value in (1.5, None, "a"):
        with pytest.raises(TypeError, match="seed must be an integer, got .*; give a whole number"):
            run(seed=value)
    more = {} if run in (some_negatives, some_neighbors) else {"dropout": 0.5}
    for value, same in ((2**63, -(2**63)), (2**64 - 1, -1), (np.uint64(2**63 + 7), -(2**63) + 7)):
        for one, other in zip(run(seed=value, **more), run(seed=same, **more), strict=True):
            assert torch.equal(one, other)


def test_other_things_in_place_of_tables_and_pools_are_named():
    with pytest.raises(TypeError, match="distribution must be an AliasTable, got ndarray; make one with AliasTable.from_weights"):
        some_negatives(distribution=np.ones(5))
    with pytest.raises(ValueError, match="pool must hold an item to draw, got none; leave it out"):
        some_negatives(pool=ROWS[:0])
    for size, kind, message in ((-1, ValueError, "num_dst must be at least 0, got -1"), (2.5, TypeError, "must be an integer, got 2.5")):
        with pytest.raises(kind, match=f"Relation.from_coo: .*{message}"):
            Relation.from_coo([], [], size, 2)


@pytest.mark.parametrize(
    ("hits", "got"),
    [
        ([[1, 0], [0, 0]], r"\(0, 0\) after \(1, 0\)"), ([[0, 0], [1, 0]], r"\(0, 0\) after \(0, 1\)"),
        ([[0, 1, 1], [0, 1, 1]], r"\(1, 1\) after \(1, 1\)"), ([[0, 2], [0, 0]], r"\(2, 0\) after \(0, 0\)"),
        ([[0], [2]], r"\(0, 2\)"), ([[-1], [1]], r"\(-1, 1\)"),
    ],
)  # fmt: skip
def test_the_first_hit_that_does_not_fit_is_named(hits, got):
    with pytest.raises(ValueError, match=rf"below \(B = 2, M = 2\) in ascending order, got {got}; hits.unique\(dim=1\)"):
        a_softmax(hits=torch.tensor(hits))
    a_softmax(hits=torch.tensor([[1, 0, 1], [0, 1, 0]]).unique(dim=1))


def test_scales_of_push_do_not_learn():
    """They would get no gradient, without a word."""
    for name, size in (("left", 4), ("right", 5)):
        with pytest.raises(ValueError, match=f"push: {name} is a constant and gets no gradient"):
            a_push(**{name: torch.ones(size, requires_grad=True)})


def test_checks_of_numbers_can_be_compiled():
    run = torch.compile(lambda x, alpha: spmm(RELATION, x, alpha=alpha, z=USER, beta=2.0), backend="eager")
    for alpha in (1.0, 0.5, 0.25):
        assert torch.equal(run(ITEM, alpha), spmm(RELATION, ITEM, alpha=alpha, z=USER, beta=2.0))
    drawn = torch.compile(lambda seed: gat(RELATION, *SCORES, HEADS, dropout=0.5, seed=seed), backend="eager")
    for seed in (3, 4, 2**62):
        assert torch.equal(drawn(seed), gat(RELATION, *SCORES, HEADS, dropout=0.5, seed=seed))
