"""What the base class does for every model: resolving settings, listing, saving and refusing damaged folders."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from graphrec.errors import ConfigError, RunError
from graphrec.models import base, create, load_model
from graphrec.models.base import Recommender
from graphrec.models.graph_filter import GraphFilterSettings
from graphrec.models.knn import ItemKNN
from graphrec.models.popularity import Popularity


@pytest.fixture
def saved(board, fitted, tmp_path):
    fitted("item-knn", board).save(tmp_path / "model")
    return tmp_path / "model"


def test_settings_come_as_object_mapping_or_overrides():
    chosen = GraphFilterSettings(rank=7)
    assert create("graph-filter", chosen).settings == chosen
    assert create("graph-filter", {"rank": 7}).settings == chosen
    assert create("graph-filter", {"rank": 3}, rank=7).settings == chosen
    with pytest.raises(ConfigError, match=r"unknown model 'graf-filter'; .*did you mean 'graph-filter'"):
        create("graf-filter")


def test_one_id_counts_as_a_list_of_one(board, fitted):
    model = fitted("item-knn", board)
    assert model.recommend("u003", 4).equals(model.recommend(["u003"], 4))
    assert model.similar(1007, 4).equals(model.similar([1007], 4))


def test_users_may_come_in_any_form_order_and_number(board, fitted, monkeypatch):
    model = fitted("item-knn", board)
    users = np.array(["u009", "u001", "u009"], dtype=object)
    listed = model.recommend(users, 2)
    assert listed["user_id"].to_list() == ["u009"] * 2 + ["u001"] * 2 + ["u009"] * 2
    monkeypatch.setattr(base, "_BLOCK_SCORES", 1)  # one user at a time
    assert model.recommend(users, 2).equals(listed)


@pytest.mark.parametrize("users", [[True, False], [2.9], ["u001"]])
def test_indices_of_users_are_integers(board, fitted, users):
    with pytest.raises(TypeError, match=rf"user indices must be integers, got {np.asarray(users).dtype}; recommend takes original ids"):
        fitted("item-knn", board).score(np.array(users))
    assert fitted("item-knn", board).score([]).shape == (0, 30)


def test_no_users_give_an_empty_frame_of_the_same_columns(board, fitted):
    model = fitted("item-knn", board)
    assert model.recommend([], 3).schema == model.recommend(["u001"], 3).schema
    assert model.recommend([], 3).is_empty()


def test_saving_twice_needs_overwrite(board, fitted, saved):
    model = fitted("popularity", board)
    with pytest.raises(RunError, match="already exists"):
        model.save(saved)
    model.save(saved, overwrite=True)
    assert load_model(saved).name == "popularity"


def test_loading_through_the_wrong_class_is_refused(saved):
    assert isinstance(ItemKNN.load(saved), ItemKNN)
    assert isinstance(Recommender.load(saved), ItemKNN)
    with pytest.raises(RunError, match="holds a item-knn model, not popularity"):
        Popularity.load(saved)


def test_truncated_edited_and_missing_files_are_refused(saved, tmp_path):
    files = [path.relative_to(saved) for path in saved.rglob("*") if path.is_file() and path.name != "model.json"]
    assert len(files) >= 4
    for number, file in enumerate(files):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(saved, copy)
        content = (copy / file).read_bytes()
        for damaged, message in (
            (content[:-1], f"holds {len(content) - 1} bytes, {len(content)} were written"),
            (content[:-1] + bytes([content[-1] ^ 1]), "was changed after it was written"),
        ):
            (copy / file).write_bytes(damaged)
            with pytest.raises(RunError, match=f"{re.escape(str(file))}.*{message}"):
                load_model(copy)
        (copy / file).unlink()
        with pytest.raises(RunError, match=f"{re.escape(str(file))} is missing"):
            load_model(copy)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda header: header.update(schema_version=99), "schema version 99, this graphrec reads up to 1; upgrade"),
        (lambda header: header.update(name="no-such"), "unknown model 'no-such'"),
        (lambda header: header["settings"].update(neighbours=0), "neighbours"),
        (lambda header: header.pop("files"), r"damaged \(wrong: files\)"),
        (lambda header: header.pop("schema_version"), "damaged"),
    ],
)
def test_a_foreign_header_is_refused(saved, edit, message):
    header = json.loads((saved / "model.json").read_text())
    edit(header)
    (saved / "model.json").write_text(json.dumps(header))
    with pytest.raises(RunError, match=message):
        load_model(saved)


def test_weights_of_another_model_are_refused(board, fitted, saved, tmp_path):
    fitted("popularity", board).save(tmp_path / "other")
    header = json.loads((tmp_path / "other" / "model.json").read_text())
    header["name"] = "graph-filter"
    (tmp_path / "other" / "model.json").write_text(json.dumps(header))
    with pytest.raises(RunError, match="does not fit the model graph-filter"):
        load_model(tmp_path / "other")


def test_folders_without_a_model_are_refused(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds no model"):
        load_model(tmp_path / "empty")
    (saved / "model.json").write_text("{")
    with pytest.raises(RunError, match="model.json is damaged"):
        load_model(saved)


def test_a_failed_fit_leaves_no_model(board, monkeypatch):
    model = create("popularity").fit(board)
    monkeypatch.setattr(Popularity, "_fit", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(board)
    with pytest.raises(RunError, match="has not learned anything"):
        model.recommend(["u001"], 1)
