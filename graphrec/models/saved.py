"""The saved form of a model: a JSON header, safetensors weights and the catalogue, each checked when read back.

<folder>/model.json            Header: schema version, model name, settings, size and sha256 of every other file
<folder>/model.safetensors     the learned arrays
<folder>/catalogue/            ids, seen items and titles (`graphrec.graph.catalogue`)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from graphrec import models
from graphrec.atomic import atomic_folder
from graphrec.checksum import sha256_of
from graphrec.errors import ConfigError, GraphrecError, RunError
from graphrec.registry import resolve
from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.graph.catalogue import Catalogue
    from graphrec.models.base import Recommender

T, M = TypeVar("T"), TypeVar("M")

SCHEMA_VERSION = 1
HEADER = "model.json"
WEIGHTS = "model.safetensors"
CATALOGUE = "catalogue"


class FileCheck(BaseModel):
    """Size in bytes and sha256 of one file as it was written."""

    bytes: int
    sha256: str


class Header(BaseModel):
    """The content of `model.json`."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int
    name: str
    settings: dict[str, Any]
    files: dict[str, FileCheck]


def write(
    folder: str | os.PathLike[str],
    name: str,
    settings: Settings,
    state: dict[str, torch.Tensor | np.ndarray],
    catalogue: Catalogue,
    *,
    overwrite: bool = False,
) -> None:
    """Write a model folder, whole or not at all.

    Args:
        folder: where to.
        name: the registered model name.
        settings: the model's settings.
        state: name to array; any dtype that safetensors holds.
        catalogue: the users and items the model was fitted on.
        overwrite: replace a model that is already there.

    Raises:
        RunError: the folder exists and `overwrite` is false, or it cannot be written.
    """
    write_parts(
        folder, HEADER, name, settings, state, lambda folder: catalogue.save(folder / CATALOGUE), overwrite=overwrite
    )


def write_parts(
    folder: str | os.PathLike[str],
    header_file: str,
    name: str,
    settings: Settings,
    state: Mapping[str, torch.Tensor | np.ndarray],
    beside: Callable[[Path], None],
    *,
    overwrite: bool = False,
) -> None:
    """Write a header and arrays, whole or not at all, as `write` does.

    Args:
        folder, name, settings, state, overwrite: as for `write`.
        header_file: name of the header, which tells kinds of models apart.
        beside: writes what else belongs to the model into the folder it is given.

    Raises:
        RunError: the folder exists and `overwrite` is false, or it cannot be written.
    """
    with atomic_folder(folder, RunError, overwrite=overwrite, marker=header_file) as temporary:
        save_file({key: _as_tensor(array) for key, array in state.items()}, temporary / WEIGHTS)
        beside(temporary)
        files = {str(path.relative_to(temporary)): _check_of(path) for path in _files(temporary)}
        header = Header(
            schema_version=SCHEMA_VERSION, name=name, settings=settings.model_dump(mode="json"), files=files
        )
        (temporary / header_file).write_text(header.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_catalogue(folder: Path) -> Catalogue:
    """Read the catalogue of a model folder, what `write` puts beside the arrays."""
    from graphrec.graph.catalogue import Catalogue

    return Catalogue.load(folder / CATALOGUE)


def read_parts(
    folder: Path, header_file: str, beside: Callable[[Path], T]
) -> tuple[Header, dict[str, torch.Tensor], T]:
    """Read and verify what `write_parts` wrote.

    Args:
        folder: the folder.
        header_file: name of the header.
        beside: reads what else belongs to the model.

    Returns:
        The header, the arrays as CPU tensors, and what `beside` gives.

    Raises:
        RunError: a file is missing, truncated or edited, or the folder was written by a newer graphrec.
    """
    header = read_header(folder, header_file)
    for relative, expected in header.files.items():
        _verify(folder / relative, expected)
    try:
        return header, load_file(folder / WEIGHTS), beside(folder)
    except (OSError, SafetensorError, GraphrecError) as problem:
        raise RunError(f"{folder} cannot be read as a model: {problem}; train and save it again") from problem


def load_as(
    cls: type[M],
    folder: str | os.PathLike[str],
    header_file: str,
    beside: Callable[[Path], T],
    table: Mapping[str, str],
    word: str,
    elsewhere: str,
    attribute: str,
) -> M:
    """Read what `write_parts` wrote as a model of a class.

    Args:
        cls: what to make; the base of all, which has no name of its own, stands for the class that the saved name finds.
        folder, header_file, beside: as for `read_parts`.
        table: the registry of the classes.
        word: what such a model is called in messages.
        elsewhere: what reads a model of any class, for the message about one of another class.
        attribute: of the model that gets what `beside` read, before its `_restore` takes the arrays.

    Raises:
        RunError: as `read_parts`; or the folder holds a model of another class, or settings or arrays do not fit it.
    """
    folder = Path(folder)
    header, state, found = read_parts(folder, header_file, beside)
    if getattr(cls, "name", header.name) != header.name:
        raise RunError(f"{folder} holds a {header.name} {word}, not {cls.name}; use {elsewhere}")
    try:
        kind = cls if hasattr(cls, "name") else resolve(word, table, header.name)
        model = kind(header.settings)
    except ConfigError as problem:
        raise RunError(f"{folder / header_file}: {problem}; the {word} was saved by another graphrec") from problem
    setattr(model, attribute, found)
    try:
        model._restore(state)
    except (KeyError, ValueError, RuntimeError) as problem:
        raise RunError(f"{folder / WEIGHTS} does not fit the {word} {header.name}: {problem}") from problem
    return model


def part_of(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name[len(prefix) :]: array for name, array in state.items() if name.startswith(prefix)}


def restore_part(part: Mapping[str, Any], state: dict[str, torch.Tensor], catalogue: Catalogue) -> Recommender:
    """Make a model that is saved as a part of another one.

    Args:
        part: `{"name": ..., "settings": {...}}`, as the whole names it in its settings.
        state: its arrays.
        catalogue: of the whole.
    """
    made = resolve("model", models.MODELS | models.MADE_FROM_RUNS, part["name"])(part["settings"])
    made.catalogue = catalogue
    made._restore(state)
    return made


def read_header(folder: Path, header_file: str = HEADER) -> Header:
    """Read and check the header alone.

    Raises:
        RunError: the folder holds no model, its header is damaged, or it was written by a newer graphrec.
    """
    path = folder / header_file
    if not path.is_file():
        raise RunError(f"{folder} holds no model ({header_file} is missing); give a folder written by save or train")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = int(values["schema_version"])
    except (ValueError, KeyError, TypeError) as problem:
        raise RunError(f"{path} is damaged ({problem}); train and save the model again") from problem
    if version > SCHEMA_VERSION:
        raise RunError(
            f"{path} has schema version {version}, this graphrec reads up to {SCHEMA_VERSION}; upgrade graphrec"
        )
    try:
        return Header.model_validate(values)
    except ValidationError as problem:
        fields = ", ".join(".".join(map(str, error["loc"])) for error in problem.errors())
        raise RunError(f"{path} is damaged (wrong: {fields}); train and save the model again") from problem


def csr_arrays(name: str, matrix: sp.csr_matrix) -> dict[str, np.ndarray]:
    """Take a sparse matrix apart for `_state`, under the keys `<name>.indptr`, `.indices` and `.data`."""
    return {
        f"{name}.indptr": matrix.indptr.astype(np.int64),
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.data": matrix.data.astype(np.float32),
    }


def csr_from(state: dict[str, torch.Tensor], name: str, num_columns: int) -> sp.csr_matrix:
    """Put a sparse matrix together again from what `csr_arrays` wrote."""
    data, indices, indptr = (state[f"{name}.{part}"].numpy() for part in ("data", "indices", "indptr"))
    return sp.csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, num_columns))


def _verify(path: Path, expected: FileCheck) -> None:
    if not path.is_file():
        raise RunError(f"{path} is missing; train and save the model again")
    size = path.stat().st_size
    if size != expected.bytes:
        raise RunError(f"{path} holds {size} bytes, {expected.bytes} were written; copy or save the model again")
    if sha256_of(path) != expected.sha256:
        raise RunError(f"{path} was changed after it was written (sha256 differs); copy or save the model again")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _check_of(path: Path) -> FileCheck:
    return FileCheck(bytes=path.stat().st_size, sha256=sha256_of(path))


def _as_tensor(array: torch.Tensor | np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array)) if isinstance(array, np.ndarray) else array
    return tensor.detach().cpu().contiguous()
