"""What is searched: where it comes from, what wins, and how mistakes are named."""

from __future__ import annotations

import optuna
import pytest

from graphrec.errors import ConfigError
from graphrec.models import MODELS, create
from graphrec.nn import ENCODERS
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
    with pytest.raises(ConfigError, match=f"^{name} has nothing to search; it has no settings, so choose another model$"):
        space(name)


def test_what_may_be_searched_is_named_where_nothing_is():
    with pytest.raises(ConfigError, match=r"^item-knn has nothing to search; name fields .*; item-knn knows model\.[^ ]+"):
        space("item-knn", defaults=False)


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
    from graphrec.losses import AUXILIARY, LOSSES
    from graphrec.nn import HEADS, INPUTS

    for table in (LOSSES, ENCODERS, HEADS, INPUTS, AUXILIARY):
        for name in table:
            settings = resolve("part", table, name).Settings
            beside = {"weight"} if table is AUXILIARY else set()
            assert set(settings.search) <= set(settings.model_fields) | beside, name
            assert table is not AUXILIARY or "weight" in settings.search, name


@pytest.mark.parametrize("name", [name for name in ENCODERS if resolve("encoder", ENCODERS, name).Settings.search])
def test_an_encoder_takes_the_draws_of_the_space_that_it_brings(name):
    where = space("composed", model_settings={"encoder": name})
    own = {key for key in where.entries if key.startswith("model.encoder.")}
    assert own
    for params, tables in draws(where, 8):
        assert own <= set(params) and tables["model"]["encoder"]["name"] == name
        create("composed", tables["model"])


def test_auxiliary_losses_are_searched_by_their_names():
    where = space("simgcl")
    assert {"model.auxiliary.simgcl.weight", "model.auxiliary.simgcl.temperature", "model.noise"} <= set(where.entries)
    seen = set()
    for params, tables in draws(where):
        (table,) = tables["model"]["auxiliary"]
        assert table == {
            "name": "simgcl",
            "weight": params["model.auxiliary.simgcl.weight"],
            "temperature": params["model.auxiliary.simgcl.temperature"],
        }
        assert create("simgcl", tables["model"]).settings.auxiliary == [table]
        seen.add(table["weight"])
    assert len(seen) == 20
    assert where.fixed["model"] == {}


def test_what_is_given_of_an_auxiliary_loss_stays_and_the_others_are_left_alone():
    given = [{"name": "kl", "weight": 0.5}, {"name": "edge-reconstruction", "weight": 0.1, "max_users": 7}]
    where = space("vgae", {"model.auxiliary.edge-reconstruction.max_users": [3, 4]}, {"auxiliary": given})
    assert not {key for key in where.entries if key.endswith(".weight")}
    for _, tables in draws(where):
        kl, edges = tables["model"]["auxiliary"]
        assert kl == given[0] and edges["weight"] == 0.1 and edges["max_users"] in (3, 4)
    assert given[1]["max_users"] == 7
    one = space(
        "simgcl",
        {"model.auxiliary.simgcl.weight": {"low": 1, "high": 2}},
        {"auxiliary": {"name": "simgcl", "weight": 3}},
    )
    weights = [tables["model"]["auxiliary"][0]["weight"] for _, tables in draws(one)]
    assert all(1 < weight < 2 for weight in weights)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"train.learning_rte": [0.1]}, r"train.learning_rte: unknown field; did you mean 'train.learning_rate'\? lightgcn knows model\."),
        ({"model.num_layer": [1]}, "did you mean 'model.num_layers'"),
        ({"learning_rate": [1]}, "did you mean 'train.learning_rate'"),
        ({"model.loss.temperature": [0.1]}, "model.loss.temperature: unknown field"),
        ({"model.loss.num_negative": [1]}, "did you mean 'model.loss.num_negatives'"),
        ({"model.auxiliary.sgl.weight": [0.1]}, "model.auxiliary.sgl.weight: unknown field.* lightgcn knows"),
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


@pytest.mark.parametrize(
    ("model", "entries", "message"),
    [
        ("simgcl", {"model.auxiliary.simgcl.temprature": [1]}, "did you mean 'model.auxiliary.simgcl.temperature'"),
        ("simgcl", {"model.auxiliary.simgc.weight": [1]}, "did you mean 'model.auxiliary.simgcl.weight'"),
        ("simgcl", {"model.auxiliary.0.weight": [1]}, "model.auxiliary.0.weight: unknown field"),
        ("simgcl", {"model.auxiliary.simgcl.weight": [0, 1]}, "weight: 0 does not do: .*number above 0"),
        ("simgcl", {"model.auxiliary.simgcl.temperature": [-1.0]}, "temperature: -1.0 does not do: .*greater than 0"),
        ("composed", {"model.encoder.num_layer": [1]}, "did you mean 'model.encoder.num_layers'"),
        ("composed", {"model.encoder.num_layers": [0]}, "num_layers: 0 does not do: .*greater than or equal to 1"),
    ],
)
def test_mistakes_in_parts_are_named(model, entries, message):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        space(model, entries)


@pytest.mark.parametrize(("value", "message"), [("sglc", "did you mean 'sgl'"), ([5], "give a name")])
def test_auxiliary_losses_that_are_none_are_named(value, message):
    with pytest.raises(ConfigError, match=message):
        space("simgcl", model_settings={"auxiliary": value})


def test_a_closed_form_model_has_no_training_to_search():
    with pytest.raises(ConfigError, match="fitted in closed form"):
        space("item-knn", {"train.learning_rate": {"low": 0.1, "high": 1.0}})
