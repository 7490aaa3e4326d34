"""Ranking metrics: hand-computed values, properties, and scikit-learn as the independent oracle."""

from __future__ import annotations

import inspect
from math import log2

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from graphrec.errors import ConfigError
from graphrec.evaluation import METRICS, metrics
from graphrec.evaluation.lists import Lists, compute, lower_is_better, needs, split_name
from graphrec.registry import resolve

OF_HITS = [name for name in METRICS if needs(name) == {"hits", "relevant", "k"} and not lower_is_better(name)]
AT_K = [resolve("metric", METRICS, name) for name in OF_HITS]
GROWING = (metrics.recall, metrics.hit, metrics.mrr)

# One list of four places with hits at places 2 and 4, three test items in all.
HITS = np.array([[False, True, False, True]])
CASES = [
    (metrics.recall, 4, 2 / 3),
    (metrics.recall, 3, 1 / 3),
    (metrics.recall, 1, 0.0),
    (metrics.precision, 4, 2 / 4),
    (metrics.precision, 2, 1 / 2),
    (metrics.hit, 1, 0.0),
    (metrics.hit, 2, 1.0),
    (metrics.mrr, 4, 1 / 2),
    (metrics.mrr, 1, 0.0),
    (metrics.ndcg, 4, (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / log2(4))),
    (metrics.ndcg, 2, (1 / log2(3)) / (1 + 1 / log2(3))),
    (metrics.average_precision, 4, (1 / 2 + 2 / 4) / 3),
    (metrics.average_precision, 2, (1 / 2) / 2),
]


@pytest.mark.parametrize(("metric", "k", "expected"), CASES, ids=lambda value: getattr(value, "__name__", None))
def test_by_hand(metric, k, expected):
    np.testing.assert_allclose(metric(HITS, np.array([3]), k), [expected], rtol=1e-12)


@pytest.mark.parametrize("metric", AT_K)
def test_perfect_list_is_one_and_empty_truth_is_nan(metric):
    hits = np.array([[True, True, True], [False, False, False]])
    np.testing.assert_array_equal(metric(hits, np.array([3, 0]), 3), [1.0, np.nan])


def test_ideal_is_cut_at_k():
    assert metrics.ndcg(np.ones((1, 2), bool), np.array([50]), 2) == pytest.approx(1.0)
    assert metrics.average_precision(np.ones((1, 2), bool), np.array([50]), 2) == pytest.approx(1.0)


@st.composite
def lists_with_truth(draw):
    rows, width = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    hits = np.array(draw(st.lists(st.booleans(), min_size=rows * width, max_size=rows * width))).reshape(rows, width)
    unlisted = draw(st.lists(st.integers(0, 5), min_size=rows, max_size=rows))
    return hits, hits.sum(axis=1) + np.array(unlisted)


@given(lists_with_truth())
@settings(max_examples=60, deadline=None)
def test_bounds_growth_and_order_of_users(case):
    hits, relevant = case
    width = hits.shape[1]
    order = np.random.default_rng(0).permutation(len(hits))
    for metric in AT_K:
        previous = None
        for k in range(1, width + 1):
            value = metric(hits, relevant, k)
            np.testing.assert_array_equal(np.isnan(value), relevant == 0)
            assert np.all((value[relevant > 0] >= 0) & (value[relevant > 0] <= 1 + 1e-12)), metric
            np.testing.assert_array_equal(metric(hits[order], relevant[order], k), value[order])
            if previous is not None and metric in GROWING:
                assert np.all(value[relevant > 0] >= previous[relevant > 0])
            previous = value


def ranked_rows(seed, num_items=30):
    """Yield scores without ties, relevance, and what the library would see of them."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(num_items).astype(float)
    truth = rng.random(num_items) < 0.2
    truth[rng.integers(num_items)] = True
    order = np.argsort(-scores)
    return scores, truth, truth[order][None, :], np.array([truth.sum()])


@pytest.mark.parametrize("seed", range(20))
def test_against_scikit_learn(seed):
    scores, truth, hits, relevant = ranked_rows(seed)
    for k in (1, 5, 30):
        assert metrics.ndcg(hits, relevant, k)[0] == pytest.approx(ndcg_score([truth], [scores], k=k))
    assert metrics.average_precision(hits, relevant, 30)[0] == pytest.approx(average_precision_score(truth, scores))
    ranks = 1.0 + np.flatnonzero(hits[0])
    ours = metrics.auc(ranks, np.array([0, len(ranks)]), np.array([30]))
    assert ours[0] == pytest.approx(roc_auc_score(truth, scores))


def test_auc_by_hand():
    # User 0: test items at ranks 1 and 4 of 5: of 2 x 3 pairs, 3 + 1 are won. User 1: none. User 2: nothing but test items.
    value = metrics.auc(np.array([1.0, 4.0, 1.0]), np.array([0, 2, 2, 3]), np.array([5, 5, 1]))
    np.testing.assert_allclose(value, [4 / 6, np.nan, np.nan])


def test_every_registered_metric_is_a_documented_function_of_the_lists():
    fields = set(inspect.signature(Lists).parameters) | {"k"}
    for name in METRICS:
        function = resolve("metric", METRICS, name)
        assert needs(name) <= fields, name
        assert function.__doc__ and function.__annotations__, name
    assert {name for name in METRICS if lower_is_better(name)} == {"gini", "popularity", "rmse", "mae"}


@pytest.fixture
def lists():
    return Lists(
        topk=np.array([[0, 1], [1, -1]]),
        hits=np.array([[True, False], [False, False]]),
        relevant=np.array([1, 2]),
        truth_indptr=np.array([0, 1, 3]),
        item_counts=np.array([3, 1, 0]),
        num_users=4,
        ranks=np.array([1.0, 2.0, 3.0]),
        candidates=np.array([3, 3]),
        predicted=np.array([1.0, 2.0, 3.0]),
        ratings=np.array([1.0, 2.0, 5.0]),
        cosines=np.array([[0.0, 1.0], [0.0, 0.0]]),
    )


def test_compute_names_and_kinds(lists):
    values = compute(METRICS, [2, 1], lists)
    assert list(values)[:2] == ["recall@1", "recall@2"]
    assert {"auc", "rmse", "mae"} <= values.keys()
    for name, value in values.items():
        assert isinstance(value, float) or (value.dtype == np.float64 and value.shape == (2,)), name
    assert values["rmse"] == pytest.approx((4 / 3) ** 0.5)
    assert values["mae"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        ([0, 1], np.array([0.0, 1.0])),
        (torch.tensor([0.5, 1.0]), np.array([0.5, 1.0])),
        (np.array([True, False]), np.array([1.0, 0.0])),
        (np.float32(0.5), 0.5),
        (1, 1.0),
    ],
)
def test_what_a_metric_returns_becomes_float64(returned, value, lists, monkeypatch):
    monkeypatch.setattr(metrics, "hit", lambda hits, k: returned)
    found = compute(["hit"], [1], lists)["hit@1"]
    np.testing.assert_array_equal(found, value)
    assert type(found) is type(value) and (isinstance(found, float) or found.dtype == np.float64)


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (np.zeros(3), r"ndarray of shape \(3,\)"),
        (np.zeros((2, 1)), r"ndarray of shape \(2, 1\)"),
        ([1.0], r"list of shape \(1,\)"),
        (None, "NoneType"),
        ({"hit": 1.0}, "dict"),
        ("many", "str"),
    ],
)
def test_what_a_metric_may_not_return(returned, got, lists, monkeypatch):
    monkeypatch.setattr(metrics, "hit", lambda hits, k: returned)
    with pytest.raises(ConfigError, match=rf"the metric hit must return one value for each of the 2 users.* got {got};"):
        compute(["hit"], [1], lists)


def test_what_a_metric_may_ask_for(lists, monkeypatch):
    monkeypatch.setattr(metrics, "hit", lambda hits, k, gain=2.0, *more, **others: gain)
    assert compute(["hit"], [1], lists) == {"hit@1": 2.0}
    monkeypatch.setattr(metrics, "hit", lambda hit, k: 1.0)
    with pytest.raises(ConfigError, match="the metric hit asks for 'hit', which no metric is given; .*did you mean 'hits'.*default"):
        compute(["hit"], [1], lists)


@pytest.mark.parametrize("bad", ["recal@20", "recall", "recall@", "recall@0", "recall@x", "auc@20", "recall@-1"])
def test_bad_metric_names(bad):
    with pytest.raises(ConfigError, match="metric"):
        split_name(bad)


def test_metric_names():
    assert split_name("ndcg@20") == ("ndcg", 20)
    assert split_name("auc") == ("auc", None)
