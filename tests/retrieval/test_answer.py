"""Recommendations and similar items by original id."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from polars.testing import assert_frame_equal

from graphrec.errors import ConfigError, RunError, UnknownIdError, UnsupportedError
from graphrec.retrieval.answer import known_users, nothing_known, read_ids, recommend, recommend_all, similar


def test_recommend_gives_the_best_unseen_items_by_original_id(model):
    user = model.catalogue.users.series[2]
    frame = recommend(model, [user], k=39)
    scores = model.score(np.array([2]))[0].numpy()
    order = [item for item in np.argsort(-scores, kind="stable") if item != 2]  # user 2 has seen item 2
    assert frame["item_id"].to_list() == model.catalogue.items.ids_of(np.array(order)).tolist()
    assert frame["rank"].to_list() == list(range(1, 40))
    assert frame["title"][0] == f"Title {order[0]}"
    assert recommend(model, user, k=40, exclude_seen=False).height == 40


def test_ids_that_arrive_as_text_are_converted(factors):
    model = factors(text_ids=False)
    assert recommend(model, ["25"], k=3).equals(recommend(model, [25], k=3))
    assert similar(model, "15", k=3).equals(similar(model, 15, k=3))
    with pytest.raises(UnknownIdError, match="u25"):
        recommend(model, ["u25"])


def test_unknown_ids_and_lengths_are_named(model):
    with pytest.raises(UnknownIdError, match="user id .*99.* is not among the 6 known users"):
        recommend(model, ["99"])
    with pytest.raises(ConfigError, match=r"k must lie in 1\.\.40.*got 41"):
        recommend(model, [model.catalogue.users.series[0]], k=41)
    with pytest.raises(ConfigError, match="no user id is given"):
        recommend(model, [])
    with pytest.raises(ConfigError, match="no item id is given"):
        similar(model, [])


def test_similar_leaves_out_the_item_itself(model):
    item = model.catalogue.items.series[4]
    frame = similar(model, [item], k=39)
    assert item not in frame["similar_item_id"].to_list()
    unit = model.item / np.linalg.norm(model.item, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit[4]), kind="stable")[1:4]
    assert frame["similar_item_id"].to_list()[:3] == model.catalogue.items.ids_of(order).tolist()


def test_similar_of_a_model_without_similarity(popularity):
    with pytest.raises(UnsupportedError, match="popularity knows no similarity"):
        similar(popularity, ["i00001"])


def test_recommend_from_a_saved_model_folder(popularity, tmp_path):
    popularity.save(tmp_path / "model")
    frame = recommend(tmp_path / "model", ["u00000"], k=2)
    assert frame["item_id"].to_list() == ["i00039", "i00038"]


@pytest.fixture
def two_users_a_block(monkeypatch):
    monkeypatch.setattr("graphrec.evaluation.ranking._BLOCK_USERS", 2)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_recommend_all_streams_every_user(model, tmp_path, monkeypatch, two_users_a_block, fused, exclude_seen):
    monkeypatch.setattr(type(model), "scores_are_dot_products", fused)
    expected = recommend(model, model.catalogue.users.series.to_list(), k=5, exclude_seen=exclude_seen)
    asked, score = [], model._score
    monkeypatch.setattr(model, "_score", lambda users: (asked.append(len(users)), score(users))[1])
    rows = recommend_all(model, tmp_path / "all.parquet", k=5, exclude_seen=exclude_seen)
    frame = pl.read_parquet(tmp_path / "all.parquet")
    assert rows == frame.height == 30
    assert_frame_equal(frame, expected, rel_tol=1e-5)
    assert asked == ([6] if fused else [2, 2, 2])  # the fused kernel needs but the sample that checks the embeddings


def test_scores_that_embeddings_give_but_for_a_constant_are_those_of_the_model(model, tmp_path, monkeypatch):
    score = model._score
    monkeypatch.setattr(model, "_score", lambda users: score(users) + torch.from_numpy(users)[:, None])
    recommend_all(model, tmp_path / "all.parquet", k=5)
    assert pl.read_parquet(tmp_path / "all.parquet").equals(recommend(model, model.catalogue.users.series.to_list(), k=5))


def test_row_groups_hold_the_lists_of_several_blocks(model, tmp_path, monkeypatch, two_users_a_block):
    monkeypatch.setattr("graphrec.retrieval.answer._GROUP_ROWS", 12)
    recommend_all(model, tmp_path / "all.parquet", k=5)
    groups = pq.ParquetFile(tmp_path / "all.parquet").metadata
    assert [groups.row_group(at).num_rows for at in range(groups.num_row_groups)] == [20, 10]


@pytest.mark.parametrize("group_rows", [1, 500_000])  # with a group written already, and with none
def test_an_interrupted_recommend_all_leaves_nothing(model, tmp_path, monkeypatch, two_users_a_block, group_rows):
    monkeypatch.setattr("graphrec.retrieval.answer._GROUP_ROWS", group_rows)
    monkeypatch.setattr(type(model), "scores_are_dot_products", False)
    score = model._score

    def interrupted(users):
        if users[0] > 0:
            raise KeyboardInterrupt
        return score(users)

    monkeypatch.setattr(model, "_score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        recommend_all(model, tmp_path / "all.parquet", k=5)
    assert not list(tmp_path.iterdir())


def test_recommend_all_keeps_what_is_there(model, tmp_path):
    target = tmp_path / "all.parquet"
    target.write_text("precious")
    with pytest.raises(RunError, match="already exists"):
        recommend_all(model, target, k=5)
    with pytest.raises(ConfigError, match="k must lie in"):
        recommend_all(model, target, k=500, overwrite=True)
    assert target.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]
    recommend_all(model, target, k=5, overwrite=True)
    assert pl.read_parquet(target).height == 30


def test_recommend_all_refuses_a_folder_and_the_name_of_another_format(model, tmp_path):
    with pytest.raises(RunError, match="is a folder; give the name of a file"):
        recommend_all(model, tmp_path, k=5, overwrite=True)
    with pytest.raises(ConfigError, match=r"names another format; call it lists\.parquet"):
        recommend_all(model, tmp_path / "lists.csv", k=5)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(RunError, match="no run folder .*nowhere"):
        recommend(tmp_path / "nowhere", ["u1"])


@pytest.fixture
def half_known(factors):
    """Users 1 and 4 have no training event; item 3 is the most popular, then 7."""
    model = factors()
    counts = np.zeros(40, np.int64)
    counts[[3, 7]] = 5, 4
    indptr, indices = np.array([0, 1, 1, 2, 3, 3, 4]), np.array([0, 2, 3, 5], np.int32)
    model.catalogue = replace(model.catalogue, seen_indptr=indptr, seen_indices=indices, item_counts=counts)
    return model


def test_users_nothing_known_get_what_is_popular_only_when_it_is_asked_for(half_known, popularity, tmp_path):
    ids = half_known.catalogue.users.series
    assert nothing_known(half_known) == (2, 6) and nothing_known(half_known, [ids[1], ids[2]]) == (1, 2)
    assert nothing_known(popularity)[0] == 0
    asked = [ids[4], ids[2], ids[1], ids[4]]
    plain = recommend(half_known, asked, k=2)
    assert "by" not in plain.columns
    frame = recommend(half_known, asked, k=2, fallback="popular")
    assert frame["user_id"].to_list() == [name for name in asked for _ in range(2)]
    assert frame["by"].to_list() == ["popular"] * 2 + ["model"] * 2 + ["popular"] * 4
    assert frame["rank"].to_list() == [1, 2] * 4
    assert frame.filter(by="popular").select("item_id", "score", "title").unique(maintain_order=True).rows() == [
        ("i00003", 5.0, "Title 3"), ("i00007", 4.0, "Title 7")
    ]  # fmt: skip
    assert_frame_equal(frame.filter(by="model").drop("by"), plain.filter(user_id=ids[2]))
    recommend_all(half_known, tmp_path / "all.parquet", 2, fallback="popular")
    whole = recommend(half_known, ids, k=2, fallback="popular")
    assert_frame_equal(pl.read_parquet(tmp_path / "all.parquet"), whole, rel_tol=1e-5)
    with pytest.raises(ConfigError, match="fallback: choose one of popular, got 'random'"):
        recommend(half_known, asked, fallback="random")


def test_lists_of_many_users_come_in_their_order(model, tmp_path, two_users_a_block):
    asked = model.catalogue.users.series.to_list()[::-2]
    assert recommend_all(model, tmp_path / "some.parquet", k=5, users=asked) == 15
    assert_frame_equal(pl.read_parquet(tmp_path / "some.parquet"), recommend(model, asked, k=5), rel_tol=1e-5)


def test_unknown_users_are_set_apart(model):
    ids = model.catalogue.users.series.to_list()
    assert known_users(model, ["u9", ids[1], "u8", ids[0]]) == ([ids[1], ids[0]], ["u9", "u8"])
    with pytest.raises(UnknownIdError, match="u9"):
        known_users(model, ["u9", "u8"])


def test_ids_of_a_file(tmp_path):
    (tmp_path / "ids.txt").write_text("\ufeffu1\r\n\n u2 \nu1\n", encoding="utf-8")
    assert read_ids(tmp_path / "ids.txt") == ["u1", "u2"]
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "ids.parquet").write_bytes(b"PAR1\xff\xfe")
    for name, message in (("empty.txt", "holds no id"), ("ids.parquet", "is not UTF-8"), ("nowhere", "cannot read .*nowhere")):
        with pytest.raises(ConfigError, match=message):
            read_ids(tmp_path / name)
