"""A store of vectors by content: what was encoded once with an encoder is read back and not computed again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from graphrec.atomic import atomic_file
from graphrec.errors import StoreError
from graphrec.progress import SILENT, Reporter

_SUFFIX = ".safetensors"


def digest(content: str) -> bytes:
    """Return the SHA-256 of a text, 32 bytes; lone surrogates, which no encoding allows, count as what they are."""
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()


class VectorCache:
    """Vectors of one encoder on disk, by the digest of what was encoded.

    The folder of an encoder is named by the digest of its identity, so another model, pooling or prompt never answers for
    this one. Vectors are appended as parts, each written whole and renamed, so a run that was interrupted goes on after
    its last part, and two processes may write at once. Every part carries a digest of its content: a damaged one is
    announced, removed and computed again.

    Args:
        folder: of all encoders.
        identity: of this encoder, JSON-able.
        progress: is told of damaged parts.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], progress: Reporter = SILENT) -> None:
        text = json.dumps(identity, sort_keys=True)
        self.folder = Path(folder) / digest(text).hex()[:24]
        self._vectors: dict[bytes, np.ndarray] = {}
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            self._read(path, progress)
        if not (self.folder / "identity.json").exists():
            with atomic_file(self.folder / "identity.json", StoreError) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")

    def __len__(self) -> int:
        return len(self._vectors)

    def get(self, key: bytes) -> np.ndarray | None:
        """Return the vector (F,) stored under `key`, or None."""
        return self._vectors.get(key)

    def put(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Store float32 vectors (n, F) under n keys, as one part on the disk.

        Raises:
            StoreError: the disk is full or the folder cannot be written.
        """
        if len(keys) != len(vectors):
            raise ValueError(f"VectorCache.put: {len(keys)} keys need as many vectors, got {len(vectors)}")
        if not keys:
            return
        packed = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), -1).copy()
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        check = _check(packed, vectors)
        with atomic_file(self.folder / f"{check[:24]}{_SUFFIX}", StoreError) as temporary:
            save_file({"keys": packed, "vectors": vectors}, temporary, metadata={"sha256": check})
        self._vectors.update(zip(keys, vectors, strict=True))

    def _read(self, path: Path, progress: Reporter) -> None:
        try:
            with safe_open(path, framework="numpy") as file:
                keys, vectors, metadata = file.get_tensor("keys"), file.get_tensor("vectors"), file.metadata() or {}
            problem = None if metadata.get("sha256") == _check(keys, vectors) else "its SHA-256 differs"
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            problem = str(error)
        if problem is not None:
            progress.note(f"{path} is damaged ({problem}); it is removed and its vectors are computed again")
            path.unlink(missing_ok=True)
            return
        self._vectors.update((row.tobytes(), vector) for row, vector in zip(keys, vectors, strict=True))


def _check(keys: np.ndarray, vectors: np.ndarray) -> str:
    found = hashlib.sha256(repr((keys.shape, vectors.shape)).encode())
    found.update(np.ascontiguousarray(keys).tobytes())
    found.update(np.ascontiguousarray(vectors).tobytes())
    return found.hexdigest()
