"""The benchmark scripts fit together, what one takes from another is there, and what is run says which kernels it ran."""

from __future__ import annotations

import ast
import importlib
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
def scripts(monkeypatch):
    """Imports a script by its name; none of them measures the machine."""
    monkeypatch.syspath_prepend(FOLDER)
    machine = importlib.import_module("machine")
    monkeypatch.setattr(machine, "bandwidth", lambda: 40e9)
    monkeypatch.setattr(machine, "operations", lambda: 300e9)
    return importlib.import_module


@pytest.fixture
def run_main(scripts, monkeypatch, capsys):
    """Runs a script's `main` with arguments in this process; returns what it printed."""

    def run(name, *arguments):
        script = scripts(name)
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


@pytest.mark.parametrize("part", ["spmm", "attention"])
def test_every_time_of_the_table_has_a_share_of_the_machine(scripts, small_data, monkeypatch, part):
    kernels = scripts("kernels")
    monkeypatch.setattr(kernels.attention, "in_child", lambda *arguments: 1.0)  # memory, in a process for each
    lines = kernels.measure(part, small_data, 1, None)["lines"]
    timed = [line for line in lines if line["ours"].endswith(" ms")]
    assert {line["kernel"] for line in timed if not line["share"]} == set()
    assert any(line["kernel"].startswith("spmm as called") for line in timed) == (part == "spmm")


def test_the_step_is_held_against_the_public_codes_loss_and_gradient(scripts, small_data, monkeypatch):
    kernels = scripts("kernels")
    row = {"seconds_per_step": 0.02, "public_seconds_per_step": 0.3, "speedup": 15.0}
    row |= {"loss_difference": 2e-7, "gradient_difference": 4e-5}
    monkeypatch.setattr(kernels.step, "measure", lambda *arguments: row)
    monkeypatch.setattr(kernels.public_lightgcn, "load", lambda folder: folder)
    lines = {(line.kernel, line.other): line for line in kernels.step_lines(small_data, small_data, 40e9)}
    loss, gradient = (line for (name, _), line in lines.items() if name != "LightGCN step")
    assert loss.kernel.endswith("loss") and loss.ours == "2.0e-07 off" and loss.ratio == pytest.approx(50) and loss.ratio > loss.goal
    assert gradient.kernel.endswith("gradient") and gradient.ratio == pytest.approx(0.25) and gradient.ratio < gradient.goal


def test_the_machines_rate_is_that_of_its_fastest_way(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    machine = importlib.import_module("machine")
    now = 0.0

    def takes(seconds):
        def run():
            nonlocal now
            now += seconds.pop(0)

        return run

    monkeypatch.setattr(machine.time, "perf_counter", lambda: now)
    slow, fast = [9.0] + [4.0] * machine.RUNS, [0.1] + [2.0] * (machine.RUNS - 1) + [1.0]  # the first warms up
    assert machine.best_rate([(6.0, takes(slow)), (3.0, takes(fast))]) == pytest.approx(3.0)


def test_an_attention_layer_moves_what_its_operator_does_and_its_projections(scripts):
    attention = scripts("attention")
    moved = {what: attention.compulsory_bytes(what, (2, 3), 5, 4, 16) for what in attention.WHAT}
    row = 4 * 4 * 16
    assert moved["layer"] - moved["operator"] == row * (3 * 5 + 2 * 3)
    assert moved["gatv2"] - moved["layer"] == row * 2 * 5
