"""The benchmark scripts fit together: what one takes from another is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SCRIPTS = {path.stem: path for path in (Path(__file__).parents[1] / "examples" / "benchmarks").glob("*.py")}


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
