"""Users and items that training never saw: placed by what is known of them, without training."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch

from graphrec.errors import ConfigError, RunError, UnknownIdError, UnsupportedError
from graphrec.features.settings import FeaturesSettings
from graphrec.features.text_wordllama import WordLlamaEncoder
from graphrec.features.write import add_features
from graphrec.graph.sides import NEW_ITEMS
from graphrec.models import MODELS, create, load_model
from graphrec.models.base import Recommender
from graphrec.models.fold_in import FoldIn
from graphrec.models.popularity import Popularity
from graphrec.models.ridge import fit_ridge
from graphrec.retrieval.unseen import recommend_new_user, with_new_items
from graphrec.training.run import Run, load
from graphrec.training.train import train
from graphrec.tuning.fuse import fuse
from tests.features.conftest import shop
from tests.models.conftest import NUM_ITEMS, WITH_RESIDUAL
from tests.notes import Notes

SETTINGS = {"embedding_dim": 8, "num_layers": 1, "head": "cosine", "loss": {"name": "sampled-softmax"}}
TRAINING = {"epochs": 20, "batch_size": 64, "learning_rate": 0.02, "weight_decay": 0.0}
INPUTS = {
    "start": {"init": "features", "item": ["text"], "anchor": 0.01},
    "features": {"name": "features", "item": ["text", "image"], "fusion": "attention"},
    "own user text": {"name": "features", "item": ["text"], "user": ["likes"]},
    "id+features": {"name": "id+features", "item": ["text", "image"], "fusion": "concat"},
    "everything": {"name": "id+features", "item": ["text"], "user": ["likes"], "fusion": "gate", "tower": "linear"},
}

MEND = "; write the same features into it again, or train anew in another folder$"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unseen")
    made = shop(folder / "shop")
    texts = {"item": {"text": {"columns": ["text"]}}, "user": {"likes": {"columns": ["likes"]}}}
    add_features(made, FeaturesSettings.model_validate({**texts, "cache": str(folder / "cache")}))
    return made


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    made = {}

    def get(name: str):
        if name not in made:
            folder = tmp_path_factory.mktemp("runs")
            model = create("lightgcn", {**SETTINGS, "inputs": INPUTS[name]})
            made[name] = folder, train(store, model, folder / "run", TRAINING).model
            made[name][1].save(folder / "model")
        return made[name][0], load_model(made[name][0] / "model")  # a fresh copy: add_items changes a model

    return get


@pytest.mark.parametrize("name", INPUTS)
def test_a_new_item_goes_to_those_who_like_such_things(name, store, trained):
    folder, model = trained(name)
    before = model.score(np.arange(30))
    ids, _ = store.new_items()
    features = {each: store.feature(NEW_ITEMS, each)[0] for each in model.item_features}
    vectors = model.item_vectors(features)
    added = model.add_items(ids.series, features, store.titles(NEW_ITEMS))
    has_image = (
        "image" in model.item_features
    )  # the third item has no text; whether it has an image, its position decides
    assert added == np.isfinite(vectors).all(axis=1).sum() and added in ((2, 3) if has_image else (2,))
    after = model.score(np.arange(30))
    old = model.catalogue.items.index_of([f"i{item:02d}" for item in range(24)])
    assert torch.equal(after[:, old], before)
    cat, dog = model.catalogue.items.index_of(["new-cat", "new-dog"])
    difference = after[:, cat] - after[:, dog]
    assert float((difference[0::2] > 0).float().mean()) >= 0.8 and float((difference[1::2] < 0).float().mean()) >= 0.8
    assert float(difference[0::2].mean() - difference[1::2].mean()) > 0.4
    near = [int(item[1:]) for item in model.similar(["new-cat"], 5)["similar_item_id"] if item.startswith("i")]
    assert np.mean([item % 2 == 0 for item in near]) > 0.5
    assert "new-cat" in model.recommend(model.catalogue.users.ids_of(np.arange(0, 30, 2)), 4)["item_id"]
    model.save(folder / "larger", overwrite=True)
    assert torch.equal(load_model(folder / "larger").score(np.arange(30)), after)


def test_features_that_are_named_are_used_and_said(store, tmp_path):
    notes = Notes()
    model = create("lightgcn", {**SETTINGS, "inputs": INPUTS["start"]})
    model.prepare(store, progress=notes)
    assert any(
        note.startswith("item embeddings start from item.text (256 columns, 24 of 24 rows)") for note in notes.lines
    )
    other = create("lightgcn", {**SETTINGS, "inputs": {"init": "features", "item": ["image"]}})
    other.prepare(store)
    assert not torch.equal(model.network.inputs.item, other.network.inputs.item)
    plain = create("lightgcn", SETTINGS)
    plain.prepare(store, progress=notes)
    assert "the store's features item.image, item.text, user.likes are not used" in notes.lines[-1]
    run = train(store, model, tmp_path / "run", {**TRAINING, "epochs": 1})
    assert run.config.origins["item"].startswith("item.text") and run.config.origins["user"].startswith("the mean of")


@pytest.mark.parametrize(("inputs", "said"), [
    ({"name": "id", "item": ["text"]}, "features are named and would not be used: init is \"normal\""),
    ({"name": "id", "init": "features"}, "needs item = "),
    ({"name": "id", "anchor": 0.1}, "anchor holds to a start that means something"),
    ({"name": "features"}, r"some of items are needed, got none; name some .* graphrec graph info STORE lists .* graphrec features STORE"),
    ({"name": "id+features", "user": ["likes"]}, r"beside some of items, got user = \['likes'\] alone; name some of items, too"),
    ({"name": "features", "item": []}, "some of items are needed, got none"),
])  # fmt: skip
def test_inputs_that_would_ignore_something_are_refused(inputs, said):
    with pytest.raises(ConfigError, match=said):
        create("lightgcn", {"inputs": inputs})


def test_the_anchor_pulls_towards_the_start(store, tmp_path):
    drift = []
    for anchor in (0.0, 100.0):
        inputs = {"init": "features", "item": ["text"], "anchor": anchor}
        model = create("lightgcn", {**SETTINGS, "inputs": inputs})
        model.prepare(store)
        start = model.network.inputs.item.detach().clone()
        train(store, model, tmp_path / str(anchor), {**TRAINING, "epochs": 3})
        drift.append(float((model.network.inputs.item.detach() - start).square().sum()))
    assert drift[1] < 0.5 * drift[0]


def test_changed_features_stop_a_resumed_run(store, tmp_path):
    settings = {**TRAINING, "epochs": 1}
    train(store, create("lightgcn", {**SETTINGS, "inputs": INPUTS["start"]}), tmp_path / "run", settings)
    array, provenance = store.feature("item", "text")
    try:
        store.add_feature("item", "text", array[::-1].copy(), provenance)
        with pytest.raises(RunError, match=f"was trained from .* and the store now gives .*{MEND}"):
            train(store, None, tmp_path / "run", {"epochs": 2}, resume=True)
    finally:
        store.add_feature("item", "text", array, provenance)


@pytest.mark.parametrize(("name", "feature"), [("start", "item.text"), ("everything", "user.likes"), ("id+features", "item.image")])
def test_features_written_anew_after_the_training_place_nobody(name, feature, store, trained):
    folder, model = trained(name)
    run, (ntype, named) = Run.load(folder / "run"), feature.split(".")
    ask = {"item": lambda: with_new_items(run), "user": lambda: recommend_new_user(run, 4, text="whiskers catnip")}[ntype]
    array, provenance = store.feature(ntype, named)
    recommend_new_user(run, 4, text="whiskers catnip")
    try:
        store.add_feature(ntype, named, array[::-1].copy(), {**provenance, "texts_sha256": "others"})
        with pytest.raises(RunError, match=f"was trained from .* and the store now gives .*{feature}"):
            ask()
        with pytest.raises(RunError, match=MEND):
            recommend_new_user(run, 4, text="whiskers catnip")
        assert recommend_new_user(model, 4, text="whiskers catnip", store=store).height == 4, "a model alone knows no origins"
    finally:
        store.add_feature(ntype, named, array, provenance)
    ask()


def test_a_store_of_other_data_may_make_the_vectors(trained, tmp_path):
    folder, _ = trained("start")
    other = shop(tmp_path / "shop", seed=4)
    add_features(other, FeaturesSettings.model_validate({"item": {"text": {"columns": ["text"]}}, "cache": str(tmp_path)}))
    assert with_new_items(folder / "run", store=other)[1] == 2


def test_what_does_not_fit_is_refused(store, trained):
    _, model = trained("start")
    with pytest.raises(ConfigError, match="new items need the feature 'text'"):
        model.item_vectors({"other": np.zeros((1, 256), np.float32)})
    with pytest.raises(ConfigError, match="must be finite and have 256 columns"):
        model.item_vectors({"text": np.zeros((1, 3), np.float32)})
    with pytest.raises(ConfigError, match="1 of them known"):
        model.add_items(pl.Series(["i00"]), {"text": np.ones((1, 256), np.float32)})
    plain = create("lightgcn", SETTINGS)
    with pytest.raises(UnsupportedError, match="learned nothing from item features"):
        plain.item_vectors({})


CAN = [*MODELS, WITH_RESIDUAL]


@pytest.mark.parametrize("name", [name for name in CAN if name not in ("popularity", "kgcn")])
def test_a_few_events_place_a_new_user(name, board, fitted):
    model = fitted(name, board)
    items = model.catalogue.items.ids_of(np.arange(NUM_ITEMS))
    histories = [items[[0, 4, 8]], items[[1, 5, 9]]]
    listed = model.recommend_to_new(histories, 8)
    colours = model.catalogue.items.index_of(listed["item_id"]) % 2
    assert (colours.reshape(2, 8).mean(axis=1) == [0, 1]).all()
    assert not {*histories[0]} & {*listed.filter(pl.col("user_id") == 0)["item_id"]}
    single = torch.cat([model.fold_in([history]) for history in histories])
    torch.testing.assert_close(model.fold_in(histories), single, rtol=1e-4, atol=1e-5)


def test_kgcn_says_that_it_cannot_place_a_new_user(board, fitted):
    model = fitted("kgcn", board)
    with pytest.raises(UnsupportedError, match="kgcn cannot place a new user"):
        model.recommend_to_new([model.catalogue.items.ids_of(np.arange(3))], 8)


@pytest.mark.parametrize("name", ["graph-filter", "item-knn"])
def test_a_known_history_gives_the_known_scores(name, board, fitted):
    model = fitted(name, board)
    seen = model.catalogue.seen_matrix()
    histories = [model.catalogue.items.ids_of(seen[user].indices) for user in range(5)]
    torch.testing.assert_close(model.fold_in(histories), model.score(np.arange(5)), rtol=1e-4, atol=1e-5)


def test_fold_in_refuses_what_it_cannot_place(board, fitted):
    model = fitted("graph-filter", board)
    with pytest.raises(ConfigError, match="history 1 is empty"):
        model.fold_in([[1000], []])
    with pytest.raises(UnknownIdError, match="1001"):
        model.fold_in([[1001]])
    with pytest.raises(UnsupportedError, match="frozen cannot place a new user"):
        Frozen().fit(board).fold_in([[1000]])


class Frozen(Popularity):
    """A model that places nobody new."""

    name = "frozen"
    _fold_in = Recommender._fold_in


def test_fold_in_learns_the_map_from_means_to_users():
    rng = np.random.default_rng(0)
    item = rng.normal(size=(50, 4)).astype(np.float32)
    train_matrix = sp.random(400, 50, density=0.4, format="csr", random_state=1, dtype=np.float32)
    train_matrix.data[:] = 1
    means = train_matrix @ item / np.maximum(np.asarray(train_matrix.sum(1)), 1)
    user = (means @ rng.normal(size=(4, 3)) + 1).astype(np.float32)
    model, errors = FoldIn(user, item, train_matrix), {}
    for length in (1, 5, 10):
        chosen = np.array([rng.permutation(row.indices)[:length] for row in train_matrix[:100] if row.nnz >= length])
        rows = sp.csr_matrix(
            (np.ones(chosen.size, np.float32), chosen.ravel(), np.arange(0, chosen.size + 1, length)),
            shape=(len(chosen), 50),
        )
        errors[length] = float(np.mean((model.vectors(rows) - user[:100]) ** 2))
    assert errors[10] < 0.9 * errors[5] < 0.9 * errors[1]
    assert errors[1] < 1.02 * float(np.mean((user[:100] - user.mean(axis=0)) ** 2))  # no worse than the mean user


def test_ridge_finds_the_line_and_not_the_noise():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype(np.float32) * [1, 10, 0.1, 1, 0]
    y = x[:, :2] @ np.array([[2.0, 0], [0, -0.3]]) + 5
    ridge = fit_ridge(x.astype(np.float32), y.astype(np.float32))
    np.testing.assert_allclose(ridge.predict(x.astype(np.float32)), y, atol=0.01)
    noise = fit_ridge(x.astype(np.float32), rng.normal(size=(300, 2)).astype(np.float32))
    assert np.abs(noise.predict(x.astype(np.float32)) - noise.predict(x.astype(np.float32)).mean(0)).max() < 0.5


def test_new_users_by_history_friends_words_and_popularity(store, trained):
    folder, model = trained("features")
    run = folder / "run"
    cats = {f"i{item:02d}" for item in range(0, 24, 2)}
    for known, by in (
        ({"history": ["i00", "i02"]}, "history"),
        ({"friends": ["u00", "u02"]}, "friends"),
        ({"text": "a purring cat"}, "text"),
    ):
        listed = recommend_new_user(run, 4, **known)
        assert set(listed["item_id"]) <= cats and listed["by"].unique().to_list() == [by]
    assert not {"i00", "i02"} & set(recommend_new_user(run, 8, history=["i00", "i02"])["item_id"])
    popular = recommend_new_user(model, 24, fallback="popular")
    assert popular["by"][0] == "popular" and popular["score"].is_sorted(descending=True)
    anyone = recommend_new_user(Popularity().fit(store), 3, history=[store.ids("item").series[0]])
    assert anyone["by"][0] == "popular", "what does not look at the history does not say that it does"
    with pytest.raises(ConfigError, match="nothing is known of this user"):
        recommend_new_user(run, 4)
    with pytest.raises(ConfigError, match="a model alone does not know its graph store"):
        recommend_new_user(model, 4, text="cat")


@pytest.mark.parametrize("name", ["own user text", "everything"])
def test_words_of_a_user_are_read_as_the_texts_of_users_are(name, store, trained):
    folder, _ = trained(name)
    for text, first in (("whiskers catnip", 0), ("kennel leash", 1)):
        listed = recommend_new_user(folder / "run", 6, text=text)
        assert {int(item[1:]) % 2 for item in listed["item_id"]} == {first}


def test_the_map_from_texts_of_users_is_fitted_once_for_a_model(store, trained, monkeypatch):
    _, model = trained("own user text")
    fitted = []
    monkeypatch.setattr("graphrec.retrieval.unseen.fit_ridge", lambda *parts: fitted.append(parts) or fit_ridge(*parts))
    first, again = (recommend_new_user(model, 6, text="whiskers catnip", store=store) for _ in range(2))
    assert len(fitted) == 1 and first.equals(again)


def test_a_sum_adds_up_what_its_members_make_of_words(store, trained, tmp_path):
    folders, words = [trained(name)[0] / "run" for name in ("features", "everything")], "whiskers catnip"
    run = fuse(folders, tmp_path / "sum", (0.3, 0.7))
    total, *parts = (recommend_new_user(one, 24, text=words).sort("item_id")["score"].to_numpy() for one in (run, *folders))
    expected = sum(w * part / unit for w, part, unit in zip((0.3, 0.7), parts, run.model._spreads, strict=True))
    np.testing.assert_allclose(total, expected, rtol=1e-4, atol=1e-5)
    array, provenance = store.feature("user", "likes")
    try:
        store.add_feature("user", "likes", array[::-1].copy(), {**provenance, "texts_sha256": "others"})
        with pytest.raises(RunError, match=f"the store now gives user.likes .*{MEND}"):
            recommend_new_user(run, 4, text=words)
    finally:
        store.add_feature("user", "likes", array, provenance)
    plain = train(store, "graph-filter", tmp_path / "filter")
    with pytest.raises(UnsupportedError, match="this sum cannot place a user by words, .* to graph-filter among .* give a history"):
        recommend_new_user(fuse([folders[0], plain], tmp_path / "with-filter"), 4, text=words)
    counted = fuse([folders[0], plain], tmp_path / "without-filter", (1, 0))
    assert recommend_new_user(counted, 4, text=words)["item_id"].equals(recommend_new_user(folders[0], 4, text=words)["item_id"])


@pytest.mark.parametrize("given", [np.array, pl.Series, pd.Series, tuple, iter], ids=lambda given: f"{given.__module__}.{given.__name__}")
def test_ids_of_a_new_user_in_any_form(given, trained):
    _, model = trained("start")
    for name, ids in (("history", ["i00", "i02"]), ("friends", ["u00", "u02"])):
        assert recommend_new_user(model, 4, **{name: given(ids)}).equals(recommend_new_user(model, 4, **{name: ids}))
        assert recommend_new_user(model, 4, **{name: given([])}, fallback="popular")["by"][0] == "popular"


def test_a_text_where_a_list_of_ids_should_stand_is_refused(trained):
    folder, _ = trained("features")
    for known in ({"history": "i00"}, {"friends": "u00"}):
        with pytest.raises(ConfigError, match=r"must be a list of ids, got the text '.00'; give \['.00'\]"):
            recommend_new_user(folder / "run", 4, **known)


def test_a_table_says_nothing_of_pictures(store, trained, tmp_path):
    folder, _ = trained("id+features")  # of texts and pictures
    table = pl.DataFrame({"id": ["x1", "x2"], "text": ["a barking dog", None]})
    notes = Notes()
    _, added = with_new_items(folder / "run", table, progress=notes)
    assert added == 1 and "item.image is not made from text: it counts as missing" in " ".join(notes.lines)
    pictures = create("vbpr", {"modalities": ["image"], "embedding_dim": 8})
    run = train(store, pictures, tmp_path / "run", {**TRAINING, "epochs": 1})
    with pytest.raises(UnsupportedError, match="knows items by image, which are not made from text"):
        with_new_items(run, table)
    with pytest.raises(UnsupportedError, match="uses no features made from text, so words say nothing"):
        recommend_new_user(run, 4, text="a barking dog")


def test_a_table_of_another_kind_is_refused(trained):
    folder, _ = trained("start")
    with pytest.raises(TypeError, match="with_new_items: the table must be a Polars DataFrame, got DataFrame; try pl.from_pandas"):
        with_new_items(folder / "run", pd.DataFrame({"id": ["x1"], "text": ["a barking dog"]}))


def test_texts_of_new_items_are_encoded_once(trained, tmp_path, monkeypatch):
    folder, _ = trained("start")
    table = pl.DataFrame({"id": ["x1"], "text": ["a barking dog"]})
    asked = []
    encode = WordLlamaEncoder.encode
    monkeypatch.setattr(WordLlamaEncoder, "encode", lambda self, texts, task=None: asked.extend(texts) or encode(self, texts, task))
    for _ in range(2):
        with_new_items(folder / "run", table, cache=tmp_path / "cache")
    assert asked == ["a barking dog"]


def test_a_run_keeps_its_items_when_its_model_gets_new_ones(store, trained):
    folder, _ = trained("start")
    run = load(folder / "run")
    before = run.model.score(np.arange(30))
    for _ in range(2):  # the second call begins with the items of the run, too
        model, added = with_new_items(run)
        assert added == 2 and "new-cat" in model.catalogue.items
    assert "new-cat" not in run.model.catalogue.items and torch.equal(run.model.score(np.arange(30)), before)
    assert "new-cat" in model.similar(["new-dog"], 25)["similar_item_id"]
    given = load(folder / "run").model
    assert with_new_items(given, store=store)[0] is given and "new-cat" in given.catalogue.items


def test_new_items_from_the_store_and_from_a_table(trained):
    folder, _ = trained("start")
    model, added = with_new_items(folder / "run")
    assert added == 2 and "new-cat" in model.catalogue.items
    table = pl.DataFrame({"id": ["x1", "i00", "x2"], "text": ["a barking dog", "there already", None]})
    notes = Notes()
    model, added = with_new_items(folder / "run", table, progress=notes)
    assert added == 1 and "x1" in model.catalogue.items
    assert len([note for note in notes.lines if "already" in note or "left out" in note]) == 2
    dogs = model.score(np.array([1])), model.score(np.array([0]))
    index = model.catalogue.items.index_of(["x1"])[0]
    assert dogs[0][0, index] > dogs[1][0, index]
