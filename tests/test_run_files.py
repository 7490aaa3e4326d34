"""The run files in `examples/runs`: each is valid, is of the model that names it, and writes places of its own."""

from __future__ import annotations

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
    assert config.paths.run == f"runs/{path.stem}-{name}" and config.paths.store == f"stores/{name}"
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and "arXiv:" in path.read_text(encoding="utf-8").split("[paths]")[0]


@pytest.mark.parametrize("path", TUNED, ids=lambda path: path.stem)
def test_a_tuned_file_is_valid_and_free_of_places(path):
    config = load_config(path)
    assert create(config.model.name, config.model.settings).name == config.model.name
    assert f"{path.stem}-".startswith(f"{config.model.name}-") and not config.paths.model_fields_set


def test_the_models_of_published_papers_have_one():
    assert {"lightgcn", "ngcf", "gat", "gc-mc"} <= {path.stem for path in RUNS}


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
