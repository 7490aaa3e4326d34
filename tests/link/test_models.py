"""What every registered link predictor must do, on two cliques."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from graphrec.errors import ConfigError, LogError, RunError
from graphrec.link import LAYERS, LINK_MODELS
from graphrec.link.evaluate import create, create_all, evaluate, predict_links, protocol
from graphrec.link.heuristics import symmetric_adjacency
from graphrec.link.suggest import suggest, write_vectors
from graphrec.logs.link_graph import HeldOut
from tests.link.conftest import SIZE
from tests.notes import Notes

NAMES = sorted(LINK_MODELS)
HEURISTICS = ["adamic-adar", "common-neighbours", "resource-allocation"]
TRAINED = [name for name in NAMES if name not in HEURISTICS]
FAST = {"epochs": 60, "patience": 0, "embedding_dim": 16, "out_dim": 16, "learning_rate": 0.05}
ALL = np.stack(np.meshgrid(np.arange(2 * SIZE), np.arange(2 * SIZE), indexing="ij"), -1).reshape(-1, 2)


@pytest.fixture(scope="module")
def fitted(graph):
    return {name: create(name, FAST if name in TRAINED else None).fit(graph) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_it_tells_the_cliques_apart(name, graph, fitted):
    assert evaluate(fitted[name], graph, "test")["auc"] > 0.98


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_symmetric_float32_and_a_batch_equals_its_singles(name, fitted):
    scores = fitted[name].score(ALL)
    assert scores.dtype == np.float32 and scores.shape == (len(ALL),) and np.isfinite(scores).all()
    matrix = scores.reshape(2 * SIZE, 2 * SIZE)
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-5, atol=1e-5)
    one = np.concatenate([fitted[name].score(ALL[row : row + 1]) for row in (5, 900)])
    np.testing.assert_allclose(one, scores[[5, 900]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_the_same_seed_gives_the_same_vectors_and_torchs_stream_is_left_alone(name, graph, fitted):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    again = create(name, FAST).fit(graph)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(again.embeddings(), fitted[name].embeddings())
    again.embeddings()[:] = 0  # a copy
    np.testing.assert_array_equal(again.embeddings(), fitted[name].embeddings())
    other = create(name, {**FAST, "epochs": 5}).fit(graph, seed=1)
    assert not np.array_equal(other.embeddings(), fitted[name].embeddings())


@pytest.mark.parametrize("name", TRAINED)
def test_the_test_links_do_not_enter(name, graph):
    """Another test side, and another validation side without early stopping to look at it, change no weight."""
    few = {**FAST, "epochs": 5, "eval_every": 5}
    other = dataclasses.replace(graph, test=graph.valid, valid=graph.test)
    vectors = [create(name, few).fit(one).embeddings() for one in (graph, other)]
    np.testing.assert_array_equal(*vectors)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_settings_are_refused(name):
    with pytest.raises(ConfigError, match=f"link model {name} no_such: unknown key"):
        create(name, no_such=1)


def test_heuristics_by_hand(graph, fitted):
    a = symmetric_adjacency(graph).toarray()
    degree = a.sum(1)
    for u, v in ((0, 1), (3, 30), (21, 35)):
        both = np.flatnonzero(a[u] * a[v])
        pair = np.array([[u, v]])
        assert fitted["common-neighbours"].score(pair)[0] == len(both)
        assert fitted["resource-allocation"].score(pair)[0] == pytest.approx(sum(1 / degree[both]))
        assert fitted["adamic-adar"].score(pair)[0] == pytest.approx(sum(1 / math.log(degree[w]) for w in both))


def test_early_stopping_keeps_the_weights_of_the_best_validation(graph):
    model = create("gae", {**FAST, "epochs": 40, "eval_every": 2, "patience": 3, "metric": "auc"}).fit(graph)
    values = [entry["auc"] for entry in model.history]
    best = int(np.argmax(values))
    assert model.best_step == model.history[best]["step"] and len(values) <= best + 1 + 3
    assert evaluate(model, graph, "valid", ["auc"])["auc"] == values[best]


def test_a_masked_edge_is_decoded_and_never_visible(graph):
    model = create("masked-gae", {**FAST, "epochs": 1}).fit(graph)
    torch.manual_seed(0)
    relation, masked = model.masked_relation()
    visible = set(zip(relation.rows.tolist(), relation.indices.tolist(), strict=True))
    hidden = {tuple(pair) for pair in masked.tolist()}
    assert not visible & (hidden | {(v, u) for u, v in hidden})
    assert len(visible) // 2 + len(hidden) == len(graph.train)
    assert 0.6 < len(hidden) / len(graph.train) < 0.8


def test_a_mask_needs_a_graph(graph, fitted, tmp_path):
    with pytest.raises(RunError, match="this masked-gae predictor has not learned anything yet; fit it"):
        create("masked-gae").masked_relation()
    fitted["masked-gae"].save(tmp_path / "saved")
    with pytest.raises(RunError, match="was loaded and has no graph whose edges could be masked; fit it"):
        type(fitted["masked-gae"]).load(tmp_path / "saved").masked_relation()


def test_a_step_of_the_masked_autoencoder_decodes_what_it_did_not_see(graph, monkeypatch):
    model = create("masked-gae", {**FAST, "epochs": 1}).fit(graph)
    calls = {}
    monkeypatch.setattr(model, "_encode", lambda relation, x: calls.update(seen=relation) or x[:, :16])
    monkeypatch.setattr(model, "_reconstruction", lambda z, pairs: calls.update(asked=pairs) or z.sum())
    model._loss(0)
    seen = set(zip(calls["seen"].rows.tolist(), calls["seen"].indices.tolist(), strict=True))
    assert calls["asked"].numel() and not seen & {tuple(pair) for pair in calls["asked"].tolist()}


def test_drawn_non_edges_are_no_training_edges(graph):
    model = create("mf", {**FAST, "epochs": 1}).fit(graph)
    torch.manual_seed(0)
    drawn = {tuple(pair) for pair in model._non_edges(5000).tolist()}
    train = {tuple(pair) for pair in graph.train.tolist()}
    assert not drawn & train and all(u < v for u, v in drawn)
    assert {tuple(pair) for pair in graph.test.positives.tolist()} <= drawn  # they are not known to the training


def test_features_can_replace_or_join_ids(graph):
    side = (np.arange(2 * SIZE) >= SIZE).astype(np.float32)
    featured = dataclasses.replace(graph, features=np.stack([side, 1 - side], axis=1))
    for inputs, width in (("auto", 2), ("both", 18), ("id", 16)):
        model = create("gae", {**FAST, "inputs": inputs}).fit(featured)
        assert model.network["inputs"].out_dim == width
        assert evaluate(model, featured, "test", ["auc"])["auc"] > 0.95
    with pytest.raises(ConfigError, match='inputs = "features" needs node features'):
        create("gae", inputs="features").fit(graph)


def test_a_loss_that_is_not_finite_stops_with_a_message(graph):
    with pytest.raises(RunError, match="the loss of mf became .* lower learning_rate"):
        create("mf", {**FAST, "learning_rate": 1e30}).fit(graph)


def test_the_mlp_decoder_and_the_deeper_encoders_learn_too(graph):
    for settings in ({"decoder": "mlp"}, {"num_layers": 3, "dropout": 0.1}, {"num_layers": 1, "activation": "none"}):
        assert predict_links(graph, "gae", {**FAST, **settings}, metrics=["auc"]).test["auc"] > 0.95


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_can_encode(layer, graph):
    made = create("vgae", {**FAST, "layer": layer, "learning_rate": 0.01}).fit(graph)
    assert evaluate(made, graph, "test")["auc"] > 0.95


def weighted(graph, weight):
    return dataclasses.replace(graph, weight=np.asarray(weight, np.float32))


@pytest.mark.parametrize("name", ["gae", "vgae", "masked-gae"])
def test_weights_of_edges_count_in_the_messages_unless_they_are_switched_off(name, graph):
    few = {**FAST, "epochs": 3, "eval_every": 3}
    noise = weighted(graph, np.random.default_rng(0).uniform(0.1, 5, len(graph.train)))
    plain = create(name, few).fit(graph).embeddings()
    assert np.abs(create(name, few).fit(noise).embeddings() - plain).max() > 0.01
    np.testing.assert_array_equal(create(name, few, edge_weights=False).fit(noise).embeddings(), plain)
    ones = create(name, few).fit(weighted(graph, np.ones(len(graph.train)))).embeddings()
    np.testing.assert_allclose(ones, plain, rtol=1e-4, atol=1e-5)


def test_the_weight_of_an_edge_is_what_its_message_counts(graph):
    weight = np.arange(1.0, len(graph.train) + 1)
    made = create("gae", {**FAST, "layer": "lightgcn", "num_layers": 1, "epochs": 1}).fit(weighted(graph, weight))
    a = np.eye(2 * SIZE)
    for (u, v), one in zip(graph.train, weight, strict=True):
        a[u, v] = a[v, u] = one
    scale = a.sum(1) ** -0.5
    expected = scale[:, None] * a * scale @ made.network["inputs"]().detach().numpy()
    np.testing.assert_allclose(made.embeddings(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "layer"), [(name, None) for name in [*HEURISTICS, "mf"]] + [("gae", one) for one in LAYERS])
def test_a_model_that_does_not_count_weights_of_edges_says_so(name, layer, graph):
    few = {**FAST, "epochs": 1} if name in TRAINED else {}
    made, notes = create(name, few if layer is None else {**few, "layer": layer}), Notes()
    made.fit(weighted(graph, np.arange(len(graph.train))), progress=notes)
    assert made.weighs(weighted(graph, np.arange(len(graph.train)))) == (layer in ("gcn", "lightgcn", "ngcf"))
    said = [line for line in notes.lines if "have weights, which do not count here" in line]
    assert len(said) == (layer not in ("gcn", "lightgcn", "ngcf"))
    if layer in ("sage", "gat", "gatv2"):
        np.testing.assert_array_equal(made.embeddings(), create(name, few, layer=layer).fit(graph).embeddings())
    quiet = Notes()
    create(name, few).fit(graph, progress=quiet)
    assert not quiet.lines


@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_weights_that_cannot_be_summed_are_refused(value, graph):
    broken = weighted(graph, np.where(np.arange(len(graph.train)) == 3, value, 1.0))
    with pytest.raises(ConfigError, match=r"weights of edges must be finite and at least 0, got .*set edge_weights = false"):
        create("gae", FAST).fit(broken)
    create("gae", {**FAST, "epochs": 1, "edge_weights": False}).fit(broken)


def test_light_layers_learn_nothing_but_the_inputs(graph):
    made = create("gae", {**FAST, "layer": "lightgcn", "hidden_dim": 16, "num_layers": 3, "epochs": 2}).fit(graph)
    assert not list(made.network["encoder"].parameters()) and made.network["encoder"].activation == "none"
    looped = symmetric_adjacency(graph).toarray() + np.eye(2 * SIZE)
    scale = looped.sum(1) ** -0.5
    x = made.network["inputs"]().detach().numpy()
    expected = np.linalg.matrix_power(scale[:, None] * looped * scale, 3) @ x
    np.testing.assert_allclose(made.embeddings(), expected, rtol=1e-4, atol=1e-6)
    wider = create("gae", {**FAST, "layer": "lightgcn", "hidden_dim": 16, "out_dim": 8, "epochs": 2}).fit(graph)
    assert [tuple(one.shape) for one in wider.network["encoder"].parameters()] == [(8, 16)]


def test_the_activation_between_layers_is_theirs_unless_named(graph):
    for layer, activation, expected in (("gcn", "auto", "relu"), ("ngcf", "auto", "none"), ("ngcf", "relu", "relu")):
        made = create("gae", {**FAST, "layer": layer, "activation": activation, "epochs": 1}).fit(graph)
        assert made.network["encoder"].activation == expected


def test_suggestions_are_new_links_within_the_clique(graph, fitted):
    known = {tuple(pair) for pair in graph.train.tolist()}
    missing = [v for v in range(1, SIZE) if (0, v) not in known]
    found = suggest(fitted["common-neighbours"], ["0"], len(missing))
    assert sorted(found["neighbour_id"]) == missing and found["rank"].to_list() == list(range(1, len(missing) + 1))
    assert found["score"].is_sorted(descending=True)
    with pytest.raises(LogError, match="no node has the id '77'"):
        suggest(fitted["gae"], ["77"])
    with pytest.raises(ConfigError, match=r"k must lie in 1\.\.39"):
        suggest(fitted["gae"], ["0"], 40)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_that_are_none_are_refused_and_so_is_a_predictor_that_has_learned_nothing(name, fitted):
    for pairs, message in (
        ([[0, 2 * SIZE]], r"must name nodes 0\.\.39, got 0\.\.40"),
        ([[-1, 3]], r"got -1\.\.3"),
        ([[0.5, 1.0]], r"must be integers \(n, 2\), got float64 \(1, 2\)"),
        ([0, 1], r"got int64 \(2,\)"),
        ([[0, 1, 2]], r"got int64 \(1, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted[name].score(np.array(pairs))
    wide, narrow = (fitted[name].score(np.array([[0, 1]], dtype=kind)) for kind in (np.int64, np.uint8))
    assert wide == narrow and fitted[name].score(np.empty((0, 2), dtype=np.int64)).shape == (0,)
    with pytest.raises(RunError, match="has not learned anything yet"):
        create(name).score(ALL)


@pytest.mark.parametrize("name", TRAINED)
def test_vectors_of_a_predictor_that_has_learned_nothing_are_refused(name, tmp_path):
    for ask in (lambda model: model.embeddings(), lambda model: write_vectors(model, tmp_path / "vectors.parquet")):
        with pytest.raises(RunError, match=f"this {name} predictor has not learned anything yet; fit it"):
            ask(create(name))
    assert not list(tmp_path.iterdir())


def test_a_failed_fit_leaves_no_half_learned_predictor(graph):
    model = create("mf", FAST).fit(graph)
    with pytest.raises(ConfigError, match="needs node features"):
        model.settings = model.settings.model_copy(update={"inputs": "features"})
        model.fit(graph)
    for ask in (lambda: model.score(ALL), model.embeddings):  # nor are there vectors of the fit before
        with pytest.raises(RunError, match="has not learned anything yet"):
            ask()


def test_hits_beyond_the_non_links_are_refused_before_the_fit_and_no_default(graph, fitted, monkeypatch):
    assert (len(graph.valid.negatives), len(graph.test.negatives)) == (38, 76)
    monkeypatch.setattr("graphrec.link.base.LinkModel.fit", None)
    with pytest.raises(ConfigError, match="hits@50: only 38 pairs that are no links are held out"):
        predict_links(graph, "gae", metrics=["hits@50"])
    with pytest.raises(ConfigError, match="hits@77: only 76"):
        evaluate(fitted["mf"], graph, "test", ["hits@77"])
    assert list(evaluate(fitted["mf"], graph, "test")) == ["auc", "ap", "hits@20", "mrr"]


def test_the_protocol_says_against_what_links_are_ranked(graph):
    shared = protocol(graph)
    assert (shared["links"], shared["non_links"], shared["own_non_links"]) == (76, 76, False)
    assert "against the same 76 pairs that are no links, drawn at random among all pairs that are no links" in shared["how"]
    assert "hits@K counts" in shared["how"] and "mrr is a mean" in protocol(graph, metrics=["mrr", "auc"])["how"]
    assert not any("hits@K" in protocol(graph, metrics=names)["how"] for names in (["mrr", "auc"], ["auc"]))
    targets = np.tile(np.arange(SIZE, SIZE + 5), (len(graph.test.positives), 1))
    own = protocol(dataclasses.replace(graph, test=HeldOut(graph.test.positives, negative_targets=targets)))
    assert own["own_non_links"] and own["non_links"] == 76 * 5 and "against 5 pairs of its own with the same source" in own["how"]


def test_settings_reach_all_models_or_one():
    first, second = create_all(["gae", "mf"], {"model": {"epochs": 7}, "mf": {"epochs": 9}})
    assert (first.settings.epochs, second.settings.epochs) == (7, 9)
    with pytest.raises(ConfigError, match="unknown model in settings 'vgae'"):
        create_all(["gae"], {"vgae": {"epochs": 7}})
    with pytest.raises(ConfigError, match="metric: unknown metric 'hist@3'"):
        create("gae", metric="hist@3")
    with pytest.raises(ConfigError, match="layer: choose one of gcn"):
        create("gae", layer="gnc")
