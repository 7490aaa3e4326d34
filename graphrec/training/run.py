"""The run folder: what was trained, on what, how, and the result.

<folder>/config.json           RunConfig: model and training settings with every default filled in, and the store
<folder>/model/                the trained model (`Recommender.save`); there when training is complete
<folder>/checkpoints/last/     where training stands; what a resumed run goes on from
<folder>/checkpoints/best/     the parameters after the best validation so far
<folder>/metrics.jsonl         one line per epoch
<folder>/events.out.tfevents*  the same for TensorBoard
<folder>/replacement/          the run that is trained to replace this one, a run folder itself (`graphrec.training.place`)
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from graphrec import __version__
from graphrec.atomic import atomic_file, is_vacant
from graphrec.errors import RunError, seen_from, shell_word
from graphrec.graph.sides import HELD_LINKS
from graphrec.models import load_model
from graphrec.models.base import Recommender
from graphrec.training import journal
from graphrec.training.place import CONFIG, MODEL, REPLACEMENT, recover

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

SCHEMA_VERSION = 1


class RunRecord(BaseModel):
    """The content of `config.json`.

    Attributes:
        model: `{"name": ..., "settings": {...}}`.
        train: the `TrainSettings`; a closed-form model uses only its seed. Of a second stage the `RankSettings`; of a sum the runs
            and their weights, and under `members` the `Run.training` of each.
        store: `{"path": absolute folder, "fingerprint": digest of the training events, ids and held-out links}`.
        origins: what the inputs of each node type start from or are made of; empty for a closed-form model;
            of a second stage or a sum those of the runs that it is made of.
        learned: the held-out splits of which the run that the training started from had seen interactions; of a second stage or a
            sum those of the runs that it is made of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    graphrec_version: str = __version__
    model: dict[str, Any]
    train: dict[str, Any]
    store: dict[str, str]
    origins: dict[str, str] = {}
    learned: list[str] = []

    def write(self, folder: Path) -> None:
        """Write `config.json`.

        Raises:
            RunError: the folder cannot be written.
        """
        with atomic_file(folder / CONFIG, RunError) as temporary:
            left_out = set() if self.learned else {"learned"}  # which an earlier graphrec would not know
            temporary.write_text(self.model_dump_json(indent=2, exclude=left_out) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read and check `config.json`.

        Raises:
            RunError: there is none, it is damaged, or it was written by a newer graphrec.
        """
        path = folder / CONFIG
        if not path.is_file():
            where = shell_word(folder) if is_vacant(folder) else "FOLDER"
            raise RunError(f"{folder} holds no run ({CONFIG} is missing){seen_from(folder)}; train one with: graphrec train --out {where}")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version = int(values["schema_version"])
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise RunError(f"{path} is damaged ({problem!r}); train again with --overwrite") from problem
        if version > SCHEMA_VERSION:
            raise RunError(
                f"{path} has schema version {version}, this graphrec reads up to {SCHEMA_VERSION}; upgrade graphrec"
            )
        try:
            return cls.model_validate(values)
        except ValidationError as problem:
            wrong = ", ".join(".".join(map(str, error["loc"])) for error in problem.errors())
            raise RunError(f"{path} is damaged (wrong: {wrong}); train again with --overwrite") from problem


@dataclass(frozen=True)
class Run:
    """A completed training run.

    Attributes:
        folder: the run folder.
        model: the trained model, with the best weights where there was a validation split.
        store_path: the store it was trained on.
        config: model and training settings, resolved.
        found: what tells the run from one that takes its place in the folder.
    """

    folder: Path
    model: Recommender
    store_path: Path
    config: RunRecord
    found: tuple[int, int] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", identity(self.folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Run:
        """Read a run folder.

        Raises:
            RunError: there is no run, its training is not complete, or a file is damaged or from a newer graphrec.
        """
        path = Path(folder)
        _wait_for_a_replacement(path)
        record = RunRecord.read(path)
        if not (path / MODEL).is_dir():
            raise RunError(
                f"the training in {path} is not complete; go on with: graphrec train --resume --out {shell_word(path)} (or, where it failed "
                "for its settings, train again with --overwrite)"
            )
        found = identity(path)
        model = load_model(path / MODEL)
        if identity(path) != found or RunRecord.read(path) != record:
            raise RunError(f"the run in {path} was replaced while it was read; run this again")
        return cls(path, model, Path(record.store["path"]), record)

    def was_replaced(self) -> bool:
        """Whether its folder holds another run by now, or none."""
        return identity(self.folder) != self.found

    def metrics(self) -> list[dict[str, Any]]:
        """Return the records of `metrics.jsonl`, oldest first."""
        return journal.read(self.folder)

    def summary(self) -> dict[str, Any]:
        """Return how the training went.

        Returns:
            `epochs`, `steps` and `loss` of the last epoch, `train_seconds`, `valid_seconds`, and where there was a
            validation `best_epoch` with its metrics as `valid`, or as `check` where a second stage was checked on a share of its
            candidate lists, which is no figure of the validation split; `relations`, how much each counts, where a model reads
            several; a closed-form model has only `train_seconds`.
        """
        records = self.metrics()
        if not records or "epoch" not in records[-1]:
            return dict(records[-1]) if records else {}
        last = records[-1]
        result = {"epochs": last["epoch"], "steps": last["step"], "loss": last["loss"]}
        result |= {name: last[name] for name in ("train_seconds", "valid_seconds")}
        validated = [record for record in records if "valid" in record]
        if validated:
            best = max(validated, key=lambda record: record["valid"][self.config.train["metric"]])
            of = "check" if "check_share" in self.config.train else "valid"
            result |= {"best_epoch": best["epoch"], of: best["valid"]}
        weighed = best if validated else last
        return result | ({"relations": weighed["relations"]} if "relations" in weighed else {})

    def training(self) -> dict[str, Any]:
        """Return the training settings with as many epochs as the best weights took: what learns such a model again, on other data."""
        best = self.summary().get("best_epoch")
        return self.config.train if best is None else {**self.config.train, "epochs": best}

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, model={self.model.name!r})"


def load(folder: str | os.PathLike[str]) -> Run:
    """Read a run folder; see `Run.load`."""
    return Run.load(folder)


def identity(folder: Path) -> tuple[int, int] | None:
    """What tells the run of a folder from one that has taken its place; None while there is none."""
    try:
        found = (folder / MODEL).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _wait_for_a_replacement(path: Path) -> None:
    """Let a run that is being put in the place of another one arrive, or bring it there where that was interrupted."""
    for _ in range(20):
        if (path / MODEL).is_dir() or not (path / REPLACEMENT / MODEL).is_dir():
            return
        try:
            recover(path)
        except RunError:  # another process is doing it, or the folder cannot be written
            time.sleep(0.1)


def other_data(record: RunRecord, store: GraphStore) -> str:
    """That a run was trained on other data than a store's, as the predicate of a message."""
    own = record.store["path"]
    if Path(own).resolve() == store.folder.resolve():
        return f"was trained on {own} before that was built anew"
    return f"was trained on {own}, whose training data differ from {store.folder}"


def other_features(folder: Path, record: RunRecord, now: object) -> RunError:
    """What to raise where a store gives other features, `now`, than the run in `folder` was trained from."""
    return RunError(
        f"the run {folder} was trained from {record.origins}, and the store now gives {now}; write the same features into it again, "
        "or train anew in another folder"
    )


def fingerprint(store: GraphStore) -> str:
    """Digest what a model learns from: the training events, the ids of users and items, and which links were held out."""
    files = ["splits/train.parquet", "ids/user.parquet", "ids/item.parquet"]
    files += [HELD_LINKS] if HELD_LINKS in store.manifest.files else []
    return hashlib.sha256("".join(store.manifest.files[name].sha256 for name in files).encode()).hexdigest()
