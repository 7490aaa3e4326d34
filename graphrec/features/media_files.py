"""Vectors of image and sound files from vision and audio models of `transformers`."""

from __future__ import annotations

import hashlib
import time
import wave
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from graphrec.errors import ConfigError, nearest
from graphrec.features import FILE_ENCODERS
from graphrec.features.cache import VectorCache
from graphrec.features.pretrained import (
    choose_device,
    identify,
    import_transformers,
    load_model,
    load_pretrained,
    part_for,
    quietly,
)
from graphrec.graph.sides import NEW_ITEMS
from graphrec.graph.store import GraphStore
from graphrec.progress import SILENT, Reporter
from graphrec.registry import resolve
from graphrec.settings import Settings

if TYPE_CHECKING:
    from graphrec.features.settings import FileFeature


class FileEncoderSettings(Settings):
    """Settings of the `image` and `audio` encoders."""

    model: str = Field(min_length=1)
    """A folder, or a name on the model hub, of a vision model (ViT, DINO, CLIP, ResNet) or an audio model (wav2vec 2, Whisper,
    AST); of CLIP and Whisper the part that reads the files is used."""
    pooling: Literal["mean", "cls"] = "mean"
    """What stands for a file: the mean of the last hidden states, or the first of them."""
    batch_size: int = Field(default=16, ge=1)
    """Files at a time."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1", or "auto": the GPU where there is one."""
    download: bool = True
    """Whether a name that is not on this machine may be downloaded."""


class FileEncoder(ABC):
    """v(file) = pool(last hidden states of the model), scaled to length one; float32 throughout.

    Raises:
        ConfigError: the model cannot be had.
        MissingExtraError: `transformers` is not installed.
    """

    Settings = FileEncoderSettings
    kind: ClassVar[str]

    @quietly()
    def __init__(self, settings: FileEncoderSettings) -> None:
        self.settings = settings
        transformers = import_transformers("text", f"the file encoder {self.kind}")
        what = f"file encoder {self.kind}"
        processor = transformers.AutoImageProcessor if self.kind == "image" else transformers.AutoFeatureExtractor
        self._processor = load_pretrained(processor.from_pretrained, settings.model, settings.download, what)
        self.device = choose_device(settings.device)
        model = load_model(transformers.AutoModel, settings.model, settings.download, what)
        self._identity = identify(settings.model, model)
        self._model = part_for(self.kind, model).to(self.device).eval()

    def identity(self) -> dict[str, Any]:
        """Return the model's identity and the pooling."""
        return {"name": self.kind, **self._identity, "pooling": self.settings.pooling}

    @quietly()
    def encode(self, paths: Sequence[Path]) -> np.ndarray:
        """Return float32 (n, F).

        Raises:
            ConfigError: a file cannot be read; the message names it.
        """
        import torch

        vectors = []
        for start in range(0, len(paths), self.settings.batch_size):
            batch = self._prepare(paths[start : start + self.settings.batch_size])
            with torch.inference_mode():
                hidden = self._hidden(batch.to(self.device)).float()  # (B, T, F)
                pooled = hidden.mean(1) if self.settings.pooling == "mean" else hidden[:, 0]
                vectors.append(torch.nn.functional.normalize(pooled, dim=1).cpu().numpy())
        return np.concatenate(vectors)

    def _hidden(self, batch: Any) -> Any:
        """The last hidden states (B, T, F) of a batch; of a convolutional network T are the places of its last map."""
        try:
            hidden = self._model(**batch).last_hidden_state
        except (AttributeError, TypeError, ValueError, RuntimeError) as problem:
            raise ConfigError(
                f"file encoder {self.kind}: the model {self.settings.model} makes no vectors of {self.kind} files "
                f"({str(problem).splitlines()[0]}); choose one for them, as `model` says"
            ) from problem
        return hidden.flatten(2).transpose(1, 2) if hidden.dim() == 4 else hidden

    @abstractmethod
    def _prepare(self, paths: Sequence[Path]) -> Any:
        """Read files into what the model takes in."""


class ImageEncoder(FileEncoder):
    """Images in any format that Pillow reads, as RGB."""

    kind = "image"

    def _prepare(self, paths: Sequence[Path]) -> Any:
        from PIL import Image, UnidentifiedImageError

        images = []
        for path in paths:
            try:
                with Image.open(path) as image:
                    images.append(image.convert("RGB"))
            except (OSError, UnidentifiedImageError) as problem:
                raise ConfigError(
                    f"{path}: cannot read it as an image ({problem}); replace it or empty its cell"
                ) from problem
        return self._processor(images=images, return_tensors="pt")


class AudioEncoder(FileEncoder):
    """Sound as 16-bit WAV at the rate the model wants; channels are averaged. One file at a time, so none is padded."""

    kind = "audio"

    def encode(self, paths: Sequence[Path]) -> np.ndarray:
        return np.concatenate([super(AudioEncoder, self).encode([path]) for path in paths])

    def _prepare(self, paths: Sequence[Path]) -> Any:
        rate = int(self._processor.sampling_rate)
        return self._processor(read_wave(paths[0], rate), sampling_rate=rate, return_tensors="pt")


def read_wave(path: Path, rate: int) -> np.ndarray:
    """Read a 16-bit WAV file as float32 (T,) in -1..1.

    Args:
        path: the file.
        rate: samples a second that it must have.

    Raises:
        ConfigError: it is no such file, or has another rate.
    """
    try:
        with wave.open(str(path), "rb") as sound:
            channels, width, found = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
            data = sound.readframes(sound.getnframes())
    except (OSError, EOFError, wave.Error) as problem:
        raise ConfigError(f"{path}: cannot read it as a WAV file ({problem}); convert it first") from problem
    if width != 2 or found != rate or not data:
        raise ConfigError(
            f"{path}: the model takes 16-bit WAV of {rate} samples a second, got {8 * width}-bit of {found} and "
            f"{len(data)} bytes; convert it: ffmpeg -i IN -ar {rate} -sample_fmt s16 OUT.wav"
        )
    samples = np.frombuffer(data, dtype="<i2").reshape(-1, channels).astype(np.float32)
    return samples.mean(axis=1) / 32768.0


def add_files(
    store: GraphStore, name: str, feature: FileFeature, cache: Path, progress: Reporter = SILENT
) -> list[dict[str, Any]]:
    """Encode the files of items and write the vectors into the store; an item without a file gets a row of zeros.

    Returns:
        What was written, as the fields of `graphrec.features.write.Written`.

    Raises:
        ConfigError: the column is missing, or a file cannot be read.
    """
    where, chosen = f"[features.media.{name}]", dict(feature.encoder)
    encoder = None
    written = []
    for ntype in ("item", NEW_ITEMS):
        table = store.table(ntype)
        if table is None and ntype == NEW_ITEMS:
            continue
        columns = [] if table is None else table.columns
        if feature.column not in columns:
            raise ConfigError(
                f"{where}: the item table has no column {feature.column!r}{nearest(feature.column, columns)}; "
                f"the columns are {', '.join(columns) or '(none)'}"
            )
        if encoder is None:
            kind = resolve("file encoder", FILE_ENCODERS, chosen.pop("name"))
            encoder = kind(kind.Settings(**chosen))
        names = [None if value is None or not str(value).strip() else str(value) for value in table[feature.column]]
        paths = {value: Path(feature.folder) / value for value in dict.fromkeys(names) if value is not None}
        start = time.monotonic()
        vectors, computed = _encode_files(encoder, paths, cache, progress)
        width = len(next(iter(vectors.values()))) if vectors else (written[0]["width"] if written else 1)
        array = np.zeros((len(names), width), dtype=np.float32)
        for row, value in enumerate(names):
            if value is not None:
                array[row] = vectors[value]
        given = sum(value is not None for value in names)
        identity = encoder.identity()
        provenance = {"kind": "files", "column": feature.column, "encoder": identity, "rows_given": given}
        store.add_feature(ntype, name, array, {**provenance, "rows_zero": len(names) - given})
        written.append({
            "feature": f"{ntype}.{name}", "encoder": encoder.kind, "rows": len(names), "given": given, "width": width,
            "computed": computed, "cached": len(vectors) - computed, "seconds": round(time.monotonic() - start, 3),
        })  # fmt: skip
    return written


def _encode_files(
    encoder: FileEncoder, paths: dict[str, Path], cache: Path, progress: Reporter
) -> tuple[dict[str, np.ndarray], int]:
    """Vectors by file name, from the cache where the file's content was encoded before, and how many were computed."""
    store, keys = VectorCache(cache, encoder.identity(), progress), {}
    for name, path in paths.items():
        try:
            keys[name] = hashlib.sha256(path.read_bytes()).digest()
        except OSError as problem:
            raise ConfigError(
                f"{path}: cannot read it ({problem.strerror}); correct the name or empty its cell"
            ) from problem
    missing = {key: name for name, key in keys.items() if store.get(key) is None}
    with progress.task(f"Encoding {encoder.kind} files", total=len(missing), unit="files") as task:
        step = encoder.settings.batch_size
        for start in range(0, len(missing), step):
            part = list(missing.items())[start : start + step]
            store.put([key for key, _ in part], encoder.encode([paths[name] for _, name in part]))
            task.advance(len(part))
    return {name: store.get(key) for name, key in keys.items()}, len(missing)
