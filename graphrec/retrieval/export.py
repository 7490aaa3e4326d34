"""Write a model's vectors with their original ids, in every format a retrieval service may want.

- `manifest.json`: model, run, store and fingerprint of its data, settings, counts, metric; per format its parameters, per file its size and sha256.
- `README.txt`: how to read each format, as Python that runs in the folder.
- `<format>/`: one folder per format, complete in itself.
"""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrec.atomic import atomic_folder
from graphrec.checksum import sha256_of
from graphrec.errors import ConfigError, RunError, UnsupportedError
from graphrec.models.base import Recommender, blocks
from graphrec.progress import SILENT, Reporter, takes_progress
from graphrec.registry import resolve
from graphrec.retrieval import EXPORTERS
from graphrec.retrieval.source import Source, open_model, open_run
from graphrec.retrieval.vectors import Exporter, ExportSettings, VectorTable, Written
from graphrec.settings import parse

if TYPE_CHECKING:
    from graphrec.training.run import Run

MANIFEST, README = "manifest.json", "README.txt"
SCHEMA_VERSION = 1
_PART_NOTE = (
    "the vectors of {model} {what}: {share:.1%} of their top 10 items per user are in the model's own top 10; for the "
    "model's full lists use graphrec recommend"
)


@dataclass(frozen=True, repr=False)
class Export:
    """A finished export: its folder and the content of its `manifest.json`."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """The files of all formats, as paths."""
        return [self.folder / name for name in self.manifest["files"]]

    def __repr__(self) -> str:
        return f"Export({str(self.folder)!r}, model={self.manifest['model']!r}, formats={list(self.manifest['formats'])})"


@takes_progress
def export(
    source: Source,
    folder: str | os.PathLike[str],
    formats: Sequence[str] | str | None = None,
    index: str | None = None,
    *,
    settings: ExportSettings | None = None,
    overwrite: bool = False,
    progress: Reporter | bool = SILENT,
    **overrides: Any,
) -> Export:
    """Write the user and item vectors of a trained model, each with its original id.

    The metric is the inner product: for one user, `item_vectors @ user_vector` orders the items as the model's own
    scores do. There are exceptions by design: the graph filter exports its low-rank factors, which are its ideal
    low-pass part without the item-item part, a model with a residual its trained vectors alone, a model whose head is no
    inner product what that head takes in, and a two-stage model the vectors of its retrieval. How far vectors and
    model agree is measured on a sample of users and written to the manifest, with a note where they differ.

    Args:
        source: a run, a model, or the folder of either.
        folder: where to; it appears whole or not at all.
        formats: names from `EXPORTERS`; None: those of `settings`, by default all.
        index: FAISS index of the items, "flat", "hnsw" or "ivf"; None: that of `settings`.
        settings: the `[export]` section; None: the defaults.
        overwrite: replace an export that is already there.
        progress: receives the steps.
        overrides: single settings that win over `settings`, such as `ivf_lists=256`.

    Returns:
        The folder and its manifest.

    Raises:
        ConfigError: a format, index or setting is unknown or out of range.
        UnsupportedError: the model has no vectors (popularity, user-knn, item-knn).
        RunError: the run cannot be read, its vectors are not finite, or the folder cannot be written.
    """
    settings = _settled(settings, formats, index, overrides)
    run = open_run(source)
    model = open_model(source) if run is None else run.model
    tables = vector_tables(model)
    with atomic_folder(folder, RunError, overwrite=overwrite, marker=(MANIFEST, README)) as temporary:
        parameters, notes = {}, []
        for name in settings.formats:
            exporter: Exporter = resolve("export format", EXPORTERS, name)
            (temporary / name).mkdir()
            written = exporter.write(tables, temporary / name, settings, progress)
            if not isinstance(written, Written):
                raise TypeError(
                    f"the export format {name}: write must return a graphrec.retrieval.vectors.Written, got {type(written).__name__}; "
                    "return Written() where there is nothing to say"
                )
            parameters[name] = written.parameters
            notes += written.notes
        agreement = model_agreement(model, tables)
        if agreement < 1.0 or not model.scores_are_dot_products:
            notes.insert(0, _PART_NOTE.format(model=model.name, what=model.vectors_note, share=agreement))
        manifest = _manifest(model, tables, parameters, notes) | _origin(run) | {"top10_agreement_with_model": agreement}
        (temporary / README).write_text(_readme(manifest, settings.formats), encoding="utf-8")
        manifest["files"] = _checksums(temporary)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for note in notes:
        progress.note(note)
    return Export(Path(folder), manifest)


def vector_tables(model: Recommender) -> list[VectorTable]:
    """Return the vectors of `model` per node type, users first.

    Raises:
        UnsupportedError: the model has no vectors.
        RunError: a vector holds NaN or infinity.
    """
    embeddings = model.embeddings()
    if embeddings is None:
        without = " and ".join(dict.fromkeys(_without_vectors(model)))
        who = "it" if without == model.name else f"{without}, which it is made of,"
        raise UnsupportedError(
            f"{model.name} has no embeddings to export: {who} scores items from counts or neighbours, not from vectors; "
            f"write its lists instead (graphrec recommend RUN --all --out lists.parquet), or train a model with "
            f"vectors (lightgcn, bpr-mf, graph-filter)"
        )
    id_maps = {"user": model.catalogue.users, "item": model.catalogue.items}
    tables = []
    for ntype in ("user", "item"):
        vectors = np.ascontiguousarray(embeddings[ntype], dtype=np.float32)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        ids = id_maps[ntype].series
        if len(bad):
            raise RunError(
                f"{len(bad):,} of {len(vectors):,} {ntype} vectors of {model.name} hold NaN or infinity, the first is "
                f"that of {ntype} {ids[int(bad[0])]}; training diverged: train again with a lower learning_rate"
            )
        vectors = vectors.view()
        vectors.flags.writeable = False  # no format changes what the next one writes, nor what a model keeps of its own
        tables.append(VectorTable(ntype, ids, vectors))
    return tables


def _without_vectors(model: Recommender) -> list[str]:
    """Names of the models that keep `model` from having vectors: its own, or those that it is made of."""
    from graphrec.models.ranker import TwoStage
    from graphrec.models.score_sum import ScoreSum

    parts = model.members if isinstance(model, ScoreSum) else [model.retrieval] if isinstance(model, TwoStage) else []
    lacking = [part for part in parts if part.embeddings() is None]
    return [name for part in lacking for name in _without_vectors(part)] or [model.name]


def model_agreement(model: Recommender, tables: list[VectorTable], num_users: int = 64, k: int = 10) -> float:
    """Return the mean share of the vectors' top `k` that is in the model's own top `k`, over evenly spaced users.

    Seen items are not masked on either side. An item that ties with the model's k-th counts as in, within a relative
    error of 1e-4 of the user's score range, which is what float32 sums in another order may differ by.

    Args:
        model: the model.
        tables: its users' and items' vectors, in this order.
        num_users: users looked at.
        k: list length.

    Returns:
        A share in 0..1, rounded to four places.
    """
    user, item = tables
    k = min(k, len(item.ids))
    sample = np.unique(np.linspace(0, len(user.ids) - 1, min(num_users, len(user.ids)), dtype=np.int64))
    shares = []
    for users in blocks(sample, len(item.ids)):
        scores = model.score(users).cpu().numpy()  # (B, I)
        listed = np.argpartition(-(user.vectors[users] @ item.vectors.T), k - 1, axis=1)[:, :k]
        best = -np.partition(-scores, k - 1, axis=1)[:, k - 1]  # (B,), the model's k-th score
        tolerance = 1e-4 * (scores.max(axis=1) - scores.min(axis=1))
        shares += list((np.take_along_axis(scores, listed, axis=1) >= (best - tolerance)[:, None]).mean(axis=1))
    return round(float(np.mean(shares)), 4)


def _settled(
    settings: ExportSettings | None, formats: Sequence[str] | str | None, index: str | None, overrides: dict[str, Any]
) -> ExportSettings:
    values = settings.model_dump() if settings is not None else {}
    if formats is not None:
        values["formats"] = (formats,) if isinstance(formats, str) else tuple(formats)
    if index is not None:
        values["index"] = index
    settled = parse(ExportSettings, {**values, **overrides}, "export")
    if index is not None and "faiss" not in settled.formats:
        raise ConfigError(f"export index: it is for the format faiss, got the formats {', '.join(settled.formats)}")
    return settled


def _manifest(
    model: Recommender, tables: list[VectorTable], parameters: dict[str, Any], notes: list[str]
) -> dict[str, Any]:
    from graphrec import __version__

    return {
        "schema_version": SCHEMA_VERSION,
        "graphrec": __version__,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "model": model.name,
        "model_settings": model.settings.model_dump(mode="json"),
        "metric": "inner_product",
        "dim": tables[0].vectors.shape[1],
        "dtype": "float32",
        "counts": {table.ntype: len(table.ids) for table in tables},
        "id_types": {table.ntype: table.id_type for table in tables},
        "formats": parameters,
        "notes": notes,
        "read_with": "README.txt",
    }


def _origin(run: Run | None) -> dict[str, Any]:
    """Which run the vectors are of, and which data: null for a model alone, which knows neither."""
    if run is None:
        return {"run": None, "store": None}
    return {"run": str(run.folder.resolve()), "store": run.config.store}


def _readme(manifest: dict[str, Any], formats: Sequence[str]) -> str:
    counts = ", ".join(f"{count:,} {ntype} vectors" for ntype, count in manifest["counts"].items())
    lines = [
        f"Vectors of the model {manifest['model']}: {counts} of {manifest['dim']} float32 values, with original ids.",
        f"Written {manifest['created']} by graphrec {manifest['graphrec']}"
        + (f", of the run {manifest['run']}, trained on the store {manifest['store']['path']}." if manifest["run"] else "."),
        "Metric: inner product. A higher product of a user's and an item's vector means a better match.",
        "Items the user already knows are not left out here; graphrec recommend does that.",
        "Each example runs in this folder and prints the 10 best items of the first user.",
        "",
    ]
    for name in formats:
        exporter: Exporter = resolve("export format", EXPORTERS, name)
        lines += [f"{name}/: {exporter.summary}", ""]
        lines += [f"    {line}" for line in exporter.example.splitlines()]
        lines += ["    print(top_items)", ""]
    if manifest["notes"]:
        lines += ["Notes:", *(f"- {note}" for note in manifest["notes"]), ""]
    return "\n".join(lines)


def _checksums(folder: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return found
