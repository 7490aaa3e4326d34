"""The run files in `examples/runs`: each is valid, is of the model that names it, and writes places of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graphrec.config import load_config
from graphrec.logs.card import find_card
from graphrec.models import MODELS, create

EXAMPLES = Path(__file__).parent.parent / "examples"
RUNS = sorted((EXAMPLES / "runs").glob("*.toml"))
TUNED = sorted((EXAMPLES / "benchmarks" / "tuned").glob("*.toml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_file_is_valid_and_named_after_its_model(path):
    config = load_config(path)
    assert config.model.name in MODELS and f"{path.stem}-".startswith(f"{config.model.name}-")
    assert create(config.model.name, config.model.settings).name == config.model.name
    data = Path(config.log.path)
    folder = data.parent if data.suffix == ".dat" else data
    name = "demo" if data == Path("datasets/demo/events.parquet") else find_card(folder.name).name
    assert name == "demo" or folder == Path("data") / name
    held_out = "-valid" if config.build.split.method == "given" and config.build.split.valid else ""
    assert config.paths.run == f"runs/{path.stem}-{name}" and config.paths.store == f"stores/{name}{held_out}"
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_file_names_its_paper_and_where_its_values_are_from(path):
    head = path.read_text(encoding="utf-8").split("\n[paths]")[0]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert re.search(r"(et al\.|Steck|\w+ and \w+) 20\d\d, (Adap-tau, )?(arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4}/\S)", head)
    assert "public code" in head or "our choice" in head


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_what_stops_early_has_a_validation_part_to_stop_by(path):
    config = load_config(path)
    split = config.build.split
    if "patience" in config.train.model_fields_set:
        assert split.valid if split.method == "given" else split.valid != 0


def test_run_files_that_share_a_store_build_it_alike():
    made = {}
    for config in map(load_config, RUNS):
        assert made.setdefault(config.paths.store, config.build) == config.build, config.paths.store


@pytest.mark.parametrize("path", TUNED, ids=lambda path: path.stem)
def test_a_tuned_file_is_valid_and_free_of_places(path):
    config = load_config(path)
    assert create(config.model.name, config.model.settings).name == config.model.name
    assert f"{path.stem}-".startswith(f"{config.model.name}-") and not config.paths.model_fields_set


def test_every_model_has_one_but_those_without_published_settings():
    closed_form = {"popularity", "item-knn", "user-knn", "graph-filter", "social-graph-filter", "social-ease"}
    without = closed_form | {"knowledge-lightgcn", "composed"}  # our own combination, and none before the run file says which
    assert MODELS.keys() - {load_config(path).model.name for path in RUNS} == without
    assert {"lightgcn-softmax", "lightgcn-adaptive"} <= {path.stem for path in RUNS}


def test_published_values_are_what_the_files_say():
    """Read again in the public code that each file names: a file that changes has to change its source too."""
    files = {path.stem: load_config(path) for path in RUNS}
    lightgcn, ngcf = files["lightgcn"], files["ngcf"]
    assert (lightgcn.model.settings.num_layers, lightgcn.train.learning_rate) == (3, 1e-3)
    assert (ngcf.model.settings.num_layers, ngcf.train.learning_rate, ngcf.train.weight_decay) == (3, 1e-4, 1e-5)
    assert (lightgcn.train.batch_size, ngcf.train.batch_size, ngcf.model.settings.edge_dropout) == (2048, 1024, 0.0)
    assert (files["kgat"].train.learning_rate, files["bm3"].model.settings.dropout) == (1e-4, 0.5)
    directau = files["directau"]
    assert (directau.model.settings.num_layers, directau.model.settings.loss["uniformity_weight"]) == (0, 5.0)
    for name, expected in (("sgl", (3, 0.1, 0.2)), ("simgcl", (3, 0.5, 0.2)), ("xsimgcl", (3, 0.2, 0.15))):
        (table,) = files[name].model.settings.auxiliary
        assert (files[name].model.settings.num_layers, table["weight"], table["temperature"]) == expected
    for name, expected in (
        ("sgl", (1000, 10, 1e-3, 1e-4, 2048)),
        ("ultragcn", (2000, 150, 1e-4, 1e-4, 512)),
        ("lightgcn-softmax", (1000, 15, 1e-3, 1e-5, 2048)),
        ("lightgcn-adaptive", (1000, 51, 1e-3, 1e-5, 2048)),
    ):
        at = files[name].train
        assert (at.epochs, at.patience, at.learning_rate, at.weight_decay, at.batch_size) == expected
        assert (at.metric, at.eval_every) == ("recall@20", 1)
    for name, expected in (
        ("bpr-mf", (64, 1000, 1e-3, 1e-4, 2048)),
        ("mhcn", (50, 120, 1e-3, 1e-3, 2000)),
        ("diffnet", (32, 300, 1e-3, 0.0, 20000)),
        ("mb-cgcn", (64, 1000, 1e-3, 1e-4, 2048)),
        ("mbgcn", (64, 400, 3e-4, 1e-4, 2048)),
    ):
        at = files[name].train
        found = at.epochs, at.learning_rate, at.weight_decay, at.batch_size
        assert (files[name].model.settings.embedding_dim, *found) == expected
    kgcn, pinsage = files["kgcn"], files["pinsage"].model.settings.encoder
    assert (kgcn.model.settings.num_neighbours, kgcn.model.settings.num_hops, kgcn.train.learning_rate) == (4, 2, 0.02)
    assert (pinsage["num_layers"], pinsage["num_neighbors"]) == (2, 50)
    softmax, adaptive = (files[f"lightgcn-{name}"].model.settings for name in ("softmax", "adaptive"))
    assert (softmax.num_layers, softmax.loss["temperature"], adaptive.num_layers) == (1, 0.12, 3)
    ultragcn = files["ultragcn"].model.settings.loss
    assert (ultragcn["num_negatives"], ultragcn["negative_weight"]) == (1500, 300.0)
    vgae = files["vgae"]
    assert (vgae.model.settings.num_layers, vgae.model.settings.activation) == (2, "relu")
    assert (vgae.train.learning_rate, vgae.train.weight_decay) == (0.01, 0.0)
