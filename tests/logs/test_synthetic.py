"""The world generator: reproducible, true to its settings, and with a taste that can really be learned."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from polars.testing import assert_frame_equal

from graphrec.errors import ConfigError, DatasetError
from graphrec.logs import synthetic_events
from graphrec.logs.synthetic import make_world
from graphrec.logs.synthetic_settings import WorldSettings

DEMO = Path(__file__).parents[2] / "datasets" / "demo"
TABLES = ("events", "users", "items", "social", "triples", "media.image", "media.audio")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The world with the default settings: the demo log."""
    folder = tmp_path_factory.mktemp("worlds") / "default"
    make_world(folder)
    return folder


def read(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / f"{name}.parquet")


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_shipped_demo_is_what_the_generator_makes(world):
    assert json.loads((DEMO / "world.json").read_text()) == json.loads((world / "world.json").read_text())
    assert (DEMO / "README.md").read_text() == (world / "README.md").read_text()
    for name in TABLES:
        assert_frame_equal(read(DEMO, name), read(world, name), rel_tol=1e-4, abs_tol=1e-4)
    assert sum(len(content) for content in files(DEMO).values()) < 5_000_000


def test_same_seed_same_bytes_other_seed_other_events(tmp_path):
    small = {"num_events": 3000}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        make_world(tmp_path / name, WorldSettings(**small), seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert not read(tmp_path / "a", "events").equals(read(tmp_path / "c", "events"))


def test_events_are_as_many_as_asked_in_time_order_and_inside_the_period(world):
    events = read(world, "events")
    assert events.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "behavior": pl.String,
        "timestamp": pl.Datetime("us", "UTC"),
        "weight": pl.Float32,
    }
    assert len(events) == 120_000
    assert events["timestamp"].is_sorted()
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    assert events["timestamp"][0] >= start
    assert events["timestamp"][-1] < start + datetime.timedelta(days=182, hours=1)
    assert events.null_count().sum_horizontal().item() == 0


def test_every_cart_follows_a_view_and_every_purchase_a_cart(world):
    events = read(world, "events")
    counts = dict(events["behavior"].value_counts().iter_rows())
    assert counts["view"] > counts["cart"] > counts["purchase"] > 10_000
    firsts = events.group_by("user_id", "item_id", "behavior").agg(pl.col("timestamp").min(), pl.len())
    steps = firsts.pivot(on="behavior", index=["user_id", "item_id"], values=["timestamp", "len"])
    bought = steps.filter(pl.col("timestamp_purchase").is_not_null())
    assert (bought["timestamp_view"] < bought["timestamp_cart"]).all()
    assert (bought["timestamp_cart"] < bought["timestamp_purchase"]).all()
    assert (bought["len_view"] >= bought["len_cart"]).all() and (bought["len_cart"] >= bought["len_purchase"]).all()
    assert events.group_by("behavior").agg(pl.col("weight").unique()).explode("weight").sort("weight").rows() == [
        ("view", 1.0),
        ("cart", 2.0),
        ("purchase", 3.0),
    ]


def test_nobody_acts_before_joining_and_nothing_is_met_before_release(world):
    events, users, items = read(world, "events"), read(world, "users"), read(world, "items")
    seen = events.join(users, on="user_id").join(items, on="item_id")
    assert len(seen) == len(events)
    assert (seen["timestamp"] >= seen["joined"]).all()
    assert (seen["timestamp"].dt.date() >= seen["released"]).all()
    late = datetime.date(2024, 5, 25)
    assert 0.02 < (items["released"] > late).mean() < 0.15
    newcomers = users.filter(pl.col("joined").dt.date() > late)
    assert 0.02 < len(newcomers) / len(users) < 0.15
    cold = (
        newcomers.join(events, on="user_id", how="left").group_by("user_id").agg(pl.col("item_id").count())["item_id"]
    )
    assert cold.quantile(0.9) < 0.2 * len(events) / len(users)


def test_popularity_and_activity_are_skewed_and_evenings_busy(world):
    events = read(world, "events")
    for column in ("item_id", "user_id"):
        counts = events[column].value_counts(sort=True)["count"].to_numpy()
        assert counts[: len(counts) // 10].sum() > 0.3 * counts.sum()
    hours = np.bincount(events["timestamp"].dt.hour(), minlength=24)
    assert hours[20] > 3 * hours[4]
    weekdays = np.bincount(events["timestamp"].dt.weekday(), minlength=8)[1:]
    assert weekdays[5:].min() > 1.1 * weekdays[:5].max()


def matrices(folder: Path, behavior: str) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Users × items before and after the 80 % point in time, of first meetings only."""
    events = read(folder, "events").filter(pl.col("behavior") == behavior)
    events = events.unique(["user_id", "item_id"], keep="first", maintain_order=True)
    users, items = (events[name].rank("dense").to_numpy() - 1 for name in ("user_id", "item_id"))
    shape, cut = (users.max() + 1, items.max() + 1), int(0.8 * len(events))
    parts = [
        sp.csr_matrix((np.ones(len(users[rows])), (users[rows], items[rows])), shape=shape)
        for rows in (slice(None, cut), slice(cut, None))
    ]
    return parts[0], parts[1]


def recall(scores: np.ndarray, train: sp.csr_matrix, test: sp.csr_matrix, k: int = 20) -> float:
    scores = np.where(train.toarray() > 0, -np.inf, scores)
    top = np.argsort(-scores, axis=1)[:, :k]
    hits = np.take_along_axis(test.toarray(), top, axis=1).sum(axis=1)
    truth = np.diff(test.indptr)
    known = (truth > 0) & (np.diff(train.indptr) > 0)
    return float((hits[known] / truth[known]).mean())


@pytest.mark.parametrize("behavior", ["view", "purchase"])
def test_item_knn_beats_popularity_by_far(world, behavior):
    train, test = matrices(world, behavior)
    popularity = np.asarray(train.sum(axis=0)).ravel()
    scale = sp.diags(1 / np.sqrt(np.maximum(popularity, 1)))
    similarity = (scale @ train.T @ train @ scale).toarray()
    np.fill_diagonal(similarity, 0)
    knn = recall(train @ similarity, train, test)
    assert knn > 1.5 * recall(np.tile(popularity, (train.shape[0], 1)), train, test)
    assert knn > 0.1


def test_friends_share_tastes(world):
    train, _ = matrices(world, "view")
    events = read(world, "events").filter(pl.col("behavior") == "view")
    index = {user: number for number, user in enumerate(sorted(events["user_id"].unique()))}
    social = read(world, "social")
    assert (social["src"] != social["dst"]).all() and not social.is_duplicated().any()
    pairs = np.array([(index[a], index[b]) for a, b in social.rows() if a in index and b in index])
    norms = np.sqrt(np.maximum(np.asarray(train.multiply(train).sum(axis=1)).ravel(), 1))
    unit = sp.diags(1 / norms) @ train

    def likeness(left, right):
        return float(np.asarray(unit[left].multiply(unit[right]).sum(axis=1)).mean())

    strangers = np.random.default_rng(0).permutation(pairs[:, 1])
    assert likeness(pairs[:, 0], pairs[:, 1]) > 1.5 * likeness(pairs[:, 0], strangers)


def test_tastes_drift(tmp_path):
    """Without drift a user's creators of the first and last third agree more than with full drift."""

    def agreement(drift: float) -> float:
        folder = tmp_path / str(drift)
        make_world(folder, num_events=30_000, num_users=200, drift=drift, wander=0.0)
        events = read(folder, "events").join(read(folder, "items").select("item_id", "creator"), on="item_id")
        third = len(events) // 3
        first, last = (
            part.group_by("user_id").agg(pl.col("creator").unique()) for part in (events[:third], events[-third:])
        )
        both = first.join(last, on="user_id")
        shared = both.select(
            pl.col("creator").list.set_intersection("creator_right").list.len()
            / pl.min_horizontal(pl.col("creator").list.len(), pl.col("creator_right").list.len())
        )
        return float(shared.to_series().mean())

    assert agreement(0.0) > 1.1 * agreement(1.0)


def test_media_and_texts_carry_the_taste(world):
    """The nearest item by media vector, and items that share a theme, come from the same shelf far above chance."""
    items = read(world, "items")
    shelf = items["category"].to_numpy()
    chance = (shelf[:, None] == shelf[None, :]).mean()
    for name, width in (("image", 48), ("audio", 24)):
        media = read(world, f"media.{name}")
        vectors = np.stack(media["vector"].to_numpy()).astype(np.float32)
        assert media["item_id"].equals(items["item_id"]) and vectors.shape == (1500, width)
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        likeness = unit @ unit.T
        np.fill_diagonal(likeness, -1)
        assert (shelf[likeness.argmax(axis=1)] == shelf).mean() > 5 * chance
    assert items["title"].n_unique() > 1000
    jazz = items.filter(pl.col("category") == "Jazz")
    assert jazz["text"].str.contains("played by").all()
    assert (items["price"] > 0).all()


def test_triples_link_every_item(world):
    triples, items = read(world, "triples"), read(world, "items")
    made = triples.filter(pl.col("relation") == "created_by").select(
        item_id="head", creator=pl.col("tail").str.strip_prefix("creator:")
    )
    assert_frame_equal(made, items.select("item_id", "creator"))
    assert set(triples["relation"]) == {"in_category", "created_by", "made_by", "has_theme", "part_of", "known_for"}


def test_chunks_change_neither_number_nor_order(tmp_path, monkeypatch):
    """Dense enough that sessions run over the borders of the chunks."""
    monkeypatch.setattr(synthetic_events, "CHUNK_EVENTS", 500)
    make_world(tmp_path / "w", num_events=20_000, days=7)
    events = read(tmp_path / "w", "events")
    assert len(events) == 20_000 and events["timestamp"].is_sorted()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_events": -1}, "num_events"),
        ({"num_evnts": 1000}, "did you mean 'num_events'"),
        ({"wander": 1.5}, "wander"),
        ({"funnel": {"view": 0.5}}, "the first with the share 1.0"),
        ({"media": {"../x": 3}}, "plain words"),
        ({"num_events": 100, "num_items": 5}, "num_items"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_written(tmp_path, wrong, message):
    with pytest.raises(ConfigError, match=message):
        make_world(tmp_path / "w", **wrong)
    assert not (tmp_path / "w").exists()


def test_an_existing_folder_is_kept(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "mine.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DatasetError, match="exists"):
            make_world(tmp_path / "w", num_events=1000, overwrite=overwrite)
    assert (tmp_path / "w" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("smallest", [{"num_events": 100}, {"num_events": 1000, "days": 7, "friends": 0, "media": {}}])
def test_smallest_worlds(tmp_path, smallest):
    world = make_world(tmp_path / "w", **smallest)
    assert len(read(tmp_path / "w", "events")) == smallest["num_events"] == world["counts"]["events"]
    assert read(tmp_path / "w", "social").columns == ["src", "dst"]
