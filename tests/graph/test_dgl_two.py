"""The graph room on dgl 2.1.0, the only release for Python 3.12.

GRAPHREC_DGL2 names a folder made by `pip install --no-deps --target FOLDER dgl==2.1.0`; `make test-dgl2` does it all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("GRAPHREC_DGL2")
ROOT = Path(__file__).parents[2]

CODE = """
import sys
from graphrec._dgl import import_dgl
dgl = import_dgl()
assert dgl.__version__ == "2.1.0", dgl.__version__
assert not hasattr(sys.modules.get("pandas"), "__path__") or sys.modules["pandas"].__file__
from graphrec.graph.build import build
from graphrec.graph.convert import from_networkx, to_networkx, to_scipy
from graphrec.graph.info import graph_info
from graphrec.graph.store import GraphStore
from tests.graph.small import shop_log
build(shop_log(), sys.argv[1] + "/shop", target_behavior="buy")
store = GraphStore.open(sys.argv[1] + "/shop")
graph = store.graph()
assert graph.num_edges("buy") == store.train_matrix().nnz == graph.num_edges("rev_buy")
assert (to_scipy(store, ("item", "rev_buy", "user")).T != store.train_matrix()).nnz == 0
again = build(from_networkx(to_networkx(store)), sys.argv[1] + "/again", target_behavior="buy", split={"valid": 0, "test": 0})
assert (again.train_matrix() != store.train_matrix()).nnz == 0
assert graph_info(store).nodes == {"user": 12, "item": 12, "entity": 2}
print("works on dgl", dgl.__version__)
"""

READ = "import sys; from graphrec.graph.store import GraphStore; print(GraphStore.open(sys.argv[1]).graph().num_edges('buy'))"


def run(code: str, argument: Path, home: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "DGLBACKEND"}
    environment |= {"PYTHONPATH": str(FOLDER), "HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(argument)]
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


pytestmark = pytest.mark.skipif(not FOLDER, reason="GRAPHREC_DGL2 names no folder with dgl 2.1.0; run make test-dgl2")


def test_build_open_and_convert(tmp_path):
    (tmp_path / "home").mkdir()
    assert run(CODE, tmp_path, tmp_path / "home") == "works on dgl 2.1.0\n"
    assert list((tmp_path / "home").glob(".dgl*")) == []


def test_a_store_of_the_other_release_is_read(shop, tmp_path):
    assert run(READ, shop.folder, tmp_path) == f"{shop.graph().num_edges('buy')}\n"
