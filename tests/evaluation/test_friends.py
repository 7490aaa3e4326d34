"""Friends: ranked by common taste, links held out in pairs, measured on what was held out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import graphrec
from graphrec.cli import app
from graphrec.errors import ConfigError, RunError, StoreError, UnknownIdError, UnsupportedError
from graphrec.evaluation.friends import evaluate_friends
from graphrec.graph.build import build
from graphrec.graph.held_links import hold_out_links
from graphrec.logs.table import InteractionLog
from graphrec.models.friends import known_links, rank_friends
from tests.models.conftest import NUM_USERS, checkerboard, make_store, named
from tests.notes import Notes


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """The checkerboard whose users follow the two nearest of their colour, a quarter of the pairs held out, and a run."""
    folder = tmp_path_factory.mktemp("friends")
    every = [(f"u{u:03d}", f"u{(u + step) % NUM_USERS:03d}") for u in range(NUM_USERS) for step in (-2, 2)]
    links = pl.DataFrame(every, schema=["src", "dst"], orient="row").with_columns(weight=pl.lit(1.0, pl.Float32))
    kept, held = hold_out_links(links, 0.25, seed=1)
    train, test = checkerboard()
    store = make_store(folder / "store", named(train), named(test), links=kept.select("src", "dst").rows())
    settings = {"epochs": 20, "batch_size": 64, "learning_rate": 0.05}
    return store, kept, held, graphrec.train(store, "social-lightgcn", folder / "run", settings)


def test_a_pair_of_users_is_held_out_with_both_directions(setting):
    _, kept, held, _ = setting
    assert len(kept) == 60 and len(held) == 20
    pairs = [set(map(frozenset, side.select("src", "dst").rows())) for side in (kept, held)]
    assert not pairs[0] & pairs[1]
    with pytest.raises(StoreError, match="leaves one side empty"):
        hold_out_links(held, 0.0)


def test_friends_share_the_colour_and_are_never_oneself_or_known(setting):
    _, kept, _, run = setting
    users = [f"u{u:03d}" for u in range(NUM_USERS)]
    listed = graphrec.recommend_friends(run, users, 5)
    assert listed.columns == ["user_id", "rank", "friend_id", "score"] and len(listed) == 5 * NUM_USERS
    pairs = listed.select("user_id", "friend_id").rows()
    known = set(kept.select("src", "dst").rows())
    assert not any(left == right or (left, right) in known or (right, left) in known for left, right in pairs)
    assert np.mean([int(left[1:]) % 2 == int(right[1:]) % 2 for left, right in pairs]) > 0.95
    whole = graphrec.recommend_friends(run, "u004", NUM_USERS - 1, exclude_known=False)
    assert sorted(whole["friend_id"]) == sorted(set(users) - {"u004"})
    assert graphrec.recommend_friends(run.folder, "u004", 3).equals(graphrec.recommend_friends(run, "u004", 3))


def test_held_out_links_are_found_better_than_by_chance_and_counted_by_hand(setting):
    store, _, held, run = setting
    found = evaluate_friends(run.model, store, held, k=10)
    assert found["recall@10"] > 0.4  # 19 of 39 others share the colour: half of them by taste alone, a quarter by chance
    assert found["links"] == 20 and found["unknown_links"] == 0
    strange = pl.concat([held, pl.DataFrame({"src": ["u000"], "dst": ["ghost"], "weight": [1.0]}, schema=held.schema)])
    assert evaluate_friends(run.model, store, strange, k=10) == {**found, "unknown_links": 1}
    ids, (indptr, indices) = store.ids("user"), known_links(store)
    lists, _ = rank_friends(run.model, np.arange(NUM_USERS), 10, (indptr, indices))
    recalls = []
    for user in range(NUM_USERS):
        name = ids.ids_of([user])[0]
        truth = {right if left == name else left for left, right, _ in held.rows() if name in (left, right)}
        if truth:
            recalls.append(len(truth & set(ids.ids_of(lists[user]))) / len(truth))
    assert found["recall@10"] == pytest.approx(np.mean(recalls)) and found["users"] == len(recalls)
    with pytest.raises(StoreError, match="none of the 1 held-out links"):
        evaluate_friends(run.model, store, strange[-1:], k=10)


def test_what_cannot_be_answered_is_refused(setting, tmp_path):
    store, _, _, run = setting
    with pytest.raises(UnknownIdError, match="u0044"):
        graphrec.recommend_friends(run, "u0044")
    with pytest.raises(ConfigError, match=r"k must lie in 1\.\.39.*got 40"):
        graphrec.recommend_friends(run, "u004", 40)
    with pytest.raises(RunError, match="does not know who is linked; give store"):
        graphrec.recommend_friends(run.model, "u004")
    popularity = graphrec.models.create("popularity").fit(store)
    with pytest.raises(UnsupportedError, match="popularity has no vectors of users"):
        graphrec.recommend_friends(popularity, "u004", store=store)
    plain = make_store(tmp_path / "plain", *map(named, checkerboard()))
    with pytest.raises(ConfigError, match="friend recommendation needs the relation 'follows'"):
        graphrec.recommend_friends(run.model, "u004", store=plain)


def test_a_store_keeps_the_links_that_its_build_held_out(setting, tmp_path):
    _, kept, held, _ = setting
    links = pl.concat([kept, held, pl.DataFrame({"src": ["u000"], "dst": ["ghost"], "weight": [1.0]}, schema=held.schema)])
    events = make_events()
    log = InteractionLog(events, social=links)
    store = build(log, tmp_path / "store", split="given", hold_out_links=0.25)
    found = store.held_out_links()
    graph = store.graph()
    ends = [store.ids("user").gather(end.numpy().astype(np.int64)).to_list() for end in graph.edges(etype="follows")]
    train, out = set(zip(*ends, strict=True)), set(found.select("src", "dst").rows())
    assert len(found) == 20 and len(train) == 60 and not train & (out | {pair[::-1] for pair in out})
    assert train | out == set(links[:-1].select("src", "dst").rows())
    assert store.manifest.side_rejected == {"social: user not in training": 1}
    again = build(log, tmp_path / "again", split="given", hold_out_links=0.25).held_out_links()
    other = build(log, tmp_path / "other", split={"method": "given", "seed": 1}, hold_out_links=0.25).held_out_links()
    assert again.equals(found) and not other.equals(found)
    whole = build(log, tmp_path / "whole", split="given")
    assert whole.held_out_links() is None and whole.graph().num_edges("follows") == 80
    with pytest.raises(StoreError, match="hold_out_links = 0.25 holds out links between users, and the log has none"):
        build(InteractionLog(events), tmp_path / "none", split="given", hold_out_links=0.25)


def test_only_a_model_of_the_same_store_is_measured(setting, tmp_path):
    store, kept, held, run = setting
    assert evaluate_friends(run, held_out=held, k=[5, 10]) == {
        **evaluate_friends(run.model, store, held, k=5),
        **evaluate_friends(run.folder, store.folder, held, k=10),
    }
    assert not (run.folder / "friends.json").exists()  # not the store's own links
    with pytest.raises(StoreError, match="has no held-out links to find again"):
        evaluate_friends(run)
    with pytest.raises(ConfigError, match="a model alone does not know its store"):
        evaluate_friends(run.model)
    with pytest.raises(ConfigError, match=r"k must be a list length of at least 1, or several, got \[0, 5\]"):
        evaluate_friends(run, held_out=held, k=[0, 5])
    links = pl.concat([kept, held])
    other = build(InteractionLog(make_events(), social=links), tmp_path / "store", split="given", hold_out_links=0.25)
    with pytest.raises(RunError, match="or with other links held out.*train again on that store"):
        evaluate_friends(run, other)


def test_a_run_that_is_replaced_while_friends_are_ranked_keeps_no_result(tmp_path, monkeypatch):
    every = [(f"u{u:03d}", f"u{(u + step) % NUM_USERS:03d}") for u in range(NUM_USERS) for step in (-2, 2)]
    links = pl.DataFrame(every, schema=["src", "dst"], orient="row").with_columns(weight=pl.lit(1.0, pl.Float32))
    store = build(InteractionLog(make_events(), social=links), tmp_path / "store", split="given", hold_out_links=0.25)
    run, notes = graphrec.train(store, "graph-filter", tmp_path / "run"), Notes()
    assert evaluate_friends(run, progress=notes) and not notes.lines
    assert (run.folder / "friends.json").exists()

    def late(*arguments):
        graphrec.train(store, "bpr-mf", run.folder, {"epochs": 1, "batch_size": 64}, overwrite=True)
        return rank_friends(*arguments)

    monkeypatch.setattr("graphrec.evaluation.friends.rank_friends", late)
    evaluate_friends(run, progress=notes)
    assert "was replaced meanwhile" in notes.lines[0] and len(notes.lines) == 1 and not (run.folder / "friends.json").exists()
    for quiet in ([], ["--quiet"]):  # then there are no notes, and the result says it
        done = CliRunner().invoke(app, ["evaluate", str(run.folder), "--friends", *quiet])
        assert done.output.count(f"the run in {run.folder} was replaced meanwhile") == 1 and done.exit_code == 0, done.output
        assert ("not kept" in done.stdout) == bool(quiet)
    monkeypatch.undo()
    monkeypatch.setattr("graphrec.atomic.os.access", lambda *_: False)
    evaluate_friends(run.folder, progress=notes)
    assert "cannot be written" in notes.lines[1] and not (run.folder / "friends.json").exists()


def make_events() -> pl.LazyFrame:
    rows = [(u, i, side) for part, side in zip(map(named, checkerboard()), ("train", "test"), strict=True) for u, i in part]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row").with_columns(
        behavior=pl.lit("interaction"), timestamp=pl.lit(None, pl.Datetime("us", "UTC")), weight=pl.lit(1.0, pl.Float32)
    )
    return events.lazy()
