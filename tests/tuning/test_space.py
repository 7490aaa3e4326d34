"""What is searched: where it comes from, what wins, and how mistakes are named."""

from __future__ import annotations

import optuna
import pytest

from graphrec.errors import ConfigError
from graphrec.models import MODELS, create
from graphrec.registry import resolve
from graphrec.settings import parse
from graphrec.training.settings import TrainSettings
from graphrec.tuning.settings import TuneSettings
from graphrec.tuning.space import Space

NOTHING_TO_SEARCH = ("popularity",)


def space(model="lightgcn", entries=None, model_settings=None, train=None, defaults=True) -> Space:
    settings = parse(TuneSettings, {"space": entries or {}}, "tune")
    return Space(model, model_settings or {}, train or {}, settings.space, defaults)


def draws(where: Space, count: int = 20) -> list[tuple[dict, dict]]:
    """(params, tables) of some trials."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = []
    for _ in range(count):
        trial = study.ask()
        tables = where.draw(trial)
        found.append((dict(trial.params), tables))
    return found


@pytest.mark.parametrize("name", [name for name in MODELS if name not in NOTHING_TO_SEARCH])
def test_every_model_brings_a_space_whose_draws_it_takes(name):
    where = space(name)
    assert where.entries
    for params, tables in draws(where):
        create(name, tables["model"])
        parse(TrainSettings, tables["train"], "train")
        assert where.tables(params) == tables


@pytest.mark.parametrize("name", NOTHING_TO_SEARCH)
def test_a_model_without_settings_says_so(name):
    with pytest.raises(ConfigError, match="has nothing to search"):
        space(name)


def test_what_is_given_stays_unless_the_space_names_it():
    own = space().entries
    assert {"model.num_layers", "model.embedding_dim", "train.learning_rate", "model.loss.num_negatives"} <= set(own)
    fixed = space(model_settings={"num_layers": 2, "loss": {"num_negatives": 3}}, train={"learning_rate": 0.5})
    assert set(own) - set(fixed.entries) == {"model.num_layers", "train.learning_rate", "model.loss.num_negatives"}
    for _, tables in draws(fixed):
        assert (tables["model"]["num_layers"], tables["train"]["learning_rate"]) == (2, 0.5)
    named = space(entries={"model.num_layers": [1, 3]}, model_settings={"num_layers": 2})
    assert {tables["model"]["num_layers"] for _, tables in draws(named)} == {1, 3}


def test_false_and_defaults_leave_entries_out():
    assert "train.weight_decay" not in space(entries={"train.weight_decay": False}).entries
    assert set(space(entries={"train.epochs": [1, 2]}, defaults=False).entries) == {"train.epochs"}


def test_tables_may_be_nested_as_toml_nests_dotted_keys():
    nested = {
        "train": {"learning_rate": {"low": 0.1, "high": 1.0}, "epochs": [1, 2]},
        "model": {"loss": {"num_negatives": [1]}},
    }
    dotted = {"train.learning_rate": {"low": 0.1, "high": 1.0}, "train.epochs": [1, 2], "model.loss.num_negatives": [1]}
    assert space(entries=nested, defaults=False).to_dict() == space(entries=dotted, defaults=False).to_dict()


def test_a_part_is_exchanged_and_its_own_fields_are_drawn_only_with_it():
    where = space(entries={"model.loss": ["bpr", "sampled-softmax"]}, model_settings={"head": "cosine"})
    assert {"model.loss.temperature", "model.loss.num_negatives"} <= set(where.entries)
    seen = set()
    for params, tables in draws(where, 30):
        loss = tables["model"]["loss"]
        name = loss if isinstance(loss, str) else loss["name"]
        seen.add(name)
        assert ("model.loss.temperature" in params) == (name == "sampled-softmax")
        create("lightgcn", tables["model"])
    assert seen == {"bpr", "sampled-softmax"}


def test_a_chosen_part_keeps_the_settings_it_was_given():
    where = space(entries={"model.loss": ["bpr", "bce"]}, model_settings={"loss": {"name": "bpr", "num_negatives": 7}})
    losses = [tables["model"]["loss"] for _, tables in draws(where)]
    assert {"name": "bpr", "num_negatives": 7} in losses
    assert all(loss == "bce" or loss["name"] in ("bpr", "bce") for loss in losses)


def test_whole_ends_of_a_real_field_give_real_draws():
    where = space("graph-filter", {"model.user_exponent": {"low": 0, "high": 1}}, defaults=False)
    values = [tables["model"]["user_exponent"] for _, tables in draws(where)]
    assert any(0 < value < 1 for value in values)
    whole = space(entries={"model.num_layers": {"low": 1.0, "high": 3.0}}, defaults=False)
    assert {tables["model"]["num_layers"] for _, tables in draws(whole)} == {1, 2, 3}


def test_every_registered_search_names_fields_of_its_own():
    from graphrec.losses import LOSSES
    from graphrec.nn import ENCODERS, HEADS, INPUTS

    for table in (LOSSES, ENCODERS, HEADS, INPUTS):
        for name in table:
            settings = resolve("part", table, name).Settings
            assert set(settings.search) <= set(settings.model_fields), name


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"train.learning_rte": [0.1]}, "train.learning_rte: unknown field.*did you mean 'train.learning_rate'"),
        ({"model.num_layer": [1]}, "did you mean 'model.num_layers'"),
        ({"learning_rate": [1]}, "did you mean 'train.learning_rate'"),
        ({"model.loss.temperature": [0.1]}, "model.loss.temperature: unknown field"),
        ({"train.seed": [1, 2]}, "cannot be searched, for a lucky seed"),
        ({"model.num_layers": {"low": 0, "high": 2}}, "model.num_layers: 0 does not do: .*greater than or equal to 1"),
        ({"model.loss": ["bpr", "brp"]}, "did you mean 'bpr'"),
        ({"train.epochs": {"low": 3, "high": 2}}, "train.epochs: .*low < high"),
        ({"train.epochs": {"lo": 3, "high": 2}}, "lo: unknown key.*did you mean"),
        ({"train.epochs": {"low": 0, "high": 2, "log": True}}, "log needs low > 0"),
        ({"train.epochs": 3}, "give {low = .., high = ..}, a list of choices or false, got 3"),
    ],
)
def test_mistakes_are_named(entries, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        space(entries=entries)


def test_a_closed_form_model_has_no_training_to_search():
    with pytest.raises(ConfigError, match="fitted in closed form"):
        space("item-knn", {"train.learning_rate": {"low": 0.1, "high": 1.0}})
