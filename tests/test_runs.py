"""Every run file that the examples ship parses and names a registered model."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphrec.config import load_config
from graphrec.models import create

RUNS = sorted((Path(__file__).parent.parent / "examples" / "runs").glob("*.toml"))


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_run_file_parses_and_makes_its_model(path):
    config = load_config(path)
    model = create(config.model.name, config.model.settings)
    assert model.name == config.model.name
