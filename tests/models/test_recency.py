"""Old interactions count less: in the draws of every trained model, and in the weights that closed-form models read."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.graph.store import GraphStore
from graphrec.models import MODELS, create
from graphrec.progress import Reporter
from graphrec.settings import parse
from graphrec.training.history import History
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler, train
from tests.models.conftest import NUM_ITEMS, NUM_USERS, is_trained, learn, make_board
from tests.training.conftest import check_same_step

TRAINED = [name for name in sorted(MODELS) if is_trained(create(name))]
WEIGHED = [name for name in TRAINED if "half_life_days" in create(name).Settings.model_fields]
CLOSED_FORM = [name for name in sorted(MODELS) if name not in TRAINED]
ALL_USERS = np.arange(NUM_USERS)
FEW = {"epochs": 8, "weight_decay": 0.0}
OWN = {"bm3": {"learning_rate": 0.01}, "vgae": {"learning_rate": 0.01, "epochs": 30},
       "gc-mc": {"learning_rate": 0.01, "epochs": 15}, **{name: {"epochs": 15} for name in ("ultragcn", "xsimgcl")}}  # fmt: skip


def changed_tastes() -> tuple[list[tuple[int, int]], list[tuple[int, int]], list[float]]:
    """Users took a few items of the other colour long ago and more of their own lately; pairs, test pairs and days."""
    rng = np.random.default_rng(7)
    pairs, test, days = [], [], []
    for user in range(NUM_USERS):
        for side, count, day in ((1 - user % 2, 6, 0.0), (user % 2, 9, 100.0)):
            liked = rng.permutation(np.arange(side, NUM_ITEMS, 2)).tolist()
            pairs += [(user, item) for item in liked[:count]]
            days += [day] * count
        test.append((user, liked[-1]))
    return pairs, test, days


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, GraphStore]:
    """The changed tastes with times, without, and with a half-life in the weights."""
    folder, (pairs, test, days) = tmp_path_factory.mktemp("stores"), changed_tastes()
    more = {"timeless": {}, "dated": {"days": days}, "decayed": {"days": days, "half_life_days": 10.0}}
    return {name: make_board(folder / name, pairs, test, **own) for name, own in more.items()}


def lead_of_the_new(scores: torch.Tensor) -> float:
    """By how much items of the colour taken lately score above those of the other, in standard deviations."""
    is_new = (np.arange(NUM_USERS)[:, None] + np.arange(NUM_ITEMS)) % 2 == 0
    scores = (scores / scores.std()).numpy()
    return float(scores[is_new].mean() - scores[~is_new].mean())


@pytest.mark.parametrize("name", TRAINED)
def test_trained_models_draw_old_pairs_less_often(name, stores, tmp_path):
    settings = {**FEW, **OWN.get(name, {})}
    before = learn(name, stores["dated"], tmp_path / "before", **settings).score(ALL_USERS)
    after = learn(name, stores["dated"], tmp_path / "after", **settings, half_life_days=10.0).score(ALL_USERS)
    assert lead_of_the_new(after) > lead_of_the_new(before) + 0.1


@pytest.mark.parametrize("name", TRAINED)
def test_times_change_nothing_without_a_half_life(name, stores, tmp_path):
    models = [learn(name, stores[kind], tmp_path / kind, epochs=1) for kind in ("timeless", "dated")]
    assert torch.equal(*(model.score(ALL_USERS) for model in models))


@pytest.mark.parametrize("name", [name for name in CLOSED_FORM if name != "popularity"])  # which knows no tastes
def test_closed_form_models_read_the_weights_of_the_store(name, stores):
    before, after = (create(name).fit(store, seed=0).score(ALL_USERS) for store in (stores["dated"], stores["decayed"]))
    assert lead_of_the_new(after) > lead_of_the_new(before) + 0.1
    assert torch.equal(before, create(name).fit(stores["timeless"], seed=0).score(ALL_USERS))


def test_every_model_with_plain_hops_weighs_its_edges():
    others = {"bpr-mf", "vbpr", "ultragcn", "kgcn", "composed", "gat", "gc-mc", "pinsage"}  # no edges, or none to weigh
    assert set(TRAINED) - set(WEIGHED) == others


@pytest.mark.parametrize("name", WEIGHED)
def test_old_edges_carry_less(name, stores):
    pairs, _, days = changed_tastes()
    (users, items), lately = np.array(pairs).T, np.array(days) > 0
    leads = []
    for half_life in (None, 10.0):
        model = create(name, half_life_days=half_life)
        model.prepare(stores["dated"], seed=0)
        model.finish()  # as it starts: only the edges tell one item from the other
        scores = model.score(ALL_USERS)
        of_pairs = (scores / scores.std()).numpy()[users, items]
        leads.append(of_pairs[lately].mean() - of_pairs[~lately].mean())
    assert leads[1] > leads[0] + 0.5
    with pytest.raises(ConfigError, match="half_life_days"):
        create(name, half_life_days=10.0).prepare(stores["timeless"], seed=0)


def test_an_encoder_of_a_composition_weighs_its_edges(stores):
    encoders = [{"name": "lightgcn"}, {"name": "lightgcn", "half_life_days": 10.0}]
    models = [create("composed", encoder=encoder) for encoder in encoders]
    for model in models:
        model.prepare(stores["dated"], seed=0)
    assert models[0].relation.weight is None
    weight = dict(zip(changed_tastes()[0], 0.5 ** ((100.0 - np.array(changed_tastes()[2])) / 10.0), strict=True))
    relation = models[1].relation
    expected = [weight[pair] for pair in zip(relation.rows.tolist(), relation.indices.tolist(), strict=True)]
    np.testing.assert_allclose(relation.weight, expected, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(WEIGHED)))
def test_a_model_that_weighs_no_edges_says_what_else_there_is(name):
    with pytest.raises(ConfigError, match=r"half_life_days: unknown key; .*\[train\] half_life_days lets .* \[build\] half_life_days"):
        create(name, half_life_days=10.0)


def test_hops_that_are_not_there_cannot_be_weighed():
    with pytest.raises(ConfigError, match=r"num_layers = 0 has none; set \[train\] half_life_days"):
        create("directau", half_life_days=10.0, num_layers=0)


ON_SAMPLES = {
    "lightgcn": {"num_layers": 2},
    "directau": {"num_layers": 2},
    "ngcf": {"num_layers": 2, "dropout": 0.0, "edge_dropout": 0.0},
    "simgcl": {"num_layers": 2, "noise": 0.0},
    "xsimgcl": {"num_layers": 2, "noise": 0.0},
    "vgae": {},
    "composed": {"encoder": {"name": "gae", "num_layers": 2, "half_life_days": 10.0}},
}


@pytest.mark.parametrize("name", ON_SAMPLES)
def test_with_every_edge_drawn_a_step_over_weighed_edges_is_that_of_the_whole_graph(name, stores):
    half_life = {} if name == "composed" else {"half_life_days": 10.0}
    model = create(name, {"embedding_dim": 8, **half_life, **ON_SAMPLES[name]})
    model.prepare(stores["dated"], seed=3)
    model.network.double()
    assert float(model.relation.weight.max()) > 1000 * float(model.relation.weight.min())
    every = {"batching": "sampled", "fanouts": [NUM_USERS + NUM_ITEMS] * 2}
    sampled, full = (make_sampler(model, parse(TrainSettings, {"batch_size": 64, **own}, "train")) for own in (every, {}))
    for ours, theirs in islice(zip(sampled.batches(0), full.batches(0), strict=True), 3):
        check_same_step(model, ours, theirs, rtol=1e-9, atol=1e-10)
    found = []
    for block in (None, 7):
        model.finish(block)
        found.append(model.embeddings())
    for side in ("user", "item"):
        np.testing.assert_allclose(found[1][side], found[0][side], rtol=1e-5, atol=1e-6)


def test_draws_by_weight_stand_for_what_has_changed_since_an_earlier_pass(stores, tmp_path):
    model = create("lightgcn", {"embedding_dim": 8, "num_layers": 2, "half_life_days": 10.0})
    model.prepare(stores["dated"], seed=3)
    model.network.double()
    history = History(model, 7, tmp_path)
    history.take()
    settings = parse(TrainSettings, {"batching": "sampled", "fanouts": [1, 1], "batch_size": 64}, "train")
    batch = next(make_sampler(model, settings).batches(0))
    nodes, at = history.onto(batch.neighbourhood), batch.local()
    ours = model.network.encoder(nodes.relation, *model.network.inputs.rows(nodes.users, nodes.items), at.user_rows, at.item_rows)
    exact = model.network.encoder(model.relation, *model.network.inputs(), batch.user_rows, batch.item_rows)
    for one, other in zip(ours, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_run_on_samples_of_weighed_edges_learns_what_is_liked_now(stores, tmp_path):
    sampling = {"batching": "sampled", "fanouts": [4, 4], "device": "cpu", "batch_size": 64, "learning_rate": 0.05, **FEW}
    settings = {"embedding_dim": 8, "num_layers": 2}
    leads = []
    for days in (None, 10.0):
        run = train(stores["dated"], "lightgcn", tmp_path / str(days), sampling, model_settings={**settings, "half_life_days": days})
        leads.append(lead_of_the_new(run.model.score(ALL_USERS)))
    assert leads[1] > leads[0] + 0.1


@pytest.mark.parametrize(
    ("name", "words"),
    [("sgl", '"sgl" counts the edges that it leaves in a sample, and half_life_days weighs them; .* set it in .train.'),
     ("social-lightgcn", 'needs the whole graph in every step; set batching = "full"')],
)  # fmt: skip
def test_what_cannot_work_on_samples_of_weighed_edges_is_refused(name, words, stores, tmp_path):
    with pytest.raises(ConfigError, match=f"train batching: .*{words}"):
        train(stores["dated"], name, tmp_path / "run", {"batching": "sampled"}, model_settings={"half_life_days": 10.0})
    if name == "sgl":
        train(stores["dated"], name, tmp_path / "run", {"batching": "sampled", "epochs": 1, "half_life_days": 10.0})


def test_popularity_counts_by_age(stores):
    pairs, _, days = changed_tastes()
    model = create("popularity").fit(stores["decayed"])
    expected = np.bincount([item for _, item in pairs], 0.5 ** ((100.0 - np.array(days)) / 10.0), minlength=NUM_ITEMS)
    np.testing.assert_allclose(model.score(ALL_USERS[:1])[0], expected, rtol=1e-6)


def test_a_trained_model_takes_the_half_life_of_its_store(stores, tmp_path):
    runs = {}
    for name, store, own in (("built", "decayed", {}), ("asked", "dated", {"half_life_days": 10.0})):
        runs[name] = train(stores[store], "bpr-mf", tmp_path / name, {"epochs": 2, "batch_size": 64, **own})
        assert runs[name].config.train["half_life_days"] == 10.0
    assert torch.equal(*(run.model.score(ALL_USERS) for run in runs.values()))


def test_sampled_neighbourhoods_draw_by_age_too(stores, tmp_path):
    scores = [
        learn("lightgcn", stores["dated"], tmp_path / str(days), **FEW, batching="sampled", half_life_days=days).score(ALL_USERS)
        for days in (None, 10.0)
    ]
    assert lead_of_the_new(scores[1]) > lead_of_the_new(scores[0]) + 0.1


def test_a_run_with_a_half_life_goes_on_as_if_asked_for_at_once(stores, tmp_path):
    settings = {"batch_size": 64, "half_life_days": 10.0}
    train(stores["dated"], "bpr-mf", tmp_path / "run", {**settings, "epochs": 1})
    resumed = train(None, None, tmp_path / "run", {"epochs": 3}, resume=True)
    at_once = train(stores["dated"], "bpr-mf", tmp_path / "at-once", {**settings, "epochs": 3})
    assert torch.equal(resumed.model.score(ALL_USERS), at_once.model.score(ALL_USERS))


def test_a_half_life_without_times_is_refused(stores, tmp_path):
    with pytest.raises(ConfigError, match="train: half_life_days = 3 needs timestamps, and no training event of 'interaction' has"):
        train(stores["timeless"], "bpr-mf", tmp_path / "run", {"half_life_days": 3.0})
    assert not (tmp_path / "run").exists()


def test_gc_mc_refuses_ratings_that_have_lost_their_levels(stores, tmp_path):
    with pytest.raises(ConfigError, match=r"\[build\] half_life_days = 10 has multiplied them .* set \[train\] half_life_days = 10"):
        train(stores["decayed"], "gc-mc", tmp_path / "run")


def test_a_closed_form_model_says_that_it_draws_no_pairs(stores, tmp_path):
    notes = []
    reporter = Reporter()
    reporter.note = notes.append
    train(stores["dated"], "item-knn", tmp_path / "run", {"half_life_days": 10.0}, progress=reporter)
    [note] = notes
    assert "train half_life_days = 10 does nothing here: item-knn is fitted in closed form" in note
    assert "build the store with [build] half_life_days = 10, which it reads" in note
