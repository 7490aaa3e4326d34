"""Metrics of link prediction against ogb's Evaluator and scikit-learn, with ties, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from graphrec.errors import ConfigError
from graphrec.link.evaluate import official
from graphrec.link.metrics import auc, average_precision, check_metric, hits_at, measure, mrr
from graphrec.logs.ogb import import_ogb

CASES = [(30, 200, None), (30, 200, 1), (7, 19, 0), (1, 1, None), (50, 100, 2)]  # links, others, decimals (few: ties)


def scores(positives: int, shape, decimals: int | None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = rng.normal(1, 1, positives), rng.normal(0, 1, shape)
    return found if decimals is None else tuple(part.round(decimals) for part in found)


@pytest.mark.parametrize(("positives", "negatives", "decimals"), CASES)
def test_auc_and_average_precision_equal_scikit_learn(positives, negatives, decimals):
    good, bad = scores(positives, negatives, decimals)
    labels, values = np.r_[np.ones(positives), np.zeros(negatives)], np.r_[good, bad]
    assert auc(good, bad) == pytest.approx(roc_auc_score(labels, values), abs=1e-12)
    assert average_precision(good, bad) == pytest.approx(average_precision_score(labels, values), abs=1e-12)


@pytest.mark.parametrize(("positives", "negatives", "decimals"), CASES)
@pytest.mark.parametrize(("data", "k"), [("ogbl-ddi", 20), ("ogbl-collab", 50), ("ogbl-ppa", 100)])
def test_hits_equal_ogb(positives, negatives, decimals, data, k):
    good, bad = scores(positives, negatives, decimals)
    answer = import_ogb().Evaluator(data).eval({"y_pred_pos": good, "y_pred_neg": bad})
    assert hits_at(good, bad, k) == answer[f"hits@{k}"]


@pytest.mark.parametrize("decimals", [None, 0])
def test_mrr_equals_ogb(decimals):
    good, bad = scores(30, (30, 12), decimals)
    tensors = {"y_pred_pos": torch.from_numpy(good), "y_pred_neg": torch.from_numpy(bad)}
    answer = import_ogb().Evaluator("ogbl-citation2").eval(tensors)
    assert mrr(good, bad) == pytest.approx(float(answer["mrr_list"].double().mean()), abs=1e-7)
    repeated = np.tile(bad[0], (30, 1))  # the same non-links for every link, and the same once
    assert mrr(good, bad[0]) == pytest.approx(mrr(good, repeated))


def test_auc_equals_ogb():
    good, bad = scores(20, 30, 1)
    assert auc(good, bad) == pytest.approx(import_ogb().Evaluator("ogbl-vessel").eval(
        {"y_pred_pos": good, "y_pred_neg": bad})["rocauc"])  # fmt: skip


@pytest.mark.parametrize(
    ("data", "shape", "name"),
    [("ogbl-collab", 80, "hits@50"), ("ogbl-ddi", 80, "hits@20"), ("ogbl-ppa", 200, "hits@100"), ("ogbl-citation2", (30, 12), "mrr"),
     ("ogbl-vessel", 80, "rocauc")],
)  # fmt: skip
def test_the_official_metric_has_its_own_name_and_the_value_of_ours(data, shape, name):
    good, bad = (part.astype(np.float32) for part in scores(30, shape, 1))
    ours = measure(good, bad, [name.replace("rocauc", "auc")])
    assert list(official(data, good, bad)) == [f"{data} {name}"]
    assert next(iter(official(data, good, bad).values())) == pytest.approx(next(iter(ours.values())), abs=1e-6)


def test_by_hand():
    good, bad = np.array([3.0, 1.0]), np.array([2.0, 1.0, 0.0])
    assert auc(good, bad) == pytest.approx((3 + 1.5) / 6)
    assert average_precision(good, bad) == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert [hits_at(good, bad, k) for k in (1, 2, 3, 4)] == [0.5, 0.5, 1.0, 1.0]  # a tie with the k-th is no hit
    assert mrr(good, bad) == pytest.approx((1 + 1 / 2.5) / 2)
    assert measure(good, bad, ["hits@2", "mrr"]) == {"hits@2": 0.5, "mrr": mrr(good, bad)}


def test_unknown_metrics_and_nan_are_refused():
    with pytest.raises(ConfigError, match=r"unknown metric 'hist@20'; choose among auc, ap, mrr, hits@K"):
        check_metric("hist@20")
    for name in ("hits@", "hits@0", "hits@-3", "auc@5"):
        with pytest.raises(ConfigError, match="unknown metric"):
            check_metric(name)
    with pytest.raises(ConfigError, match="a score is NaN"):
        measure(np.array([np.nan]), np.array([1.0]), ["auc"])
