"""A two-stage model is a recommender as every other: the contract, and how its lists are put together."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

import graphrec
from graphrec.errors import ConfigError, RunError, UnknownIdError, UnsupportedError
from graphrec.models import create, load_model
from graphrec.models.ranker import TwoStage
from graphrec.training.rank import train_ranker
from graphrec.training.train import train
from tests.training.test_rank import FAST, NUM_ITEMS, NUM_USERS, make_board

ALL_USERS = np.arange(NUM_USERS)


@pytest.fixture(scope="module", params=["graph-filter", "graph-filter with times", "item-knn", "sum of filters"])
def case(request):
    return request.param


@pytest.fixture(scope="module")
def board(case, tmp_path_factory):
    return make_board(tmp_path_factory.mktemp("stores") / "board", times="times" in case)


@pytest.fixture(scope="module")
def run(case, board, tmp_path_factory):
    """Two stages over a retrieval with vectors, one without, and a sum; 8 of the 18 unseen items are candidates."""
    folder = tmp_path_factory.mktemp("runs")
    # with all 30 directions, vectors of items are orthogonal
    name, *ranks = {"item-knn": ("item-knn", None), "sum of filters": ("graph-filter", 6, 4)}.get(case, ("graph-filter", 6))
    runs = [train(board, name, folder / f"{rank}", model_settings=rank and {"rank": rank}) for rank in ranks]
    retrieval = graphrec.fuse(runs, folder / "sum", (2, 1)) if len(runs) > 1 else runs[0]
    return train_ranker(retrieval, folder / "ranked", {**FAST, "candidates": 8})


def test_scores_cover_the_catalogue_and_a_batch_equals_its_singles(run):
    scores = run.model.score(ALL_USERS)
    assert scores.shape == (NUM_USERS, NUM_ITEMS) and scores.dtype == torch.float32
    assert bool(torch.isfinite(scores).all())
    singles = torch.cat([run.model.score(np.array([user])) for user in ALL_USERS])
    torch.testing.assert_close(scores, singles, rtol=1e-4, atol=1e-5)
    assert run.model.score(ALL_USERS[:0]).shape == (0, NUM_ITEMS)


def test_candidates_stand_first_and_the_rest_in_the_order_of_the_retrieval(run):
    model = run.model
    scores, first = model.score(ALL_USERS), model.retrieval.score(ALL_USERS)
    found = model.candidates(ALL_USERS)
    assert found.items.shape == (NUM_USERS, 8)
    for user in ALL_USERS:
        inside = np.zeros(NUM_ITEMS, dtype=bool)
        inside[found.items[user]] = True
        assert scores[user, inside].min() > scores[user, ~inside].max()
        seen = model.catalogue.seen(ALL_USERS[user : user + 1])[1]
        assert not inside[seen].any()
        unseen = np.setdiff1d(np.arange(NUM_ITEMS), seen)
        assert first[user, inside].min() >= first[user, np.setdiff1d(unseen, np.flatnonzero(inside))].max()
        outside = torch.from_numpy(np.flatnonzero(~inside))
        order, wanted = scores[user, outside], first[user, outside]
        higher = wanted[:, None] > wanted[None] + 1e-3 * (first[user].max() - first[user].min())
        assert bool((order[:, None] > order[None])[higher].all())


def test_a_short_list_leaves_item_zero_where_it_was(run, board):
    model = TwoStage(run.model.settings, candidates=NUM_ITEMS)
    model.assemble(run.model.retrieval, run.model.features, run.model.catalogue)
    model.network = run.model.network
    found = model.candidates(ALL_USERS)
    assert not found.known.all()
    scores = model.score(ALL_USERS)
    seen = board.train_matrix().toarray()[:, 0] > 0
    lowest = torch.where(
        torch.from_numpy(found.known), scores.gather(1, torch.from_numpy(found.items)), torch.inf
    ).amin(1)
    assert seen.any() and bool((scores[seen, 0] < lowest[seen]).all())


def test_saved_and_loaded_scores_are_equal_also_in_a_fresh_process(run, tmp_path):
    run.model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert isinstance(loaded, TwoStage) and loaded.settings == run.model.settings
    assert loaded.features.names == run.model.features.names and loaded.pair_names == run.model.pair_names
    assert loaded.features.arrays.keys() == run.model.features.arrays.keys()
    torch.testing.assert_close(loaded.score(ALL_USERS), run.model.score(ALL_USERS), rtol=0, atol=0)
    assert sorted(path.suffix for path in (tmp_path / "model").iterdir()) == ["", ".json", ".safetensors"]
    code = "import sys, graphrec; print(graphrec.recommend(sys.argv[1], [3, 10], 4)['item_id'].to_list())"
    answer = subprocess.run([sys.executable, "-c", code, run.folder], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(run.model.recommend([3, 10], 4)["item_id"].to_list())


def test_recommendations_leave_seen_items_out_and_go_on_beyond_the_candidates(run, board):
    listed = run.model.recommend(run.model.catalogue.users.ids_of(ALL_USERS), NUM_ITEMS)
    rows = board.interactions()
    seen = set(zip(rows.user.tolist(), rows.item.tolist(), strict=True))
    assert not seen & set(listed.select("user_id", "item_id").rows())
    assert len(listed) == NUM_USERS * NUM_ITEMS - len(seen)
    assert sorted(run.model.recommend([3], NUM_ITEMS, exclude_seen=False)["item_id"]) == list(range(NUM_ITEMS))
    with pytest.raises(UnknownIdError):
        run.model.recommend([NUM_USERS + 5], 3)
    with pytest.raises(ConfigError, match="got 31"):
        run.model.recommend([3], NUM_ITEMS + 1)


def test_evaluation_ranks_by_both_stages_and_says_what_the_second_learned_from(run, board):
    test = graphrec.evaluate(run.folder, k=5, metrics=["recall", "auc"], mask_valid=False, bootstrap=0)
    assert test.metrics["recall@5"] > 0.85 and not test.learned and not test.notes()
    valid = graphrec.evaluate(run, split="valid", k=5, metrics="recall", bootstrap=0)
    assert valid.learned and "two-stage has learned from the valid split" in str(valid)


def test_vectors_are_those_of_the_retrieval_and_export_says_so(run, tmp_path):
    if run.model.retrieval.embeddings() is None:
        with pytest.raises(UnsupportedError, match="two-stage has no embeddings"):
            graphrec.export(run, tmp_path / "export")
        return
    np.testing.assert_array_equal(run.model.embeddings()["item"], run.model.retrieval.embeddings()["item"])
    notes = graphrec.export(run, tmp_path / "export", "npy").manifest["notes"]
    first = run.model.retrieval
    assert f"are those of its first stage ({first.name}), whose candidates the second stage orders anew; those of {first.name}" in notes[0]
    assert ("those of its members (graph-filter, graph-filter) side by side; those of graph-filter hold" in notes[0]) == (first.name == "sum")
    assert run.model.similar([3], 4).equals(run.model.retrieval.similar([3], 4))


def test_columns_depend_on_times_and_vectors(run, case):
    timed, vectors = "times" in case, "filter" in case
    assert ("next step" in run.model.pair_names) == timed == ("gap time" in run.model.pair_names)
    assert ("near history" in run.model.pair_names) == vectors
    assert ("near latest" in run.model.pair_names) == (vectors and timed)
    found = run.model.candidates(ALL_USERS)
    pairs = run.model.pairs(ALL_USERS, found)
    assert pairs.shape == (NUM_USERS, 8, len(run.model.pair_names)) and np.isfinite(pairs).all()
    for name in ("retrieval score", "retrieval rank", "paths"):
        column = pairs[..., run.model.pair_names.index(name)]
        np.testing.assert_allclose(column.mean(1), 0, atol=1e-5)
        np.testing.assert_allclose(column.std(1), 1, atol=1e-3)
    if vectors:
        unit = torch.nn.functional.normalize(torch.from_numpy(run.model.embeddings()["item"]), dim=1)
        seen = run.model.catalogue.seen(ALL_USERS[:1])[1]
        cosines = unit[found.items[0]] @ unit[seen].T
        best = cosines.sort(dim=1, descending=True).values
        names = {"nearest in history": best[:, 0], "near history": best[:, :3].mean(1)}
        if timed:
            latest = run.model.features.steps.latest[0]
            names["near latest"] = (unit[found.items[0]] @ unit[latest].T).mean(1)
        for name, expected in names.items():
            scaled = (expected - expected.mean()) / expected.std(correction=0)
            np.testing.assert_allclose(pairs[0, :, run.model.pair_names.index(name)], scaled, atol=1e-3)


def test_cosines_that_are_rounding_alone_are_no_feature(board, tmp_path):
    orthogonal = train(board, "graph-filter", tmp_path / "all", model_settings={"rank": NUM_ITEMS})
    model = train_ranker(orthogonal, tmp_path / "ranked", {**FAST, "candidates": 8, "epochs": 1}).model
    pairs = model.pairs(ALL_USERS, model.candidates(ALL_USERS))
    assert not pairs[..., model.pair_names.index("near history")].any()


def test_it_is_made_from_a_run_and_not_by_name(tmp_path, board):
    with pytest.raises(ConfigError, match="'two-stage' is not trained by its name but made from finished runs: graphrec train --stage rank"):
        create("two-stage")
    with pytest.raises(UnsupportedError, match=r"graphrec\.train_ranker"):
        TwoStage().fit(board)
    with pytest.raises(RunError, match="has not learned anything yet"):
        TwoStage().recommend([1], 1)


def test_a_damaged_file_is_refused(run, tmp_path):
    run.model.save(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match="holds .* bytes"):
        load_model(tmp_path / "model")
