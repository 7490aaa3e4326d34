"""Intervals and paired tests: they find a planted difference, and find nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from graphrec.errors import ConfigError, RunError
from graphrec.evaluation import METRICS
from graphrec.evaluation.compare import compare
from graphrec.evaluation.evaluate import evaluate
from graphrec.evaluation.report import report_html
from graphrec.evaluation.result import Evaluation
from graphrec.evaluation.significance import (
    bootstrap_intervals,
    holm,
    normal_intervals,
    paired_t_p,
    shown_p,
    sign_flip_p,
)
from graphrec.evaluation.validation import metric_to_choose_by


def test_bootstrap_matches_the_normal_interval_of_a_large_sample():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=(4000, 1))
    low, high = bootstrap_intervals(values, 2000, 0.95, seed=1)[0]
    half = 1.96 * values.std() / np.sqrt(4000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.005)


def test_bootstrap_leaves_out_users_without_a_value():
    values = np.random.default_rng(0).normal(size=(500, 1))
    padded = np.concatenate([values, np.full((500, 1), np.nan)])
    assert bootstrap_intervals(padded, 500, 0.95, 0)[0] == pytest.approx(
        bootstrap_intervals(values, 500, 0.95, 0)[0], abs=0.03
    )
    assert np.isnan(bootstrap_intervals(np.full((5, 1), np.nan), 50, 0.95, 0)).all()


def test_normal_intervals_are_those_of_the_bootstrap():
    values = np.random.default_rng(0).exponential(2.0, size=(4000, 2))
    values[::2, 1] = np.nan
    np.testing.assert_allclose(normal_intervals(values, 0.9), bootstrap_intervals(values, 4000, 0.9, seed=1), atol=0.01)
    half = stats.norm.ppf(0.975) * np.array([1.0, 3.0]).std(ddof=1) / 2**0.5
    np.testing.assert_allclose(normal_intervals(np.array([[1.0], [3.0], [np.nan]]), 0.95), [[2 - half, 2 + half]])
    assert np.isnan(normal_intervals(np.array([[1.0], [np.nan]]), 0.95)).all()


@pytest.mark.parametrize(("limit", "kind"), [(299, "normal"), (300, "bootstrap")])
def test_many_users_are_not_drawn_again_and_it_is_said(limit, kind, random_store, given_scores, tmp_path, monkeypatch):
    store = random_store(num_users=300)
    users = planted(store, given_scores, 0, 1).counts["users"]
    monkeypatch.setattr("graphrec.evaluation.significance.RESAMPLED_USERS", users + limit - 300)
    first, second = (planted(store, given_scores, strength, 1) for strength in (0, 1.5))
    first.save(tmp_path)
    again = Evaluation.load(tmp_path)
    assert first.interval == again.interval == kind and f"95% {kind} interval" in report_html(again)
    result = compare(first, second, resamples=500)
    assert result.interval == kind
    row = next(row for row in result.differences if row.metric == "recall@10")
    difference = second.values("recall@10") - first.values("recall@10")
    for (low, high), values in (((row.low, row.high), difference), (first.intervals["recall@10"], first.values("recall@10"))):
        exact = stats.norm.interval(0.95, values.mean(), stats.sem(values))
        assert ((low, high) == pytest.approx(exact, rel=1e-12)) == (kind == "normal")


def test_blocks_of_draws_do_not_change_the_result(monkeypatch):
    values = np.random.default_rng(0).normal(size=(64, 2))
    whole = bootstrap_intervals(values, 100, 0.9, 3), sign_flip_p(values, 100, 3)
    monkeypatch.setattr("graphrec.evaluation.significance._CELLS", 64 * 8)
    np.testing.assert_array_equal(bootstrap_intervals(values, 100, 0.9, 3), whole[0])
    np.testing.assert_array_equal(sign_flip_p(values, 100, 3), whole[1])


def test_sign_flip_is_exact_where_all_patterns_can_be_listed():
    # Four users, all better by 1: of 16 patterns the two unanimous ones reach the mean, so p is near 2 / 16.
    assert sign_flip_p(np.ones((4, 1)), 20_000, 0)[0] == pytest.approx(2 / 16, abs=0.01)


def test_tests_agree_with_scipy():
    difference = np.random.default_rng(2).normal(0.1, 1.0, size=(300, 1))
    expected = stats.ttest_rel(difference[:, 0], np.zeros(300)).pvalue
    assert paired_t_p(difference)[0] == pytest.approx(expected)
    assert sign_flip_p(difference, 20_000, 0)[0] == pytest.approx(expected, abs=0.01)
    np.testing.assert_array_equal(paired_t_p(np.array([[0.0, 1.0], [0.0, 1.0]])), [1.0, 0.0])
    assert sign_flip_p(np.zeros((5, 1)), 100, 0)[0] == 1.0


def test_null_p_values_are_uniform():
    differences = np.random.default_rng(4).normal(size=(80, 400))  # 400 experiments without any difference
    p_values = sign_flip_p(differences, 999, 0)
    assert 0.02 < (p_values < 0.05).mean() < 0.09
    assert 0.4 < p_values.mean() < 0.6


def planted(store, given_scores, strength, seed, **settings):
    """A model that adds `strength` to the test items' random scores."""
    scores = np.random.default_rng(seed).normal(size=(store.num_users, store.num_items))
    for user, item in store.pairs["test"]:
        scores[user, item] += strength
    return evaluate(given_scores(scores, store), store, k=10, **settings)


def test_planted_difference_is_found_and_null_is_not(random_store, given_scores):
    store = random_store(num_users=300)
    weak, same, strong = (planted(store, given_scores, s, seed) for s, seed in ((0, 1), (0, 2), (1.5, 3)))
    found = {row.metric: row for row in compare(weak, strong, resamples=2000).differences}
    assert found["recall@10"].better == "B" and found["recall@10"].low > 0 and found["recall@10"].p_permutation < 0.001
    assert found["recall@10"].difference == pytest.approx(strong.metrics["recall@10"] - weak.metrics["recall@10"])
    turned = {row.metric: row for row in compare(strong, weak, resamples=2000).differences}
    assert turned["recall@10"].better == "A" and turned["recall@10"].high < 0
    null = {row.metric: row for row in compare(weak, same, metrics=["recall@10"], resamples=2000).differences}
    assert null["recall@10"].better == "neither" and null["recall@10"].low < 0 < null["recall@10"].high
    itself = compare(weak, weak, resamples=100)
    assert all(row.difference == 0 and row.p_permutation == 1 and row.better == "neither" for row in itself.differences)
    assert itself.totals["coverage@10"] == (weak.metrics["coverage@10"],) * 2
    assert "recall@10" in str(itself)


def test_lower_is_better_for_popularity(small_store, given_scores):
    users = 40
    train = [(user, 0) for user in range(users)] + [(0, 1)]
    store = small_store(users + 1, 4, {"train": [*train, (users, 2)], "test": [(user, 3) for user in range(users)]})
    popular, rare = (
        evaluate(given_scores(np.tile(row, (users + 1, 1)), store), store, k=1, metrics="popularity")
        for row in ([0, 5, 4, 3], [0, 4, 3, 5])
    )
    assert compare(popular, rare, resamples=500).differences[0].better == "B"


def miss(hits, relevant, k):
    """1 where no test item is among the first k places."""
    return np.where(relevant > 0, ~hits[:, :k].any(axis=1), np.nan)


miss.lower_is_better = True


def test_a_metric_of_ones_own_says_itself_that_lower_is_better(random_store, given_scores, monkeypatch):
    monkeypatch.setitem(METRICS, "miss", f"{__name__}:miss")
    store = random_store(num_users=300)
    weak, strong = (planted(store, given_scores, strength, 1, metrics=["miss"]) for strength in (0, 3))
    assert compare(weak, strong, resamples=500).differences[0].better == "B"
    with pytest.raises(ConfigError, match="nothing can be chosen on validation items by 'miss@10'"):
        metric_to_choose_by("miss@10", 40)
    monkeypatch.delitem(METRICS, "miss")  # as in another process
    assert compare(weak, strong, resamples=500).differences[0].better == "neither"


def test_refusals(store, model, random_store, given_scores):
    base = evaluate(model, store, k=10)
    other = random_store(seed=3)
    elsewhere = evaluate(given_scores(model.scores.numpy(), other), other, k=10)
    with pytest.raises(RunError, match="other users, test items or masked items"):
        compare(base, elsewhere)
    with pytest.raises(RunError, match="other users, test items or masked items"):
        compare(base, evaluate(model, store, k=10, mask_valid=False))
    with pytest.raises(RunError, match="split 'test' and B on 'valid'"):
        compare(base, evaluate(model, store, split="valid", k=10))
    with pytest.raises(RunError, match="no metric with a value per user in common"):
        compare(base, evaluate(model, store, k=7, metrics="recall"))
    with pytest.raises(ConfigError, match="did you mean 'recall@10'"):
        compare(base, base, metrics=["recall@11"])
    for few in (0, 3, 99):
        with pytest.raises(ConfigError, match=f"resamples must be at least 100, .* got {few}"):
            compare(base, base, resamples=few)
    with pytest.raises(ConfigError, match="'coverage@10' has one value for all lists together.* leave --metrics out"):
        compare(base, base, metrics=["coverage@10"])
    total = evaluate(model, store, k=10, metrics="coverage")
    with pytest.raises(RunError, match="A has coverage@10 and B has coverage@10: no metric with a value per user"):
        compare(total, total)


def test_several_metrics_are_one_family(random_store, given_scores):
    store = random_store(num_users=300)
    result = compare(*(planted(store, given_scores, s, seed) for s, seed in ((0, 1), (0.25, 3))), resamples=2000)
    p_values = np.array([row.p_permutation for row in result.differences])
    assert list(result.p_holm) == [row.metric for row in result.differences]
    np.testing.assert_allclose(list(result.p_holm.values()), holm(p_values))
    assert (np.array(list(result.p_holm.values())) > p_values).any() and "p (Holm)" in str(result)


def test_runs_are_evaluated_when_they_were_not(store, model, run_of, tmp_path, monkeypatch):
    monkeypatch.setattr("graphrec.graph.store.GraphStore.open", lambda folder: store)
    runs = [run_of(model, tmp_path / name) for name in ("a", "b")]
    evaluate(runs[0], k=5, metrics="recall", user_groups=2)
    result = compare(*runs, resamples=100)
    assert [row.metric for row in result.differences] == ["recall@5"]
    assert Evaluation.load(tmp_path / "b").settings == Evaluation.load(tmp_path / "a").settings


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.9])).tolist() == [1.0, 1.0]
    assert holm(np.array([0.02])).tolist() == [0.02]


def test_small_p_values_are_not_shown_as_zero():
    assert [shown_p(value) for value in (0.0, 9e-5, 1e-4, 0.5)] == ["< 0.0001", "< 0.0001", 1e-4, 0.5]
