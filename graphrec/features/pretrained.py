"""Models of the `transformers` library by name or folder: found, identified and put on a device, for text, images and sound."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graphrec.errors import ConfigError, MissingExtraError

_ENDS = 1 << 20  # bytes hashed at each end of a weights file; the whole of a large model would take minutes


def import_transformers(extra: str, needed_for: str) -> Any:
    """Import `transformers`; `quietly` keeps it from talking.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise MissingExtraError("transformers", extra, needed_for) from None
    return transformers


@contextmanager
def quietly() -> Iterator[None]:
    """Keep the progress bars and the advice of `transformers` off for so long, and leave them as they were; also a decorator."""
    try:
        from transformers.utils import logging
    except ImportError:  # who needs it says so
        yield
        return
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_pretrained(load: Callable[..., Any], model: str, download: bool, what: str, **options: Any) -> Any:
    """Call a `from_pretrained` and turn what goes wrong into a message that says what to do.

    Args:
        load: `AutoModel.from_pretrained` and its kin.
        model: a folder, or a name on the model hub.
        download: whether a name that is not on this machine may be downloaded.
        what: for messages ("text encoder").
        options: passed on.

    Raises:
        ConfigError: the folder holds no such model, or the name is not on this machine and cannot be downloaded.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir() and model.startswith((".", "/", "~")):
        raise ConfigError(f"{what}: there is no folder {model}; give the folder that holds config.json and the weights")
    source, local = _source(model, download)
    try:
        return load(source, local_files_only=local, **options)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as problem:
        first = (str(problem).strip().splitlines() or [repr(problem)])[0]
        if folder.is_dir():
            raise ConfigError(f"{what}: cannot read a model from the folder {model}: {first}") from problem
        raise ConfigError(
            f"{what}: the model {model!r} is not on this machine and "
            f"{'downloads are off' if local else 'could not be downloaded'} ({first}); give a folder that holds it, fetch it "
            f"once with `hf download {model}`, or use the encoder wordllama, which needs no download"
        ) from problem


def read_json(model: str, name: str, download: bool) -> dict[str, Any] | None:
    """The content of a JSON file of a model, such as "1_Pooling/config.json"; None where it has no such file."""
    from transformers.utils import cached_file

    source, local = _source(model, download)
    missing = {f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")}
    path = cached_file(source, name, local_files_only=local, **missing)
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))


def _source(model: str, download: bool) -> tuple[str, bool]:
    """What `transformers` takes for a folder or name, and whether it may look on this machine only."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return str(folder), True
    return model, not download or os.environ.get("HF_HUB_OFFLINE", "") in ("1", "true", "ON", "YES")


def load_model(auto: Any, model: str, download: bool, what: str) -> Any:
    """Load a model with `auto.from_pretrained`, and refuse one whose folder lacks some of its weights.

    Raises:
        ConfigError: as in `load_pretrained`, or weights are missing, which would leave random ones in their place. A missing
            pooler is let pass: nothing here reads it.
    """
    loaded, report = load_pretrained(auto.from_pretrained, model, download, what, output_loading_info=True)
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing:
        raise ConfigError(
            f"{what}: the weights of {model} lack {len(missing)} of the model's tensors, the first is {missing[0]}; "
            "what is left random would give meaningless vectors, so fetch the model again or choose another"
        )
    return loaded


def part_for(kind: str, model: Any) -> Any:
    """The part of a model that reads "text", "image" or "audio": of one of both text and images (CLIP) that one, of an encoder
    with a decoder (T5, Whisper) the encoder, else the whole."""
    part = getattr(model, {"text": "text_model", "image": "vision_model", "audio": "audio_model"}[kind], None)
    if part is not None:
        return part
    return model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model


def identify(model: str, loaded: Any) -> dict[str, Any]:
    """Name a model so that other weights have another name: the commit on the hub, or a digest of the folder's files."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return {"model": model, "commit": getattr(loaded.config, "_commit_hash", None)}
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".bin", ".json", ".txt", ".model"}:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with open(path, "rb") as file:
                digest.update(file.read(_ENDS))
                if size > _ENDS:
                    file.seek(max(_ENDS, size - _ENDS))
                    digest.update(file.read())
    return {"model": folder.name, "files": digest.hexdigest()}


def choose_device(device: str) -> str:
    """Return "cuda" or "cpu" for "auto", and any other name as it is.

    Raises:
        ConfigError: it is no device of this machine.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:  # torch asserts that it was built with CUDA
        first = (str(problem).strip().splitlines() or [repr(problem)])[0]
        raise ConfigError(f"the device {device!r} is not there ({first}); give cpu, or auto") from None
    return device
