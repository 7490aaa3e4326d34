"""The shape of the house, read from the source: who may import whom, file sizes, and things that must never appear."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "graphrec"
SOURCES = sorted(PACKAGE.rglob("*.py"))
CODE = SOURCES + sorted((ROOT / "examples").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

ROOT_MODULES = (
    "errors", "settings", "registry", "progress", "atomic", "checksum", "checkpoints", "memory", "toml_text", "_dgl", "__init__",
)  # fmt: skip
LAYERS = [
    ROOT_MODULES,
    ("logs",),
    ("graph",),
    ("features",),
    ("ops", "_kernels"),
    ("nn",),
    ("losses",),
    ("models",),
    ("training",),
    ("evaluation",),
    ("link",),
    ("retrieval",),
    ("tuning", "benchmarking"),
    ("api", "config", "config_text", "doctor"),
    ("cli", "__main__"),
]
"""From left to right; a module imports from its own layer and from those before it."""

RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.AST, path: Path) -> set[tuple[str, int]]:
    """Return (room, line) of every import of graphrec, at any depth, except those for type checkers only."""
    found = set()
    for node in outside_type_checking(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            plain = node.module == "graphrec"
            names = [f"graphrec.{alias.name}" for alias in node.names] if plain else [node.module or ""]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "graphrec":
                found.add((parts[1] if len(parts) > 1 and parts[1] in RANK else "__init__", node.lineno))
    return found


def outside_type_checking(node: ast.AST) -> list[ast.AST]:
    """Return all nodes except those under `if TYPE_CHECKING:`."""
    found = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        found += [child, *outside_type_checking(child)]
    return found


def problems_of_layering(source: str, path: Path) -> list[str]:
    room = room_of(path)
    found = []
    for other, line in sorted(imported_rooms(ast.parse(source), path)):
        if RANK[other] > RANK[room]:
            found.append(f"{path.relative_to(ROOT)}:{line}: {room} must not import {other}, which is to its right")
    return found


def test_every_module_is_in_a_layer():
    assert {room_of(path) for path in SOURCES} == set(RANK)


def test_modules_import_only_from_their_left():
    problems = [problem for path in SOURCES for problem in problems_of_layering(path.read_text(), path)]
    assert not problems, "\n".join(problems)


HASHING = {"np.isin", "np.in1d", "np.union1d", "np.setdiff1d", "np.intersect1d"}
WHOLE_SPLITS = ("graph", "nn", "losses", "models", "training", "evaluation", "link", "tuning", "benchmarking")
"""Rooms to the right of `graphrec.graph.ids` that work on all pairs at once."""


def problems_of_sets(source: str) -> list[int]:
    """Lines with NumPy's set functions that hash, and take minutes for tens of millions of keys. With positions or counts
    np.unique sorts."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [
        call.lineno
        for call in calls
        if (name := ast.unparse(call.func)) in HASHING or (name == "np.unique" and not any(one.arg.startswith("return_") for one in call.keywords))
    ]


def test_sets_of_keys_are_sorted_not_hashed():
    found = [
        f"{path.relative_to(ROOT)}:{line}: take `distinct` and `contained` of graphrec.graph.ids, which sort"
        for path in SOURCES
        if room_of(path) in WHOLE_SPLITS
        for line in problems_of_sets(path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "lines"),
    [("np.unique(a)", [1]), ("np.unique(a, return_counts=True)", []), ("x = 1\nnp.isin(a, b)", [2]), ("distinct(a)", [])],
)
def test_the_set_test_can_fail(code: str, lines: list[int]):
    assert problems_of_sets(code) == lines


def test_registries_name_only_their_own_rooms_and_what_is_there():
    rooms = ("logs", "graph", "features", "nn", "losses", "models", "training", "evaluation", "link", "retrieval")
    for room in rooms:
        tree = ast.parse((PACKAGE / room / "__init__.py").read_text())
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
        for target in (text for text in texts if re.fullmatch(r"graphrec(\.\w+)+:\w+", str(text))):
            module, _, attribute = target.partition(":")
            file = ROOT / (module.replace(".", "/") + ".py")
            assert file.is_file(), f"{room} registers {target}, and there is no {file.relative_to(ROOT)}"
            assert attribute in names_bound_in(file), f"{file.relative_to(ROOT)} has no {attribute}"
            assert RANK[module.split(".")[1]] <= RANK[room]


def names_bound_in(file: Path) -> set[str]:
    found = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


@pytest.mark.parametrize(
    ("room", "line", "allowed"),
    [
        ("graph", "from graphrec.logs.table import InteractionLog", True),
        ("logs", "from graphrec.graph.store import GraphStore", False),
        ("logs", "def f():\n    from graphrec.graph.store import GraphStore", False),
        ("logs", "from graphrec import models", False),
        ("logs", "import graphrec.models.base", False),
        ("training", "from graphrec.evaluation.ranking import rank_users", False),
        ("models", "from graphrec.losses import bpr", True),
        ("losses", "from graphrec.models.base import Recommender", False),
        ("logs", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from graphrec.graph import store", True),
    ],
)
def test_the_layer_test_can_fail(room: str, line: str, allowed: bool):
    path = PACKAGE / room / "example.py" if room != "losses" else PACKAGE / "losses" / "example.py"
    assert (not problems_of_layering(line, path)) == allowed


@pytest.mark.parametrize("path", [*CODE, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_well_named(path: Path):
    assert len(path.read_text().splitlines()) <= 400, f"{path.name} is longer than 400 lines; split it"
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "misc", "manager", "base_utils"}


def test_forbidden_calls_are_not_there():
    problems = []
    for path in CODE:
        tree = ast.parse(path.read_text())
        where = path.relative_to(ROOT)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                if any(name.split(".")[0] in {"pickle", "cPickle", "dill", "joblib"} for name in names):
                    problems.append(f"{where}:{node.lineno}: pickle")
            if isinstance(node, ast.ExceptHandler) and swallows_everything(node):
                problems.append(f"{where}:{node.lineno}: except Exception: pass")
            if isinstance(node, ast.Call):
                problems += [f"{where}:{node.lineno}: {problem}" for problem in problems_of_call(node)]
    assert not problems, "\n".join(problems)


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    broad = handler.type is None or (isinstance(handler.type, ast.Name) and "Exception" in handler.type.id[:13])
    broad = broad and (handler.type is None or handler.type.id in {"Exception", "BaseException"})
    return broad and all(isinstance(statement, ast.Pass | ast.Continue) for statement in handler.body)


def problems_of_call(call: ast.Call) -> list[str]:
    name = ast.unparse(call.func)
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if name in {"eval", "exec"}:
        return [name]
    if name == "torch.load" and ast.unparse(keywords.get("weights_only", ast.Constant(False))) != "True":
        return ["torch.load without weights_only=True"]
    if ast.unparse(keywords.get("allow_pickle", ast.Constant(False))) != "False":
        return [f"{name} with allow_pickle"]
    if name in {"np.random.seed", "numpy.random.seed", "random.seed"}:
        return [f"{name}: the library never seeds globally"]
    return []


@pytest.mark.parametrize("code", ["eval('1')", "torch.load(f)", "torch.load(f, weights_only=False)", "random.seed(0)"])
def test_the_call_test_can_fail(code: str):
    assert problems_of_call(ast.parse(code).body[0].value)
