from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.errors import ConfigError
from graphrec.models import create, filter_response, graph_filter, held_out, social_filter
from graphrec.models.filter_response import (
    GAIN_EXPONENTS,
    SHARPENINGS,
    SMOOTH_SHARES,
    Response,
    _judged,
    choose_responses,
    nearly_best,
)
from graphrec.models.held_out import hide, list_quality
from graphrec.progress import SILENT
from tests.models.conftest import NUM_ITEMS, NUM_USERS, make_store
from tests.models.test_spectral import dense_normalised

ALL_USERS = np.arange(NUM_USERS)


SHAPED = {"cutoff": 0.05, "smooth_share": 0.4, "gain_exponent": 0.2, "sharpening": 0.6}  # nothing left to choose


def dense_filter(
    matrix: sp.csr_matrix, a: float, b: float, rank: int, t: float, w: float, c: float, h: float
) -> np.ndarray:
    """(1 - w) (R~^T R~ / s_1^2 - h Q' diag(l'^2) Q'^T) + w D_i^-c Q diag(l^2 / (l^2 + t^2)) Q^T D_i^c in float64."""
    normalised = dense_normalised(matrix, a, b)
    _, values, right = np.linalg.svd(normalised, full_matrices=False)
    eigenvalues = (values[:rank] / values[0]) ** 2
    degree = np.asarray(matrix.sum(axis=0)).ravel().astype(np.float64)
    flat = (right[:rank].T * (eigenvalues**2 / (eigenvalues**2 + t**2))) @ right[:rank]
    leading = right[: min(rank, 64)]
    taken = h * (leading.T * eigenvalues[:64] ** 2) @ leading
    return (1 - w) * (normalised.T @ normalised / values[0] ** 2 - taken) + w * flat / degree[:, None] ** c * degree**c


@pytest.mark.parametrize(
    ("a", "b", "rank", "t", "w", "c", "h"),
    [(0.5, 0.5, 4, 0.0, 0.3, 0.5, 0.0), (0.7, 0.2, 2, 0.1, 1.0, 0.3, 0.7), (0.0, 0.0, 8, 0.02, 0.0, 0.0, 1.0)],
)
def test_scores_follow_the_formula(a, b, rank, t, w, c, h, board):
    model = create(
        "graph-filter",
        user_exponent=a, item_exponent=b, rank=rank, cutoff=t, smooth_share=w, gain_exponent=c, sharpening=h,
    ).fit(board)  # fmt: skip
    train = board.train_matrix()
    expected = train.toarray() @ dense_filter(train, a, b, rank, t, w, c, h)
    np.testing.assert_allclose(model.score(ALL_USERS), expected, rtol=1e-3, atol=1e-4)


def test_weights_count(tmp_path):
    rng = np.random.default_rng(1)
    pairs = [(user, item) for user in range(12) for item in range(9) if rng.random() < 0.5]
    weights = rng.integers(1, 6, len(pairs)).astype(float).tolist()
    store = make_store(tmp_path / "store", pairs[1:], pairs[:1], weights=weights[1:])
    model = create("graph-filter", SHAPED, rank=3).fit(store)
    train = store.train_matrix()
    expected = train.toarray() @ dense_filter(train, 0.3, 0.5, 3, 0.05, 0.4, 0.2, 0.6)
    np.testing.assert_allclose(model.score(np.arange(12)), expected, rtol=1e-3, atol=1e-4)


def test_embeddings_at_full_rank_multiply_to_the_scores(board):
    model = create("graph-filter", SHAPED, rank=NUM_ITEMS).fit(board)
    vectors = model.embeddings()
    assert vectors["user"].shape == (NUM_USERS, 2 * min(NUM_USERS, NUM_ITEMS))
    np.testing.assert_allclose(vectors["user"] @ vectors["item"].T, model.score(ALL_USERS), atol=1e-4)


def test_embeddings_of_the_flat_part_alone_take_half_the_columns(board):
    model = create("graph-filter", SHAPED, smooth_share=1.0, rank=5).fit(board)
    vectors = model.embeddings()
    assert vectors["user"].shape == (NUM_USERS, 5)
    np.testing.assert_allclose(vectors["user"] @ vectors["item"].T, model.score(ALL_USERS), atol=1e-4)


def test_similar_items_answer_a_history_of_one_item(board):
    model = create("graph-filter", SHAPED, rank=6).fit(board)
    filter_matrix = dense_filter(board.train_matrix(), 0.3, 0.5, 6, 0.05, 0.4, 0.2, 0.6)
    np.fill_diagonal(filter_matrix, -np.inf)
    items = model.catalogue.items.ids_of(np.arange(NUM_ITEMS))
    listed = model.similar(items, 1)
    np.testing.assert_allclose(listed["score"], filter_matrix.max(axis=1), rtol=1e-3)


def test_what_is_given_is_not_chosen(board):
    model = create("graph-filter", rank=6, cutoff=0.02).fit(board)
    assert model.responses and {response.cutoff for response in model.responses} == {0.02}
    assert all(response.smooth_share in SMOOTH_SHARES for response in model.responses)
    assert {response.sharpening for response in model.responses} <= set(SHARPENINGS)
    assert len({response.gain_exponent for response in model.responses} & set(GAIN_EXPONENTS)) == 1
    fixed = create("graph-filter", SHAPED, rank=6).fit(board)
    assert [vars(response) for response in fixed.responses] == [SHAPED]


def test_a_log_with_nothing_to_hold_out_takes_the_defaults(tmp_path):
    store = make_store(tmp_path / "store", [(user, user % 4) for user in range(8)], [(0, 1)])
    assert create("graph-filter", rank=2).fit(store).responses == [Response(0.0, 0.2, 0.5)]


def test_shapes_that_chance_could_part_from_the_best_are_averaged(board):
    shapes = [Response(0.1, 0.2, 0.5), Response(0.1, 0.3, 0.5), Response(0.1, 0.45, 0.5), Response(0.1, 0.2, 0.3)]
    quality = np.tile(np.random.default_rng(0).random(400), (4, 1))
    quality[[1, 3]] += -0.001 + 0.1 * (-1.0) ** np.arange(
        400
    )  # behind by a fifth of the standard error, 0.1 / sqrt(400)
    quality[2] += -0.02 + 0.1 * (-1.0) ** np.arange(400)  # behind by four
    assert nearly_best(shapes, quality) == [shapes[0], shapes[1], shapes[3]]
    assert nearly_best(shapes, quality[:, :1]) == [shapes[1], shapes[3]]  # the first user alone, who finds them better
    train = board.train_matrix()
    model = create("graph-filter", rank=4).fit(board)
    means = []
    for shape in model.responses:
        one = shape.cutoff, shape.smooth_share, shape.gain_exponent, shape.sharpening
        means.append(dense_filter(train, 0.3, 0.5, 4, *one))
    expected = train.toarray() @ np.mean(means, axis=0)
    np.testing.assert_allclose(model.score(ALL_USERS), expected, rtol=1e-3, atol=1e-4)


def test_only_the_leading_64_directions_are_sharpened(tmp_path):
    rng = np.random.default_rng(2)
    pairs = [(user, item) for user in range(90) for item in range(80) if rng.random() < 0.3]
    model = create("graph-filter", SHAPED, rank=80).fit(make_store(tmp_path / "store", pairs, [(0, 0)]))
    train = model._train
    expected = train.toarray() @ dense_filter(train, 0.3, 0.5, 80, 0.05, 0.4, 0.2, 0.6)
    np.testing.assert_allclose(model.score(np.arange(90)), expected, rtol=1e-3, atol=1e-3)
    unlimited = train.toarray() @ dense_filter(train, 0.3, 0.5, 80, 0.05, 0.4, 0.2, 0.0)
    assert np.abs(expected - unlimited).max() > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_the_choice_judges_the_filter_that_is_then_used(seed):
    rng = np.random.default_rng(seed)
    train = sp.csr_matrix((rng.random((60, 40)) < 0.15 + 0.4 * rng.random(40)).astype(np.float32))
    given = Response(0.05, 0.1, 0.2, None)
    chosen = choose_responses(train, given, 0.3, 0.5, 20, seed, SILENT)
    kept, hidden = hide(train, 0.2, np.random.default_rng(seed))
    users = np.flatnonzero(np.diff(hidden.indptr))
    candidates, quality = [replace(given, sharpening=h) for h in SHARPENINGS], []
    for one in candidates:
        scores = kept.toarray() @ dense_filter(kept, 0.3, 0.5, 20, 0.05, 0.1, 0.2, one.sharpening)
        quality.append(list_quality(torch.from_numpy(scores[users]).float(), kept[users], hidden[users]))
    assert np.abs(quality[0] - quality[1]).max() > 0.1  # so that a filter mistaken for the other would be noticed
    assert chosen == nearly_best(candidates, np.stack(quality))


def test_the_gain_exponent_is_chosen_at_the_middle_cutoff():
    """The best candidate of all stands at another cutoff, with the exponent that is worse at the middle one."""
    grid = [Response(t, 0.2, c) for c in (0.3, 0.5) for t in (0.01, 0.03, 0.1)]
    worth = {(0.03, 0.3): 0.6, (0.01, 0.3): 0.5, (0.1, 0.3): 0.4, (0.03, 0.5): 0.3, (0.01, 0.5): 0.9, (0.1, 0.5): 0.2}
    asked = []

    class Judge:
        def quality(self, responses):
            asked.extend(responses)
            return np.array([[worth[one.cutoff, one.gain_exponent]] * 5 for one in responses])

    judged = _judged(grid, Judge(), SILENT)
    assert list(judged) == [Response(t, 0.2, 0.3) for t in (0.03, 0.01, 0.1)]
    assert len(asked) == 4  # both exponents at one cutoff, one of them at the others
    assert nearly_best(list(judged), np.stack(list(judged.values()))) == [Response(0.03, 0.2, 0.3)]


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"rank": 0}, "rank"), ({"smooth_share": 1.1}, "smooth_share"), ({"item_exponent": 2}, "item_exponent")],
)
def test_bad_settings_are_refused(settings, key):
    with pytest.raises(ConfigError, match=f"model graph-filter {key}: "):
        create("graph-filter", settings)


def test_only_a_filter_without_linear_part_ranks_by_its_factors(board):
    assert not create("graph-filter", SHAPED).fit(board).scores_are_dot_products
    assert create("graph-filter", {**SHAPED, "smooth_share": 1.0}).fit(board).scores_are_dot_products


@pytest.mark.parametrize(("num_items", "rank"), [(48, 48), (600, 100)])
def test_rank_follows_the_catalogue(tmp_path, num_items, rank):
    pairs = [(user, (user + step) % num_items) for user in range(num_items) for step in (0, 1, 3)]
    model = create("graph-filter", SHAPED).fit(make_store(tmp_path / "store", pairs, [(0, 2)]))
    assert model.embeddings()["item"].shape == (num_items, 2 * rank)


@pytest.mark.parametrize("name", ["graph-filter", "social-graph-filter"])
def test_users_judged_in_parts_give_the_same_choice(name, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    pairs = [(user, item) for user in range(60) for item in range(40) if rng.random() < 0.15 + 0.4 * (item / 40)]
    store = make_store(tmp_path / "store", pairs, [(0, 0)], links=[(user, user + 1) for user in range(59)])
    sizes = []
    for module in (filter_response, social_filter):
        quality = module.list_quality
        monkeypatch.setattr(module, "list_quality", lambda scores, *rest, q=quality: (sizes.append(len(scores)), q(scores, *rest))[1])
    judged = []
    monkeypatch.setattr(filter_response, "nearly_best", lambda *given: (judged.append(given[1]), nearly_best(*given))[1])
    whole = create(name, rank=12).fit(store)
    assert max(sizes) == 60
    sizes.clear()
    monkeypatch.setattr(held_out, "_JUDGED_SCORES", 40 * 14)  # 14 users at a time, the filter's in blocks of 4
    parts = create(name, rank=12).fit(store)
    assert max(sizes) == (4 if name == "graph-filter" else 14)
    np.testing.assert_array_equal(*judged)
    assert parts.responses == whole.responses and torch.equal(parts.score(np.arange(60)), whole.score(np.arange(60)))


def test_a_fit_that_needs_more_memory_than_there_is_names_the_rank_that_would_fit(tmp_path, monkeypatch):
    pairs = [(user, item) for user in range(90) for item in range(80) if (7 * user + item) % 4 != 1 and user % 3]
    store = make_store(tmp_path / "store", pairs, [(1, 0)])

    def fit(**own):
        return create("graph-filter", SHAPED, **own).fit(store)

    monkeypatch.setattr(graph_filter, "available_memory", lambda: 350_000)
    with pytest.raises(ConfigError, match=r"graph-filter: rank \d+ for \d+ users and \d+ items takes about .* GB .*such as \d+, or") as told:
        fit()
    fits = int(str(told.value).split("such as ")[1].split(",")[0])
    fit(rank=fits)
    with pytest.raises(ConfigError, match=f"set a smaller rank, such as {fits}"):
        fit(rank=fits + 1)
    monkeypatch.setattr(graph_filter, "available_memory", lambda: 0)
    with pytest.raises(ConfigError, match="GB are free; take a machine with more memory"):
        fit()
    monkeypatch.setattr(graph_filter, "available_memory", lambda: None)
    fit()
