"""Training of the second stage: from a finished retrieval run to a run folder with a two-stage model."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphrec.errors import ConfigError, RunError
from graphrec.graph.store import GraphStore
from graphrec.losses import LIST_LOSSES
from graphrec.losses.listwise import list_ndcg
from graphrec.models.ranker import TwoStage
from graphrec.progress import SILENT, Reporter, Task, takes_progress
from graphrec.registry import resolve
from graphrec.settings import Settings, parse
from graphrec.training.place import check_free, locked
from graphrec.training.rank_lists import (
    Lists,
    check_vectors,
    features_of,
    held_out,
    make_lists,
    resolve_candidates,
    resolve_labels,
)
from graphrec.training.rank_settings import RankSettings
from graphrec.training.run import Run, fingerprint, other_data
from graphrec.training.train import write_made


@takes_progress
def train_ranker(
    retrieval: Run | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    settings: RankSettings | Mapping[str, Any] | None = None,
    *,
    store: GraphStore | str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Reporter | bool = SILENT,
) -> Run:
    """Train a second stage on top of a finished run and write a run folder with both stages.

    The run's model, or the sum of several (`graphrec.fuse`), retrieves N candidates for a user; a network with raw features
    learns to order them from held-out interactions (`RankSettings.labels`). `evaluate`, `recommend` and `export` take the folder
    as that of any other run.

        graphrec.train_ranker("runs/lightgcn", "runs/ranked", {"loss": "lambdarank"})

    Args:
        retrieval: a finished run or its folder; it is left as it is, and copied into the new one.
        folder: the run folder to write.
        settings: the `[rank]` section; None takes the defaults.
        store: the graph store or its folder; None takes the run's own.
        overwrite: replace the run in `folder`.
        progress: receives the steps and the metric of each epoch.

    Raises:
        ConfigError: a setting is unknown or out of range, more candidates than items are asked for, or the run is itself one of two
            stages.
        RunError: there is no finished run, it was trained on another store, or the folder is taken or cannot be written.
        StoreError: the store is damaged, or has no held-out interactions to learn from.
    """
    run = retrieval if isinstance(retrieval, Run) else Run.load(retrieval)
    path = Path(folder)
    given = settings.model_dump(exclude_unset=True) if isinstance(settings, Settings) else dict(settings or {})
    settings = parse(RankSettings, given, "rank")
    if run.config.model["name"] == TwoStage.name:
        raise ConfigError(f"{run.folder} already has two stages; give a run of one model, or a sum of such runs, for the retrieval")
    if path.resolve() == Path(run.folder).resolve():
        raise ConfigError(f"the second stage needs a folder of its own, got that of the retrieval run, {path}")
    store = run.store_path if store is None else store
    store = store if isinstance(store, GraphStore) else GraphStore.open(store)
    _check_same_store(run, store)
    settings = resolve_candidates(store, settings)
    labels = resolve_labels(store, settings, run, progress)
    check_vectors(settings, labels)
    check_free(path, overwrite)
    with locked(path):
        started = time.monotonic()
        model, records = _learn(run, store, labels, settings, progress)
        records[-1]["train_seconds"] = round(time.monotonic() - started, 3)
        origin = {"path": str(store.folder.resolve()), "fingerprint": fingerprint(store)}
        told = [(record["step"], {"train_seconds": 0.0, "valid_seconds": 0.0, **record}) for record in records]
        return write_made(path, model, settings.model_dump(mode="json"), origin, told, [run])


def _learn(
    run: Run, store: GraphStore, labels: str, settings: RankSettings, progress: Reporter
) -> tuple[TwoStage, list[dict[str, Any]]]:
    """Learn on the held-out part, then put the network onto the run's own model and the features of all of train."""
    view, retrieval, keys = held_out(run, store, labels, settings, progress)
    model = TwoStage(
        retrieval=dict(run.config.model),
        candidates=settings.candidates,
        network=settings.network,
        vectors=settings.vectors,
        labels=labels,
    )
    model.assemble(retrieval, features_of(view), view.catalogue())
    lists = make_lists(model, keys, settings, progress)
    model.make_network(torch.Generator().manual_seed(settings.seed))
    records = _Fit(model, lists, settings).run(progress)
    if view is not store:
        model.assemble(run.model, features_of(store), store.catalogue())
    return model, records


@dataclass
class _Fit:
    """Trains the network of an assembled model on candidate lists."""

    model: TwoStage
    lists: Lists
    settings: RankSettings

    def run(self, progress: Reporter) -> list[dict[str, Any]]:
        """Train, leave the best weights in the model, and return a record for each epoch, 0 being the retrieval's own order."""
        settings, network = self.settings, self.model.network
        loss = resolve("list loss", LIST_LOSSES, settings.loss)
        order = np.random.default_rng(settings.seed).permutation(len(self.lists.users))
        num_checks = min(max(1, int(len(order) * settings.check_share)), len(order) - 1)
        checks, train = np.sort(order[:num_checks]), np.sort(order[num_checks:])
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        steps = -(-len(train) // settings.batch_size)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
        best, best_value, best_epoch = copy.deepcopy(network.state_dict()), self._check(checks), 0
        records: list[dict[str, Any]] = [{"epoch": 0, "step": 0, "valid": {settings.metric: best_value}}]
        progress.note(f"{len(train):,} lists to learn from, {num_checks:,} to check; retrieval alone: {best_value:.4f}")
        with torch.random.fork_rng([]), progress.task("Training the ranker", settings.epochs * steps, "steps") as task:
            for epoch in range(1, settings.epochs + 1):
                mean = self._epoch(epoch, train, loss, optimizer, rate, task)
                value = self._check(checks)
                records.append({"epoch": epoch, "step": epoch * steps, "loss": mean, "valid": {settings.metric: value}})
                task.show(epoch=f"{epoch}/{settings.epochs}", **{settings.metric: value})
                if value > best_value:
                    best, best_value, best_epoch = copy.deepcopy(network.state_dict()), value, epoch
                if 0 < settings.patience <= epoch - best_epoch:
                    break
        network.load_state_dict(best)
        network.eval()
        progress.note(f"{settings.metric} of the checked lists {best_value:.4f} after epoch {best_epoch}")
        return records

    def _epoch(self, epoch: int, train: np.ndarray, loss: Any, optimizer: Any, rate: Any, task: Task) -> float:
        self.model.network.train()
        settings = self.settings
        shuffled = np.random.default_rng([settings.seed, epoch]).permutation(train)
        torch.manual_seed(settings.seed * 1_000_003 + epoch)  # dropout draws from torch's own generator
        total = 0.0
        for start in range(0, len(shuffled), settings.batch_size):
            rows = np.sort(shuffled[start : start + settings.batch_size])
            scores, labels, known = self._scores(rows)
            value = loss(scores, labels, known)
            if not torch.isfinite(value):
                raise RunError(
                    f"the loss of the ranker became {float(value)} in epoch {epoch}; lower [rank] learning_rate "
                    f"(now {settings.learning_rate:g})"
                )
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            rate.step()
            total += float(value.detach()) * len(rows)
            task.advance()
        return total / len(shuffled)

    @torch.inference_mode()
    def _check(self, rows: np.ndarray) -> float:
        """Mean NDCG@k of the lists in `rows`."""
        self.model.network.eval()
        k, values = int(self.settings.metric.partition("@")[2]), []
        for part in np.array_split(rows, -(-len(rows) // 256)):
            values.append(list_ndcg(*self._scores(part), torch.from_numpy(self.lists.relevant[part]), k))
        return float(torch.cat(values).mean())

    def _scores(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        lists = self.lists
        scores = self.model.network_scores(lists.users[rows], lists.items[rows], lists.pairs[rows])
        return scores, torch.from_numpy(lists.labels[rows]), torch.from_numpy(lists.known[rows])


def _check_same_store(run: Run, store: GraphStore) -> None:
    if run.config.store["fingerprint"] != fingerprint(store):
        raise RunError(
            f"the retrieval run {run.folder} {other_data(run.config, store)}; give its own store, or train the retrieval on this one"
        )
