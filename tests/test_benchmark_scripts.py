"""The benchmark scripts fit together, what one takes from another is there, and what is run says which kernels it ran."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from graphrec.ops import backend

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"
SCRIPTS = {path.stem: path for path in FOLDER.glob("*.py")}
NO_KERNELS = {"ingest", "products", "split_shift"}  # they read and count; products.py times two BLAS libraries
# What names the kernels: `backend()`, what spmm.py prints, or the pages that `graphrec.benchmark` writes.
NAMES_THEM = {"backend", "ops.backend", "spmm.show", "graphrec.benchmark"}


def defined(name: str) -> set[str]:
    """Names at the top level of a script."""
    names = set()
    for node in ast.parse(SCRIPTS[name].read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    return names


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_what_a_script_takes_from_another_is_there(name):
    tree = ast.parse(SCRIPTS[name].read_text(encoding="utf-8"))
    siblings, missing = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            siblings |= {alias.name for alias in node.names if alias.name in SCRIPTS}
        elif isinstance(node, ast.ImportFrom) and node.module in SCRIPTS:
            missing += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in defined(node.module)]
    for node in ast.walk(tree):
        is_taken = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in siblings
        if is_taken and node.attr not in defined(node.value.id):
            missing.append(f"{node.value.id}.{node.attr}")
    assert not missing


@pytest.mark.parametrize("name", sorted(name for name, path in SCRIPTS.items() if "__main__" in path.read_text(encoding="utf-8")))
def test_a_script_that_is_run_names_its_kernels(name):
    tree = ast.parse(SCRIPTS[name].read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert bool(called & NAMES_THEM) == (name not in NO_KERNELS)


@pytest.fixture
def run_main(monkeypatch, capsys):
    """Runs a script's `main` with arguments in this process; returns what it printed."""
    monkeypatch.syspath_prepend(FOLDER)

    def run(name, *arguments):
        script = __import__(name)
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        script.main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def small_data(tmp_path):
    """300 users with eight items each of 40, one of them held out."""
    lists = [[user, *((user * 7 + 5 * place) % 40 for place in range(8))] for user in range(300)]
    for name, parts in (("train", [row[:7] for row in lists]), ("test", [[row[0], *row[7:]] for row in lists])):
        (tmp_path / f"{name}.txt").write_text("".join(" ".join(map(str, part)) + "\n" for part in parts))
    return tmp_path


@pytest.mark.parametrize("name, arguments", [("operators", ["--repeats", 1]), ("spmm", ["--repeats", 1, "--dims", 16])])
def test_both_forms_of_what_is_printed_name_the_kernels(run_main, small_data, name, arguments):
    assert backend() in run_main(name, "--data", small_data, *arguments)
    result = json.loads(run_main(name, "--data", small_data, *arguments, "--json").splitlines()[-1])
    assert result["backend"] == backend() and result["rows"]
