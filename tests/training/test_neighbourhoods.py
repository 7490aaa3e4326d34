"""Training on sampled neighbourhoods: the same models, the same losses, exact resume, clear refusals."""

from __future__ import annotations

import json

import pytest
import torch

from graphrec.errors import ConfigError
from graphrec.models import create
from graphrec.models.trained import TrainedRecommender
from graphrec.nn.gcn import GCNEncoder, GCNLayer
from graphrec.nn.stack import Stack
from graphrec.progress import SILENT
from graphrec.settings import parse
from graphrec.training.loop import Loop
from graphrec.training.settings import TrainSettings
from graphrec.training.train import make_sampler, train
from tests.training.conftest import NUM_USERS, check_same_step

MODELS = {
    "bpr": {"num_layers": 2},
    "softmax": {"num_layers": 3, "head": "cosine", "loss": "sampled-softmax"},
    "one-hop": {"num_layers": 1, "loss": "bce"},
}


def prepared(board, settings, name="lightgcn"):
    model = create(name, {"embedding_dim": 8, **settings})
    model.prepare(board, seed=3)
    model.network.double()
    return model


@pytest.mark.parametrize("name", MODELS)
def test_with_every_edge_drawn_loss_and_gradients_are_those_of_the_whole_graph(name, board):
    model = prepared(board, MODELS[name])
    settings = {"batch_size": 16, "batching": "sampled", "fanouts": [NUM_USERS] * model.settings.num_layers}
    sampled = make_sampler(model, parse(TrainSettings, settings, "train"))
    full = make_sampler(model, parse(TrainSettings, {"batch_size": 16}, "train"))
    tables = list(model.network.parameters())
    for ours, theirs in zip(sampled.batches(0), full.batches(0), strict=True):
        losses = [model.batch_loss(batch, weight_decay=0.3)[0] for batch in (ours, theirs)]
        torch.testing.assert_close(*losses, rtol=1e-12, atol=1e-12)
        sides = [torch.autograd.grad(loss, tables) for loss in losses]
        for left, right in zip(*sides, strict=True):
            assert left.layout == torch.sparse_coo  # so that the optimiser looks at no other row
            torch.testing.assert_close(left.to_dense(), right.to_dense(), rtol=1e-11, atol=1e-12)


LAYERED = {
    "sage": ("composed", {"encoder": {"name": "sage", "num_layers": 2}}),
    "ngcf": ("ngcf", {"num_layers": 2, "dropout": 0.0, "edge_dropout": 0.0}),
    "gcn": ("composed", {"encoder": {"name": "gcn", "num_layers": 2, "self_loops": False}}),
    "gcn-loops": ("composed", {"encoder": {"name": "gcn", "num_layers": 2, "self_loops": True}}),
    "gat": ("gat", {"self_loops": False}),
    "gat-loops": ("gat", {}),
    "gae": ("composed", {"encoder": {"name": "gae", "num_layers": 2}}),
    "vgae": ("vgae", {}),
    "sgl": ("sgl", {"num_layers": 2, "auxiliary": [{"name": "sgl", "weight": 1.0, "share": 0.0}]}),
    "simgcl": ("simgcl", {"num_layers": 2, "noise": 0.0}),
    "xsimgcl": ("xsimgcl", {"num_layers": 2, "noise": 0.0}),
    "gc-mc": ("gc-mc", {}),
    "gatv2-loops": ("composed", {"encoder": {"name": "gatv2", "negative_slope": 0.0, "last_heads": "mean"}}),
}


@pytest.mark.parametrize("case", LAYERED)
def test_layered_models_give_the_same_with_every_edge_drawn(case, board):
    name, settings = LAYERED[case]
    model = prepared(board, settings, name)
    sampling = {"batch_size": 16, "batching": "sampled", "fanouts": [NUM_USERS] * (1 if name == "gc-mc" else 2)}
    sampled = make_sampler(model, parse(TrainSettings, sampling, "train"))
    full = make_sampler(model, parse(TrainSettings, {"batch_size": 16}, "train"))
    for ours, theirs in zip(sampled.batches(0), full.batches(0), strict=True):
        check_same_step(model, ours, theirs, rtol=1e-10, atol=1e-11)


def loops(board, folder, num_layers, **settings):
    """One loop over the whole graph and one over samples that draw every edge, from the same start."""
    common = {"batch_size": 16, "learning_rate": 0.05, "weight_decay": 0.3, "device": "cpu", **settings}
    found = []
    for name, own in (("full", {}), ("sampled", {"batching": "sampled", "fanouts": [NUM_USERS] * num_layers})):
        model = prepared(board, {"num_layers": num_layers}) if num_layers else prepared(board, {}, "bpr-mf")
        chosen = parse(TrainSettings, {**common, **own}, "train")
        found.append(Loop(model, make_sampler(model, chosen), chosen, folder / name, None, SILENT))
    return found


def tables_of(loop):
    return [table.detach().clone() for table in loop.model.network.parameters()]


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_with_every_edge_drawn_all_losses_and_updates_are_those_of_the_whole_graph(num_layers, board, tmp_path):
    """Also of the rows that a batch does not reach, which Adam goes on moving by their moments."""
    full, sampled = loops(board, tmp_path, num_layers, batch_size=3)
    fewest = NUM_USERS
    for epoch in range(2):
        for ours, theirs in zip(sampled.sampler.batches(epoch), full.sampler.batches(epoch), strict=True):
            fewest = min(fewest, len(ours.neighbourhood.users))
            torch.testing.assert_close(sampled.step(ours), full.step(theirs), rtol=1e-5, atol=1e-6)
    assert full.position.steps > 100 and (fewest < NUM_USERS or num_layers == 3)
    assert num_layers or not torch.allclose(*(tables_of(loop)[0] for loop in (sampled, full)), rtol=1e-3, atol=1e-4)
    sampled.finish()
    for ours, theirs in zip(tables_of(sampled), tables_of(full), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_self_loops_of_a_stack_are_refused_and_the_mend_works(board, tmp_path, monkeypatch):
    def stack(of_stack, of_layers):
        return lambda self, dim, generator: Stack([GCNLayer(dim, dim, self_loops=of_layers)], self_loops=of_stack)

    def run():
        return train(board, "composed", tmp_path / "run", settings, model_settings={"encoder": "gcn"})

    settings = {"batching": "sampled", "epochs": 1}
    monkeypatch.setattr(GCNEncoder, "_stack", stack(True, False))
    with pytest.raises(ConfigError, match=r"GCNEncoder: samples .* self_loops = True of the stack; give self_loops to its layers"):
        run()
    monkeypatch.setattr(GCNEncoder, "_stack", stack(False, True))
    run()


def test_batches_are_drawn_alike_from_any_start(board):
    model = prepared(board, {"num_layers": 2})
    settings = {"batch_size": 16, "batching": "sampled", "fanouts": [2, 2]}
    sampler = make_sampler(model, parse(TrainSettings, settings, "train"))
    whole, rest = list(sampler.batches(1)), list(sampler.batches(1, start=4))
    assert len(whole) == sampler.steps_per_epoch and len(rest) == len(whole) - 4
    for left, right in zip(whole[4:], rest, strict=True):
        assert torch.equal(left.neighbourhood.users, right.neighbourhood.users)
        assert torch.equal(left.neighbourhood.relation.indices, right.neighbourhood.relation.indices)
    other = next(iter(sampler.batches(2)))
    assert not torch.equal(whole[0].neighbourhood.relation.indices, other.neighbourhood.relation.indices)


@pytest.mark.parametrize("name", ["lightgcn", "bpr-mf"])
def test_a_run_on_samples_learns_the_board(name, board, tmp_path):
    settings = {"batching": "sampled", "epochs": 60, "batch_size": 32, "learning_rate": 0.05, "device": "cpu"}
    model = train(board, name, tmp_path / "run", settings).model
    scores = model.score(range(NUM_USERS))
    own = torch.arange(NUM_USERS)[:, None] % 2 == torch.arange(scores.shape[1]) % 2
    assert scores[own].mean() > scores[~own].mean() + 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fanouts": [5]}, "one number for each of the 2 hops of lightgcn.* got 1: .5"),
        ({"fanouts": [5, 5, 5]}, "got 3"),
        ({"fanouts": [5, 0]}, "train fanouts"),
        ({"fanouts": [5, 5], "batching": "full"}, 'fanouts are of sampled batches'),
        ({"batching": "some"}, "train batching"),
    ],
)
def test_fanouts_that_do_not_fit_are_refused(settings, words, board, tmp_path):
    with pytest.raises(ConfigError, match=words):
        train(board, "lightgcn", tmp_path / "run", {"batching": "sampled", **settings}, model_settings={"num_layers": 2})
    assert not (tmp_path / "run").exists()


def test_an_encoder_that_needs_the_whole_graph_is_refused(board, monkeypatch, tmp_path):
    monkeypatch.delattr("graphrec.nn.light.LightGCNEncoder.hops")
    with pytest.raises(ConfigError, match='LightGCNEncoder.* needs the whole graph in every step; set batching = "full"'):
        train(board, "lightgcn", tmp_path / "run", {"batching": "sampled"})


@pytest.mark.parametrize(
    ("name", "settings", "mend"),
    [
        ("vgae", {"mask_batch_edges": True}, {"mask_batch_edges": False}),
        ("ultragcn", {}, {"auxiliary": []}),
        ("composed", {"encoder": "gae", "auxiliary": [{"name": "edge-reconstruction", "weight": 0.1}]}, {"auxiliary": []}),
    ],
)
def test_what_reads_the_whole_graph_beside_the_encoder_is_refused_and_the_mend_works(name, settings, mend, board, tmp_path):
    words = 'mask_batch_edges = false, or set batching = "full"' if name == "vgae" else 'leave it out, or set batching = "full"'
    with pytest.raises(ConfigError, match=f"train batching: .*{words}"):
        train(board, name, tmp_path / "run", {"batching": "sampled"}, model_settings=settings)
    train(board, name, tmp_path / "run", {"batching": "sampled", "epochs": 1}, model_settings={**settings, **mend})


def test_a_run_from_before_there_was_batching_can_go_on(board, tmp_path):
    train(board, "bpr-mf", tmp_path / "run", {"epochs": 1})
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    for key in ("batching", "fanouts", "inference_block"):
        del record["train"][key]
    path.write_text(json.dumps(record))
    train(board, None, tmp_path / "run", {"epochs": 2}, resume=True)
    assert json.loads(path.read_text())["train"]["epochs"] == 2


def test_blocks_of_an_encoder_that_has_none_are_refused_before_the_first_step(board, tmp_path):
    settings = {"encoder": {"name": "rgcn", "relations": ["target"]}}
    words = r"the encoder of composed \(RGCNEncoder\) computes all users and items at once.* leave train.inference_block out"
    with pytest.raises(ConfigError, match=words):
        train(board, "composed", tmp_path / "run", {"epochs": 1, "inference_block": 8}, model_settings=settings)
    assert not (tmp_path / "run").exists()
    model = train(board, "composed", tmp_path / "run", {"epochs": 1}, model_settings=settings).model
    model.prepare(board)
    with pytest.raises(ConfigError, match=words):
        model.finish(8)


def test_blocks_of_an_encoder_without_layers_are_its_inputs(board, tmp_path):
    runs = [
        train(board, "bpr-mf", tmp_path / str(block), {"epochs": 1, "device": "cpu", "inference_block": block})
        for block in (None, 5)
    ]
    assert torch.equal(*(run.model.score(range(NUM_USERS)) for run in runs))


def test_inference_in_blocks_ends_in_the_same_model(board, tmp_path):
    settings = {"batching": "sampled", "epochs": 2, "batch_size": 32, "device": "cpu"}
    whole, blocks = (
        train(board, "lightgcn", tmp_path / str(block), {**settings, "inference_block": block}).model for block in (0, 5)
    )
    torch.testing.assert_close(whole.score(range(NUM_USERS)), blocks.score(range(NUM_USERS)), rtol=1e-5, atol=1e-6)
    left = [{entry.name.split(".")[0] for entry in (tmp_path / name).iterdir()} for name in ("5", "0")]
    assert left[0] == left[1]


@pytest.fixture
def blocks(monkeypatch):
    """What `finish` is asked for, call by call; the smallest default block that there can be."""
    asked, finish = [], TrainedRecommender.finish
    monkeypatch.setattr("graphrec.training.neighbourhoods.DEFAULT_BLOCK", 3)
    monkeypatch.setattr(TrainedRecommender, "finish", lambda self, *a: asked.append(a[0] if a else None) or finish(self, *a))
    return asked


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, 3), ({"inference_block": 0}, None), ({"inference_block": 7}, 7), ({"batching": "full"}, None)],
)
def test_sampled_batches_come_with_inference_in_blocks_unless_all_at_once_is_asked_for(given, expected, board, blocks, tmp_path):
    settings = {"batching": "sampled", "epochs": 1, "device": "cpu", **given}
    run = train(board, "lightgcn", tmp_path / "run", settings)
    assert blocks == [expected]
    assert run.config.train["inference_block"] == given.get("inference_block", expected)


@pytest.mark.parametrize("model", ["pinsage", "ngcf", "gat"])
def test_the_default_block_is_that_of_every_encoder_with_layers(model, board, blocks, tmp_path):
    run = train(board, model, tmp_path / "run", {"batching": "sampled", "epochs": 1, "device": "cpu"})
    assert blocks == [3] and run.config.train["inference_block"] == 3


def test_a_sampled_run_from_before_there_were_default_blocks_goes_on_all_at_once(board, blocks, tmp_path):
    settings = {"batching": "sampled", "epochs": 1, "device": "cpu"}
    train(board, "lightgcn", tmp_path / "run", settings)
    path = tmp_path / "run" / "config.json"
    record = json.loads(path.read_text())
    record["train"]["inference_block"] = None
    path.write_text(json.dumps(record))
    train(board, None, tmp_path / "run", {"epochs": 2}, resume=True)
    assert blocks == [3, None] and json.loads(path.read_text())["train"]["inference_block"] is None


def test_an_encoder_without_layers_of_its_own_is_sampled_and_computed_all_at_once(board, blocks, monkeypatch, tmp_path):
    monkeypatch.delattr("graphrec.nn.stack.StackEncoder.layer")
    train(board, "gat", tmp_path / "run", {"batching": "sampled", "epochs": 1, "device": "cpu"})
    assert blocks == [None]
