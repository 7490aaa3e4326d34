"""The README tells the truth: its tree matches the disk, its example runs, and its tables name what is registered."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
LISTED_FOLDERS = ("datasets", "examples", "graphrec", "kernels")


def block(language: str, after: str) -> str:
    """Return the first code block of a language after a heading."""
    return re.search(rf"^```{language}\n(.*?)^```", README.split(f"\n## {after}\n")[1], re.MULTILINE | re.DOTALL).group(1)


def tree() -> dict[str, set[str]]:
    """Return folder to the names that the tree lists in it; "" is the root."""
    listed: dict[str, set[str]] = {"": set()}
    folder = ""
    for line in block("", "What is where").splitlines():
        name = line.split()[0]
        if line.startswith("  "):
            listed[folder].add(name.rstrip("/"))
        else:
            listed[""].add(name.split("/")[0])
            folder = name.rstrip("/")
            listed[folder] = set()
    return listed


def on_disk(folder: str) -> set[str]:
    """Return the names that git tracks in a folder."""
    command = ["git", "ls-files", "--", folder or "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    depth = 1 if folder else 0
    return {line.split("/")[depth] for line in done.stdout.splitlines() if (ROOT / line).exists()}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
@pytest.mark.parametrize("folder", ["", *LISTED_FOLDERS])
def test_the_tree_matches_the_disk(folder):
    generated = {"_native"} if folder == "graphrec" else set()
    hidden = {".gitignore"}
    assert tree()[folder] - generated == on_disk(folder) - generated - hidden


def test_the_first_example_is_the_quickstart_and_short():
    code = block("python", "First example")
    assert (ROOT / "examples" / "quickstart.py").read_text().split('"""\n\n', 1)[1] == code
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_the_first_example_runs(tmp_path, monkeypatch, capsys):
    """In this process, for speed; the demo below is run as its users run it."""
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "quickstart.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "recall@20" in printed and "u00017" in printed and "i00003" in printed
    assert (tmp_path / "exports" / "quickstart" / "manifest.json").is_file()


def test_the_demo_runs_and_lightgcn_beats_popularity(tmp_path):
    (tmp_path / "datasets").symlink_to(ROOT / "datasets")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "examples" / "demo.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    rows = {
        cells[0]: [float(cell) for cell in cells[1:]]
        for line in printed.splitlines()
        if len(cells := [cell.strip() for cell in line.strip("│").split("│")]) == 5 and cells[0] in README
        and re.fullmatch(r"[\d.]+", cells[1])
    }  # fmt: skip
    assert list(rows) == ["popularity", "item-knn", "graph-filter", "lightgcn"]
    assert rows["lightgcn"][0] > 1.5 * rows["popularity"][0]
    assert printed.count(" last bought: ") == 3
    for place in ("store", "runs/lightgcn", "export/manifest.json"):
        assert (tmp_path / "demo-output" / place).exists()


def test_the_tables_name_everything_that_is_registered():
    from graphrec.cli import VERBS
    from graphrec.config import SECTIONS
    from graphrec.evaluation import METRICS
    from graphrec.features import FILE_ENCODERS, TEXT_ENCODERS
    from graphrec.logs import FORMATS
    from graphrec.losses import LOSSES
    from graphrec.models import MODELS
    from graphrec.nn import INPUTS
    from graphrec.retrieval import EXPORTERS

    for name in [*TEXT_ENCODERS, *FILE_ENCODERS, *INPUTS, *FORMATS, *METRICS, *LOSSES, *MODELS, *EXPORTERS]:
        assert f"`{name}`" in README, f"the README does not name {name}"
    for verb in VERBS:
        assert f"graphrec {verb}" in README, f"the README does not show graphrec {verb}"
    for section in SECTIONS:
        assert f"`[{section}]`" in README


def test_the_run_file_example_is_valid(tmp_path):
    from graphrec.config import load_config

    path = tmp_path / "graphrec.toml"
    path.write_text(block("toml", "The run file"))
    config = load_config(path)
    assert config.train.epochs == 60 and config.model.name == "lightgcn" and config.build.k_core == 5


@pytest.mark.parametrize("line", re.findall(r"^    graphrec (.+?)(?:\s+#.*)?$", README, re.MULTILINE))
def test_the_command_lines_are_ones_that_the_verbs_take(line):
    """Options and arguments are parsed for real; nothing runs."""
    from typer.main import get_command

    from graphrec.cli import app

    words = line.split()
    group = get_command(app)
    context = group.make_context("graphrec", list(words), resilient_parsing=True)
    name = words[0]
    verb = group.get_command(context, name)
    if getattr(verb, "commands", None):
        words, verb = words[1:], verb.get_command(context, words[1])
    verb.make_context(name, words[1:])
