"""Link-prediction data sets of the Open Graph Benchmark, read by ogb's own loader from a folder that is already there.

Source: Hu et al. 2020, Open Graph Benchmark, arXiv:2005.00687. The package ogb (MIT licence) reads the files. Nothing is
downloaded, nothing is written into the folder, and no pickle is executed: the loader works in a temporary folder of links,
under torch's restricted unpickler with NumPy arrays allowed.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphrec._dgl import import_dgl
from graphrec.errors import LogError, MissingExtraError
from graphrec.logs.link_graph import HeldOut, LinkGraph, clean_edges, refuse_two_types


@dataclass(frozen=True)
class _Layout:
    """What a data set's folder holds."""

    split: str
    directed: bool
    metric: str
    binary: bool = False

    def files(self) -> list[str]:
        """The files that must be there, relative to the folder."""
        tables = ["raw/data.npz"] if self.binary else [f"raw/{name}.csv.gz" for name in _CSV]
        return [*tables, *[f"split/{self.split}/{side}.pt" for side in ("train", "valid", "test")]]


_CSV = ("edge", "num-node-list", "num-edge-list")
_DATASETS = {
    "ogbl-collab": _Layout("time", False, "hits@50"),
    "ogbl-ddi": _Layout("target", False, "hits@20"),
    "ogbl-ppa": _Layout("throughput", False, "hits@100"),
    "ogbl-citation2": _Layout("time", True, "mrr"),
    "ogbl-vessel": _Layout("spatial", False, "auc", binary=True),
}
_SEVERAL_TYPES = ("ogbl-biokg", "ogbl-wikikg2")


def read_link_graph(folder: str | os.PathLike[str], name: str | None = None) -> LinkGraph:
    """Read an ogbl data set with its own split.

    Message passing and training use the split's training edges only. Repeated training edges merge, their weights are summed
    and the latest year stays; held-out links are taken as they are.

    Args:
        folder: the data set's folder, such as `dataset/ogbl_collab`, or one that holds exactly one such folder.
        name: the data set, such as "ogbl-collab"; None goes by the folder's name.

    Raises:
        LogError: the folder or one of its files is missing or damaged, or the data set is none of the known ones.
        UnsupportedError: the data set has several node or edge types.
        MissingExtraError: ogb is not installed.
    """
    path, name, layout = _find(Path(folder), name)
    graph, split = _load(path, name, layout)
    train, valid, test = (split[side] for side in ("train", "valid", "test"))
    num_nodes = int(graph["num_nodes"])
    weight, year = (None if train.get(key) is None else _array(train[key]).reshape(-1) for key in ("weight", "year"))
    raw = _pairs(train, "edge", path)
    if len(raw) and (raw.min() < 0 or raw.max() >= num_nodes):
        raise LogError(f"{path}: training edges must name nodes 0..{num_nodes - 1}, got {raw.min()}..{raw.max()}")
    edges, weight, year, dropped = clean_edges(
        raw,
        num_nodes,
        layout.directed,
        None if weight is None else weight.astype(np.float32),
        None if year is None else year.astype(np.int64),
    )
    features = graph.get("node_feat")
    return LinkGraph(
        num_nodes,
        edges,
        _held_out(valid, path),
        _held_out(test, path),
        directed=layout.directed,
        features=None if features is None else np.ascontiguousarray(features, dtype=np.float32),
        weight=weight,
        year=year,
        dropped=dropped,
        metric=layout.metric,
        benchmark=name,
        negatives_are="those of the data set's own split",
        source=str(path),
    )


def is_ogb_folder(path: Path) -> bool:
    """Whether a folder is an ogbl data set or holds one."""
    return path.is_dir() and (_name_of(path) is not None or any(_name_of(child) for child in path.iterdir()))


def import_ogb() -> Any:
    """Import `ogb.linkproppred` without the version check that it starts over the network, and return the module.

    The check runs in a thread when the package `outdated` can be imported; here it cannot for the time of ogb's own import,
    and neither that nor the environment variable that ogb sets remains.

    Raises:
        MissingExtraError: ogb is not installed.
    """
    if "ogb" not in sys.modules:
        import_dgl()  # ogb imports it too, which would ask for a backend and write into the home folder
        hidden, before = sys.modules.get("outdated"), os.environ.get("OUTDATED_IGNORE")
        sys.modules["outdated"] = None  # type: ignore[assignment] - makes `import outdated` fail
        try:
            importlib.import_module("ogb")
        except ImportError:
            raise MissingExtraError("ogb", "ogb", "reading an ogbl data set") from None
        finally:
            del sys.modules["outdated"]
            if hidden is not None:
                sys.modules["outdated"] = hidden
            os.environ.pop("OUTDATED_IGNORE", None)
            if before is not None:
                os.environ["OUTDATED_IGNORE"] = before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("ogb.linkproppred")


def _name_of(path: Path) -> str | None:
    name = path.name.replace("_", "-")
    return name if name in _DATASETS or name in _SEVERAL_TYPES else None


def _find(folder: Path, name: str | None) -> tuple[Path, str, _Layout]:
    """The data set's own folder, its name, and its layout, all files checked."""
    if not folder.is_dir():
        raise LogError(f"no such folder: {folder}; {_advice(name)}")
    if name is None and _name_of(folder) is None:
        inside = sorted(child for child in folder.iterdir() if child.is_dir() and _name_of(child))
        if len(inside) != 1:
            found = ", ".join(child.name for child in inside) or "no data set's folder"
            raise LogError(f"{folder}: the folder's name must tell the data set, and it holds {found}; {_advice(None)}")
        folder = inside[0]
    name = (name or _name_of(folder) or "").replace("_", "-")
    if name in _SEVERAL_TYPES:
        raise refuse_two_types(str(folder), f"{name}, whose edges have several types")
    if name not in _DATASETS:
        raise LogError(f"{folder}: unknown data set {name!r}; choose one of {', '.join(_DATASETS)}")
    layout = _DATASETS[name]
    whole = (folder / "split" / layout.split / "split_dict.pt").is_file()
    missing = [file for file in layout.files() if not (folder / file).is_file() and not (whole and file.startswith("split"))]
    if missing:
        raise LogError(f"{folder}: {', '.join(missing)} {'are' if missing[1:] else 'is'} missing; {_advice(name)}")
    return folder, name, layout


def _advice(name: str | None) -> str:
    name = name if name in _DATASETS else "ogbl-collab"
    files = ", ".join(_DATASETS[name].files())
    return (
        f"a data set's folder is named as in {name.replace('-', '_')} and holds {files}; get it from "
        f"https://ogb.stanford.edu/docs/linkprop or with ogb's own LinkPropPredDataset({name!r}), which downloads it"
    )


def _load(folder: Path, name: str, layout: _Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    loader = import_ogb().LinkPropPredDataset
    with tempfile.TemporaryDirectory(prefix="graphrec-ogb-") as temporary:
        # The loader asks on the terminal without the release note, and keeps a pickle of the graph in `processed`.
        root = Path(temporary) / name.replace("-", "_")
        (root / "processed").mkdir(parents=True)
        (root / "RELEASE_v1.txt").touch()
        for part in ("raw", "split"):
            (root / part).symlink_to((folder / part).resolve(), target_is_directory=True)
        try:
            with _quiet(), _restricted_unpickling():
                data = loader(name, root=temporary)
                return data.graph, data.get_edge_split(layout.split)
        except (ValueError, KeyError, OSError, EOFError, RuntimeError, IndexError) as problem:
            raise LogError(f"{folder}: damaged ({type(problem).__name__}: {problem}); copy the folder again") from problem
        except Exception as problem:
            if type(problem).__name__ != "UnpicklingError":
                raise
            reason = next((line for line in str(problem).splitlines() if "nsupported" in line), "").partition(". Please")[0]
            raise LogError(
                f"{folder}/split/{layout.split}: a file cannot be read without executing what it says ({reason.strip()}); if you trust it, write it anew once: "
                'python -c "import sys, torch; [torch.save(torch.load(f, weights_only=False), f) for f in sys.argv[1:]]" '
                f"{folder}/split/{layout.split}/*.pt"
            ) from problem


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _restricted_unpickling() -> Iterator[None]:
    """Let torch read NumPy arrays, and nothing that is code, also where a torch before 2.6 would execute."""
    import torch

    core = importlib.import_module("numpy._core.multiarray" if np.__version__ >= "2" else "numpy.core.multiarray")
    rebuild = core._reconstruct
    names = [f"numpy.{part}.multiarray._reconstruct" for part in ("core", "_core")]
    dtypes = [type(np.dtype(code)) for code in ("i8", "i4", "i2", "u1", "f8", "f4", "f2", "b1")]
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    allowed = [*((rebuild, name) for name in names), np.ndarray, np.dtype, *dtypes, bytes]
    try:
        with torch.serialization.safe_globals(allowed):  # the last is what an array without rows is made from
            yield
    finally:
        del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def _held_out(side: dict[str, Any], path: Path) -> HeldOut:
    if "source_node" in side:  # citation2: K other targets for each link
        ends = [_array(side[key]).reshape(-1) for key in ("source_node", "target_node")]
        return HeldOut(np.stack(ends, 1).astype(np.int64), negative_targets=_array(side["target_node_neg"]).astype(np.int64))
    return HeldOut(_pairs(side, "edge", path), _pairs(side, "edge_neg", path))


def _pairs(side: dict[str, Any], key: str, path: Path) -> np.ndarray:
    if key == "edge" and "source_node" in side:
        return np.stack([_array(side[name]).reshape(-1) for name in ("source_node", "target_node")], 1).astype(np.int64)
    if key not in side:
        raise LogError(f"{path}: the split has no {key!r}; it holds {', '.join(side)}; copy the folder again")
    return _array(side[key]).reshape(-1, 2).astype(np.int64)


def _array(values: Any) -> np.ndarray:
    return values.numpy() if hasattr(values, "numpy") else np.asarray(values)
