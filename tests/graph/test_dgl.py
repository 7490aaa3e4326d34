"""Importing DGL quietly, and only when it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(code: str, home: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "DGLBACKEND"}
    environment |= {"HOME": str(home), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_the_first_import_is_silent_and_writes_nothing_into_the_home_folder(tmp_path):
    output = run(
        "from graphrec._dgl import import_dgl; dgl = import_dgl(); assert import_dgl() is dgl; print(dgl.backend.backend_name)",
        tmp_path,
    )
    assert output == "pytorch\n"
    assert not (tmp_path / ".dgl").exists()


def test_opening_a_store_and_its_matrix_need_neither_dgl_nor_torch(shop, tmp_path):
    code = (
        "import sys; from graphrec.graph.store import GraphStore;"
        f"store = GraphStore.open({str(shop.folder)!r}); store.catalogue(); store.interactions('test');"
        "print(sorted({'dgl', 'torch'} & set(sys.modules)))"
    )
    assert run(code, tmp_path) == "[]\n"
