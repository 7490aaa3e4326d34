"""Training of the second stage: on a board where popularity cannot tell what anyone likes, and everything else can."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import graphrec
from graphrec.errors import ConfigError, RunError, StoreError
from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog
from graphrec.losses import LIST_LOSSES
from graphrec.models.score_sum import ScoreSum
from graphrec.training.rank import train_ranker
from graphrec.training.rank_lists import features_of, held_out, make_lists, resolve_labels
from graphrec.training.rank_settings import RankSettings
from graphrec.training.run import Run
from graphrec.training.train import train
from tests.notes import Notes

NUM_USERS, NUM_ITEMS = 60, 30
FAST = {
    "candidates": 20,
    "epochs": 20,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "network": {"hidden": [16], "dropout": 0.0},
}


def make_board(folder: Path, valid: int = 2, shift: int = 0, times: bool = False) -> GraphStore:
    """Even users like even items, odd users odd ones. Of each user's 15, three are for the test and `valid` for validation;
    two of the other colour in training keep scores from being equal."""
    rng, rows = np.random.default_rng(3 + shift), []
    for user in range(NUM_USERS):
        liked = rng.permutation(np.arange(user % 2, NUM_ITEMS, 2)).tolist()
        sides = ["valid"] * valid + ["test"] * 3 + ["train"] * (12 - valid)
        rows += [(user, item, side) for item, side in zip(liked, sides, strict=True)]
        rows += [(user, 2 * int(item) + 1 - user % 2, "train") for item in rng.permutation(NUM_ITEMS // 2)[:2]]
    events = pl.DataFrame(
        {
            "user_id": [user for user, _, _ in rows],
            "item_id": [item for _, item, _ in rows],
            "behavior": "interaction",
            "timestamp": pl.Series([n if times else None for n in range(len(rows))], dtype=pl.Datetime("us", "UTC")),
            "weight": pl.Series([1.0] * len(rows), dtype=pl.Float32),
            "split": [side for _, _, side in rows],
        }
    )
    ids = list(range(NUM_ITEMS))
    items = pl.DataFrame({"item_id": ids, "colour": ["white" if item % 2 else "black" for item in ids]})
    return build(InteractionLog(events.lazy(), items=items), folder, split="given")


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> GraphStore:
    return make_board(tmp_path_factory.mktemp("stores") / "board")


@pytest.fixture(scope="module")
def popular(board, tmp_path_factory) -> Run:
    return train(board, "popularity", tmp_path_factory.mktemp("runs") / "popularity")


def recall(run: Run, store: GraphStore) -> float:
    return graphrec.evaluate(run.model, store, k=5, metrics="recall", mask_valid=False, bootstrap=0).metrics["recall@5"]


@pytest.mark.parametrize("loss", LIST_LOSSES)
def test_every_loss_finds_the_colour_that_the_retrieval_cannot_see(loss, board, popular, tmp_path):
    run = train_ranker(popular, tmp_path / "run", {**FAST, "loss": loss})
    assert recall(popular, board) < 0.5
    assert recall(run, board) > 0.85


def test_hold_out_labels_need_no_validation_split(popular, tmp_path):
    store = make_board(tmp_path / "store", valid=0)
    retrieval = train(store, "popularity", tmp_path / "popularity")
    run = train_ranker(retrieval, tmp_path / "run", FAST)
    assert run.model.settings.labels == "hold-out" and run.model.learned_splits == ()
    assert recall(run, store) > 0.85
    # the finished model stands on the whole of train again
    np.testing.assert_array_equal(run.model.features.history.toarray(), (store.train_matrix() > 0).toarray())
    assert torch.equal(run.model.retrieval.score(np.arange(5)), retrieval.model.score(np.arange(5)))


def test_labels_never_come_from_test_nor_from_what_the_features_saw(board, popular):
    settings = RankSettings(**FAST)
    test = board.interactions("test")
    forbidden = set((test.user * NUM_ITEMS + test.item).tolist())
    for labels in ("valid", "hold-out"):
        view, model, keys = held_out(popular, board, labels, settings, graphrec.progress.SILENT)
        assert len(keys) == NUM_USERS * 2 and not forbidden & set(keys.tolist())
        seen = features_of(view).history
        assert seen.nnz == (720 if labels == "valid" else 600)
        assert not seen[keys // NUM_ITEMS, keys % NUM_ITEMS].any()
        assert len(view.catalogue().seen_indices) == len(model.catalogue.seen_indices) == seen.nnz
        if labels == "valid":
            assert model is popular.model


def test_a_trained_retrieval_is_learned_again_for_hold_out_labels(board, tmp_path):
    how = {"epochs": 30, "eval_every": 1, "patience": 2, "batch_size": 64, "learning_rate": 0.02, "metric": "recall@5"}
    retrieval = graphrec.train(board, "lightgcn", tmp_path / "lightgcn", how, model_settings={"embedding_dim": 8})
    before = {path: path.read_bytes() for path in (tmp_path / "lightgcn").rglob("*") if path.is_file()}
    settings = RankSettings(**FAST, labels="hold-out")
    _, again, _ = held_out(retrieval, board, "hold-out", settings, graphrec.progress.SILENT)
    assert not torch.equal(again.score(np.arange(3)), retrieval.model.score(np.arange(3)))
    run = train_ranker(tmp_path / "lightgcn", tmp_path / "run", settings)
    assert torch.equal(run.model.retrieval.score(np.arange(3)), retrieval.model.score(np.arange(3)))
    assert recall(run, board) > 0.85
    assert before == {path: path.read_bytes() for path in (tmp_path / "lightgcn").rglob("*") if path.is_file()}


def test_every_member_of_a_sum_is_learned_again_for_hold_out_labels(board, popular, tmp_path):
    how = {"epochs": 3, "eval_every": 1, "batch_size": 64, "learning_rate": 0.02, "metric": "recall@5", "seed": 5}
    values = iter([0.1, 0.9, 0.5])
    trained = train(board, "lightgcn", tmp_path / "lightgcn", how, model_settings={"embedding_dim": 8},
                    validation=lambda *_: lambda model: {"recall@5": next(values)})  # fmt: skip
    members = [popular, train(board, "graph-filter", tmp_path / "filter"), trained]
    assert trained.training()["epochs"] == 2  # of 3, the best
    fused = graphrec.fuse(members, tmp_path / "sum", (1, 2, 5), seed=3)
    settings = RankSettings(**FAST, labels="hold-out")
    silent = graphrec.progress.SILENT
    _, alone, keys = zip(*(held_out(run, board, "hold-out", settings, silent) for run in members), strict=True)
    shutil.rmtree(tmp_path / "lightgcn")  # a sum knows by itself how its members came about
    view, again, sum_keys = held_out(Run.load(fused.folder), board, "hold-out", settings, silent)
    assert np.array_equal(sum_keys, keys[0])
    users, expected = np.arange(NUM_USERS), ScoreSum.of(alone, fused.model.settings.weights, seed=3)
    for member, other, before in zip(again.members, alone, members, strict=True):
        assert len(member.catalogue.seen_indices) == len(view.catalogue().seen_indices) == 600
        assert torch.equal(member.score(users), other.score(users)) and not torch.equal(member.score(users), before.model.score(users))
    assert torch.equal(again.score(users), expected.score(users))
    run = train_ranker(fused.folder, tmp_path / "run", settings)
    assert torch.equal(run.model.retrieval.score(users), fused.model.score(users)) and run.model.learned_splits == ()
    assert recall(run, board) > 0.85


def test_a_sum_retrieves_as_it_is_for_valid_labels_and_its_chosen_weights_are_told_of(board, popular, tmp_path):
    members = [popular, train(board, "item-knn", tmp_path / "knn")]
    fused = graphrec.fuse(members, tmp_path / "sum", "valid", metric="ndcg@5")
    assert held_out(fused, board, "valid", RankSettings(**FAST), graphrec.progress.SILENT)[1] is fused.model
    for labels in ("valid", "hold-out"):
        run = train_ranker(fused, tmp_path / labels, {**FAST, "epochs": 1, "labels": labels})
        assert Run.load(run.folder).model.learned_splits == ("valid",)


def test_a_sum_that_does_not_say_how_its_members_were_trained_retrieves_for_valid_labels_alone(popular, board, tmp_path):
    fused = graphrec.fuse([popular, train(board, "item-knn", tmp_path / "knn")], tmp_path / "sum")
    config = json.loads((fused.folder / "config.json").read_text())
    del config["train"]["members"]  # as an earlier graphrec wrote it
    (fused.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="does not say how its members were trained.*make it again with graphrec fuse"):
        train_ranker(fused.folder, tmp_path / "run", {**FAST, "labels": "hold-out"})
    assert not (tmp_path / "run").exists()
    assert train_ranker(fused.folder, tmp_path / "run", {**FAST, "epochs": 1}).model.retrieval.name == "sum"


def test_labels_that_the_retrieval_has_learned_from_are_not_taken_unasked(popular, tmp_path):
    told = popular.config.model_copy(update={"learned": ["valid", "test"]})
    seen, said = dataclasses.replace(popular, config=told), {}
    for labels in ("auto", "valid", "hold-out"):
        notes = Notes()
        run = train_ranker(seen, tmp_path / labels, {**FAST, "epochs": 1, "labels": labels}, progress=notes)
        said[labels] = [line for line in notes.lines if "has learned from valid interactions" in line]
        assert run.model.settings.labels == ("valid" if labels == "valid" else "hold-out")
        assert Run.load(run.folder).config.learned == ["valid", "test"]
    assert "so the second stage learns from a part of train" in said["auto"][0] and len(said["auto"]) == 1
    assert said["valid"][0].startswith("warning: ") and len(said["valid"]) == 1 and not said["hold-out"]
    assert graphrec.evaluate(run, k=5, metrics="recall", bootstrap=0).learned
    assert not graphrec.evaluate(train_ranker(popular, tmp_path / "run", {**FAST, "epochs": 1}), k=5, metrics="recall", bootstrap=0).learned


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(popular, tmp_path):
    states = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(hash(name) % 1000)  # what the caller's stream does must not matter
        states.append(train_ranker(popular, tmp_path / name, {**FAST, "epochs": 3, "seed": seed}).model._state())
    assert states[0].keys() == states[1].keys() == states[2].keys()
    for key, value in states[0].items():
        np.testing.assert_array_equal(value, states[1][key], err_msg=key)
    assert any(not np.array_equal(value, states[2][key]) for key, value in states[0].items())


def test_training_leaves_the_callers_random_stream_alone(popular, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train_ranker(popular, tmp_path / "run", {**FAST, "epochs": 2})
    assert torch.equal(torch.rand(3), expected)


def test_the_best_epoch_is_kept_and_training_stops_early(popular, tmp_path):
    run = train_ranker(popular, tmp_path / "run", {**FAST, "epochs": 40, "patience": 3})
    values = [record["valid"]["ndcg@10"] for record in run.metrics()]
    assert len(values) < 40 and len(values) - 1 - int(np.argmax(values)) == 3
    assert run.summary()["best_epoch"] == int(np.argmax(values))  # the first value is that of the retrieval alone
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["name"] == "two-stage" and config["train"]["loss"] == "lambdarank"
    assert config["model"]["settings"]["retrieval"]["name"] == "popularity"


def test_where_the_retrieval_is_best_its_order_is_kept(board, tmp_path):
    oracle = train(board, "graph-filter", tmp_path / "filter")
    run = train_ranker(oracle, tmp_path / "run", {**FAST, "epochs": 2, "learning_rate": 1e-12, "weight_decay": 0.0})
    assert run.summary()["best_epoch"] == 0
    found = run.model.candidates(np.arange(NUM_USERS))
    order = run.model.score(np.arange(NUM_USERS)).gather(1, torch.from_numpy(found.items))
    assert bool((order.diff(dim=1)[torch.from_numpy(found.known[:, 1:])] <= 1e-6).all())


def test_lists_hold_unseen_candidates_and_the_labels_of_their_user(board, popular):
    settings = RankSettings(**FAST)
    view, model, keys = held_out(popular, board, "valid", settings, graphrec.progress.SILENT)
    stages = graphrec.models.ranker.TwoStage(retrieval={"name": "popularity", "settings": {}}, candidates=20)
    stages.assemble(model, features_of(view), view.catalogue())
    lists = make_lists(stages, keys, settings, graphrec.progress.SILENT)
    seen = board.train_matrix().toarray() > 0
    assert lists.items.shape[1] == 20 and (lists.known.sum(1) == 18).all()  # 12 of 30 are seen
    assert not seen[lists.users[:, None], lists.items][lists.known].any()
    assert (lists.labels.sum(1) == 2).all() and (lists.relevant == 2).all() and len(lists.users) == NUM_USERS
    held = board.interactions("valid")
    expected = set(zip(held.user.tolist(), held.item.tolist(), strict=True))
    found = {
        (int(lists.users[row]), int(lists.items[row, place]))
        for row, place in zip(*lists.labels.nonzero(), strict=True)
    }
    assert found == expected
    few = make_lists(stages, keys, RankSettings(**FAST, max_lists=7), graphrec.progress.SILENT)
    assert len(few.users) == 7


def test_mistakes_are_refused_and_leave_no_folder(board, popular, tmp_path):
    other = make_board(tmp_path / "other", shift=1)
    unsplit = make_board(tmp_path / "unsplit", valid=0)
    bare = train(unsplit, "popularity", tmp_path / "bare")
    for error, message, retrieval, settings, store in (
        (ConfigError, "did you mean 'lambdarank'", popular, {"loss": "lambdrank"}, None),
        (ConfigError, "40 are more than the 30 items", popular, {"candidates": 40}, None),
        (ConfigError, "give ndcg@k", popular, {"metric": "recall@10"}, None),
        (ConfigError, "candidate: unknown key", popular, {"candidate": 4}, None),
        (RunError, "training data differ", popular, FAST, other),
        (StoreError, "no held-out interactions in a valid split", bare, {**FAST, "labels": "valid"}, None),
        (RunError, "holds no run", tmp_path / "nowhere", FAST, None),
        (StoreError, r"two; raise \[rank\] candidates", popular, {**FAST, "candidates": 2, "max_lists": 2}, None),
    ):
        with pytest.raises(error, match=message):
            train_ranker(retrieval, tmp_path / "run", settings, store=store)
        assert not (tmp_path / "run").exists(), message
    with pytest.raises(ConfigError, match="a folder of its own"):
        train_ranker(popular, popular.folder, FAST, overwrite=True)
    done = train_ranker(popular, tmp_path / "run", {**FAST, "epochs": 1})
    with pytest.raises(RunError, match="already holds a run"):
        train_ranker(popular, tmp_path / "run", FAST)
    with pytest.raises(ConfigError, match="already has two stages"):
        train_ranker(done, tmp_path / "third", FAST)
    assert train_ranker(popular, tmp_path / "run", {**FAST, "epochs": 2}, overwrite=True).summary()["epochs"] == 2


def test_the_default_number_of_candidates_is_bounded_by_the_catalogue(popular, tmp_path):
    quick = {**FAST, "epochs": 1}
    del quick["candidates"]
    run = train_ranker(popular, tmp_path / "run", quick)
    assert run.config.train["candidates"] == run.model.settings.candidates == NUM_ITEMS
    assert (run.model.candidates(np.arange(2)).known.sum(1) == NUM_ITEMS - 12).all()  # 10 of their colour and 2 others are seen


def test_a_log_of_one_item_a_user_has_nothing_to_hold_out(tmp_path):
    events = pl.DataFrame({"user_id": range(8), "item_id": range(8), "behavior": "interaction",
                           "timestamp": pl.Series([None] * 8, dtype=pl.Datetime("us", "UTC")),
                           "weight": pl.Series([1.0] * 8, dtype=pl.Float32), "split": ["train"] * 8})  # fmt: skip
    store = build(InteractionLog(events.lazy()), tmp_path / "store", split="given")
    run = train(store, "popularity", tmp_path / "popularity")
    assert resolve_labels(store, RankSettings(candidates=5), run, graphrec.progress.SILENT) == "hold-out"
    with pytest.raises(StoreError, match="no held-out interactions to learn from"):
        train_ranker(run, tmp_path / "run", {"candidates": 5})


def test_the_network_may_read_the_retrievals_vectors(board, popular, tmp_path):
    retrieval = train(board, "bpr-mf", tmp_path / "mf", {"epochs": 2, "batch_size": 64}, model_settings={"embedding_dim": 4})
    with_vectors = {**FAST, "epochs": 3, "labels": "valid", "vectors": True}
    plain = train_ranker(retrieval, tmp_path / "plain", {**with_vectors, "vectors": False}).model
    run = train_ranker(retrieval, tmp_path / "run", with_vectors)
    sizes = [[part.shape[1] for part in model.network.parts] for model in (plain, run.model)]
    assert [more - few for few, more in zip(*sizes, strict=True)] == [4, 4, 4]
    users, items = np.array([3, 0]), np.array([[5, 1, 2], [9, 9, 4]])
    seen = []
    run.model.network.register_forward_pre_hook(lambda _, given: seen.append(given))
    run.model.network_scores(users, items, np.zeros((2, 3, sizes[0][2]), np.float32))
    unit = {side: table / np.linalg.norm(table, axis=1, keepdims=True) for side, table in retrieval.model.embeddings().items()}
    of_user, of_item = 2 * unit["user"][users], 2 * unit["item"][items]  # times the root of the length
    for given, expected in zip(seen[0], (of_user, of_item, of_user[:, None] * of_item), strict=True):
        np.testing.assert_allclose(given[..., -4:].detach(), expected, rtol=1e-5)
    again = graphrec.load(run.folder).model
    assert torch.equal(again.score(np.arange(5)), run.model.score(np.arange(5)))
    with pytest.raises(ConfigError, match=r'rank vectors: .* hold-out.* \[rank\] labels = "valid"'):
        train_ranker(retrieval, tmp_path / "none", {**with_vectors, "labels": "hold-out"})
    with pytest.raises(ConfigError, match="popularity has no vectors of users and items"):
        train_ranker(popular, tmp_path / "none", with_vectors)
