"""Links between users that weigh differently."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch

from graphrec.graph.store import GraphStore
from graphrec.models import create
from graphrec.nn.relations import Relations
from graphrec.progress import Reporter
from tests.models.conftest import NUM_USERS, is_trained, make_store

WEIGHING = ["social-lightgcn", "diffnet", "social-ease", "social-graph-filter"]
FIXED = {
    "social-ease": {"regularisation": 0.05, "social_share": 0.4},
    "social-graph-filter": {"cutoff": 0.05, "smooth_share": 0.4, "gain_exponent": 0.3, "sharpening": 0.5, "social_share": 0.4},
}
ALL_USERS = np.arange(NUM_USERS)


def linked(folder, weights: tuple[float, float, float, float]) -> GraphStore:
    """User 0 has one item and is linked with user 1, of even items, and user 2, of odd ones; so is everybody else.

    The first two weights are of the links to the users 1 and 2, the last two of the way back.
    """
    rng = np.random.default_rng(7)
    train = [(user, int(item)) for user in range(1, NUM_USERS) for item in rng.permutation(np.arange(1 - user % 2, 30, 2))[:9]]
    train.append((0, 30))
    links = [(0, 1, weights[0]), (0, 2, weights[1]), (1, 0, weights[2]), (2, 0, weights[3])]
    return make_store(folder, train, [(0, 2)], views=train, links=links)


def learned(name: str, store: GraphStore, progress: Reporter | None = None):
    """A closed-form model fitted, a trained one as it starts: then links alone make user 0 like a friend."""
    model = create(name, FIXED.get(name))
    if not is_trained(model):
        return model.fit(store, seed=0)
    model.prepare(store, seed=0, progress=progress or Reporter())
    model.finish()
    return model


def lead_of_the_first(model) -> float:
    """By how much user 0 is nearer to user 1 than to user 2: in vectors, else in the scores of their items."""
    if is_trained(model):
        user = torch.nn.functional.normalize(torch.from_numpy(model.embeddings()["user"]), dim=1)
        return float(user[0] @ user[1] - user[0] @ user[2])
    scores = model.score(np.array([0]))[0] / model.score(ALL_USERS).std()
    return float(scores[:30][::2].mean() - scores[:30][1::2].mean())


@pytest.mark.parametrize("name", WEIGHING)
def test_the_heavier_friend_counts_more(name, tmp_path):
    first = learned(name, linked(tmp_path / "first", (5.0, 0.5, 5.0, 0.5)))
    second = learned(name, linked(tmp_path / "second", (0.5, 5.0, 0.5, 5.0)))
    assert lead_of_the_first(first) > lead_of_the_first(second) + 0.1


@pytest.mark.parametrize("name", [*WEIGHING, "mhcn"])
def test_equal_weights_are_as_none(name, tmp_path):
    models = [learned(name, linked(tmp_path / str(weight), (weight,) * 4)) for weight in (1.0, 7.0)]
    assert torch.equal(*(model.score(ALL_USERS) for model in models))


def test_mhcn_says_that_it_counts_links_alike(tmp_path):
    notes = []
    reporter = Reporter()
    reporter.note = notes.append
    weighted = learned("mhcn", linked(tmp_path / "weighted", (5.0, 0.5, 5.0, 0.5)), reporter)
    assert any("links between users all count alike here: mhcn does not read their weights" in note for note in notes)
    plain = learned("mhcn", linked(tmp_path / "plain", (1.0,) * 4))
    assert torch.equal(weighted.score(ALL_USERS), plain.score(ALL_USERS))


def test_links_carry_their_weights_at_a_mean_of_one(tmp_path):
    relations = Relations.from_store(linked(tmp_path / "store", (4.0, 1.0, 2.0, 1.0)))
    relation = relations.edges["user", "follows", "user"]
    found = dict(zip(zip(relation.rows.tolist(), relation.indices.tolist(), strict=True), relation.weight.tolist(), strict=True))
    assert found == {(0, 1): 2.0, (0, 2): 0.5, (1, 0): 1.0, (2, 0): 0.5}
    messages = relations.messages(["follows"], "here")
    assert [one.weight.tolist() for one in messages] == [[2.0, 0.5, 1.0, 0.5], [1.0, 0.5, 2.0, 0.5]]


def test_links_that_weigh_less_than_nothing_are_set_aside(tmp_path):
    store = linked(tmp_path / "store", (float("nan"), -1.0, float("inf"), 2.0))
    rejected = pl.read_parquet(store.folder / "rejected.parquet")
    assert rejected["reason"].to_list() == ["link weight not finite or below 0"] * 3
    assert Relations.from_store(store).edges["user", "follows", "user"].num_edges == 1
