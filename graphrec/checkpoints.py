"""Checkpoints: safetensors and JSON, whole at every moment, verified when read, never pickle.

    <folder>/state.json        position and small state, and the name, size and sha256 of the tensor file it belongs to
    <folder>/a.safetensors     or b.safetensors: the tensors

The tensors of the next checkpoint go to the slot that `state.json` does not name, and replacing `state.json` is one rename;
so whenever the process dies, the folder holds the last whole checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from graphrec.atomic import atomic_file
from graphrec.checksum import sha256_of
from graphrec.errors import RunError

SCHEMA_VERSION = 1
STATE = "state.json"
_SLOTS = ("a.safetensors", "b.safetensors")
_MEND = "delete the folder of the run, or train again with --overwrite"


def save(folder: Path, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Replace the checkpoint in `folder`.

    Args:
        folder: made if missing.
        tensors: name to tensor on any device; no two may share memory.
        state: what JSON can hold.

    Raises:
        RunError: the disk is full or the folder cannot be written; the checkpoint before this one stays good.
    """
    current = _named_slot(folder)
    name = next(slot for slot in _SLOTS if slot != current)
    with atomic_file(folder / name, RunError) as temporary:
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, temporary)
        record = {"name": name, "bytes": temporary.stat().st_size, "sha256": sha256_of(temporary)}
    with atomic_file(folder / STATE, RunError) as temporary:
        payload = {"schema_version": SCHEMA_VERSION, "tensors": record, "state": state}
        temporary.write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")
    if current is not None:
        (folder / current).unlink(missing_ok=True)


def load(folder: Path, mend: str = _MEND) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the checkpoint of `folder`: tensors on the CPU, and the state.

    Args:
        folder: where `save` wrote it.
        mend: what messages tell a user to do about a damaged one.

    Raises:
        RunError: there is none, or it is truncated, edited, or from a newer graphrec; the message names the file.
    """
    path = folder / STATE
    if not path.is_file():
        raise RunError(f"{folder} holds no checkpoint ({STATE} is missing); start the training again with --overwrite")
    try:
        payload = json.loads(path.read_text(encoding="utf-8"))
        version, record, state = int(payload["schema_version"]), payload["tensors"], dict(payload["state"])
        name, size, digest = str(record["name"]), int(record["bytes"]), str(record["sha256"])
    except (ValueError, KeyError, TypeError) as problem:
        raise RunError(f"{path} is damaged ({problem}); {mend}") from problem
    if version > SCHEMA_VERSION:
        raise RunError(
            f"{path} has schema version {version}, this graphrec reads up to {SCHEMA_VERSION}; upgrade graphrec"
        )
    tensors = folder / name
    if name not in _SLOTS or not tensors.is_file():
        raise RunError(f"{tensors}, which {path} names, is missing; {mend}")
    if tensors.stat().st_size != size:
        raise RunError(f"{tensors} holds {tensors.stat().st_size} bytes, {size} were written: it is truncated; {mend}")
    if sha256_of(tensors) != digest:
        raise RunError(f"{tensors} was changed after it was written (sha256 differs); {mend}")
    try:
        return load_file(tensors), state
    except (OSError, SafetensorError) as problem:
        raise RunError(f"{tensors} cannot be read ({problem}); {mend}") from problem


def exists(folder: Path) -> bool:
    """Tell whether `folder` holds a checkpoint."""
    return (folder / STATE).is_file()


def _named_slot(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / STATE).read_text(encoding="utf-8"))["tensors"]["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
