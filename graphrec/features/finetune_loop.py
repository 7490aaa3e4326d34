"""The steps of a fine-tuning, which can be stopped at any moment and go on exactly from their last checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphrec import checkpoints
from graphrec.errors import RunError
from graphrec.features.finetune_pairs import Pairs, PairSource
from graphrec.features.finetune_settings import FinetuneSettings
from graphrec.features.text_transformers import TransformersEncoder
from graphrec.progress import SILENT, Reporter

_AT_ONCE = 64  # texts of nearly the same length in one pass, so that little is padded
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


@dataclass
class Finetuned:
    """What a fine-tuning came to.

    Attributes:
        folder: of the adapter.
        pairs, valid_pairs: in a pass, and held out.
        parameters: numbers that were trained.
        losses: validation loss before training and after each pass.
        accuracies: share of the validation pairs whose second item is the nearest of the batch, likewise.
        best_epoch: the pass whose adapter was kept; 0 where none was better than the plain encoder.
        seconds: of training and validation.
    """

    folder: str
    pairs: int
    valid_pairs: int
    parameters: int
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0


class FinetuneLoop:
    """Trains the adapters of an encoder on pairs of items, and validates after every pass.

    Args:
        encoder: with adapters, its only trainable parameters.
        texts: of all items.
        source: of the training pairs.
        valid: the validation pairs.
        settings: see `FinetuneSettings`.
        folder: of the checkpoint.
        record: what the fine-tuning is of; a checkpoint of another one is not gone on from.
        progress: receives steps, loss and the validation of each pass.
    """

    def __init__(
        self,
        encoder: TransformersEncoder,
        texts: Sequence[str],
        source: PairSource,
        valid: Pairs,
        settings: FinetuneSettings,
        folder: Path,
        record: Mapping[str, Any],
        progress: Reporter = SILENT,
    ) -> None:
        self.encoder, self.texts, self.source, self.valid, self.settings = encoder, texts, source, valid, settings
        self.folder, self.progress = folder, progress
        how = {key: value for key, value in settings.model_dump(mode="json").items() if key != "checkpoint_every"}
        self._record = json.loads(json.dumps({**record, "settings": how}))
        self.parameters = {name: p for name, p in encoder.model.named_parameters() if p.requires_grad}
        rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), **rates)
        pairs = min(source.per_pass, settings.pairs)
        self.per_pass = max(1, pairs // settings.batch_size)
        self.result = Finetuned("", pairs, len(valid), sum(parameter.numel() for parameter in self.parameters.values()))
        self.step = 0
        self.best: dict[str, Tensor] = {}
        self._drawn_from = source.state  # of the pairs' generator, before it draws those of the pass at work

    def run(self) -> Finetuned:
        """Train from the start, or from the checkpoint if there is one of this fine-tuning; returns what came of it.

        Raises:
            RunError: the loss is not finite, or a checkpoint is damaged or cannot be written.
        """
        self._since = self._last_saved = time.monotonic()
        if checkpoints.exists(self.folder):
            self._restore()
        if not self.result.losses:
            self.best = self._validate()
            found = f"{self.result.losses[0]:.4f}, {self.result.accuracies[0]:.1%} found first"
            self.progress.note(f"before training: validation loss {found}")
        steps = self.settings.epochs * self.per_pass
        with self.progress.task("Fine-tuning", total=steps - self.step, unit="steps") as task:
            while not self._is_done():
                self._pass(task, steps)
        if self.result.best_epoch == 0:
            self.progress.note("no pass was better than the plain encoder: the adapter that is written changes nothing")
        self._count_time()
        return self.result

    def load_best(self) -> None:
        """Give the encoder the adapters of the best pass."""
        self._load(self.best)

    def _is_done(self) -> bool:
        passes = len(self.result.losses) - 1
        return passes >= self.settings.epochs or 0 < self.settings.patience <= passes - self.result.best_epoch

    def _pass(self, task: Any, steps: int) -> None:
        """Make what is left of the pass at work, and validate."""
        own, epoch = self.settings, len(self.result.losses)
        self._drawn_from = self.source.state
        drawn = self.source.draw(self.result.pairs)
        for at in range(self.step - (epoch - 1) * self.per_pass, self.per_pass):
            done = (self.step + 1) / max(1.0, 0.1 * steps), (steps - self.step) / (0.9 * steps)
            self.optimizer.param_groups[0]["lr"] = own.learning_rate * min(1.0, *done)
            loss = self._step(drawn[at * own.batch_size : (at + 1) * own.batch_size])
            self.step += 1
            task.advance()
            task.show(epoch=f"{epoch}/{own.epochs}", loss=loss)
            self._save_if_due()
        lowest = min(self.result.losses)
        state = self._validate()
        if self.result.losses[-1] < lowest:
            self.best, self.result.best_epoch = state, epoch
        self._drawn_from = self.source.state
        self.progress.note(
            f"pass {epoch}: validation loss {self.result.losses[-1]:.4f} (best {min(self.result.losses):.4f} after pass "
            f"{self.result.best_epoch}), {self.result.accuracies[-1]:.1%} found first"
        )
        self._save_if_due()

    def _step(self, batch: Pairs) -> float:
        """Make one step and return its loss."""
        self.encoder.model.train()
        loss = self._batch_loss(batch)[0]
        if not torch.isfinite(loss):
            raise RunError(
                f"fine-tuning: the loss became {float(loss.detach())}; lower features.finetune.learning_rate (now "
                f"{self.settings.learning_rate:g}) or raise its temperature"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def _validate(self) -> dict[str, Tensor]:
        """Add loss and accuracy of the validation pairs to the result, and return a copy of the adapters."""
        self.encoder.model.eval()
        total, hits = 0.0, 0
        with torch.no_grad():
            for at in range(0, len(self.valid), self.settings.batch_size):
                batch = self.valid[at : at + self.settings.batch_size]
                loss, found = self._batch_loss(batch)
                total, hits = total + float(loss) * len(batch), hits + int(found)
        self.result.losses.append(round(total / len(self.valid), 6))
        self.result.accuracies.append(round(hits / len(self.valid), 6))
        return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}

    def _batch_loss(self, batch: Pairs) -> tuple[Tensor, Tensor]:
        """The symmetric loss of a batch, and how many of its pairs find the second item first."""
        items, places = np.unique(np.concatenate([batch.first, batch.second]), return_inverse=True)
        vectors = self._embed([self.texts[item] for item in items])
        first, second = vectors[places[: len(batch)]], vectors[places[len(batch) :]]
        loss, found = 0.0, None
        for left, right, candidates in ((first, second, batch.second), (second, first, batch.first)):
            mask = torch.from_numpy(self.source.known_positives(batch.users, candidates)).to(left.device)
            loss = loss + contrastive_loss(left, right, mask, self.settings.temperature) / 2
            if found is None:
                own = torch.eye(len(batch), dtype=torch.bool, device=left.device)
                scores = (left @ right.T).masked_fill(mask & ~own, -torch.inf)
                found = (scores.argmax(1) == torch.arange(len(batch), device=left.device)).sum()
        return loss, found

    def _embed(self, texts: list[str]) -> Tensor:
        """Normalised vectors (n, F) with their gradient, computed in the order of length."""
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        starts = range(0, len(order), _AT_ONCE)
        parts = [self.encoder.vectors([texts[row] for row in order[at : at + _AT_ONCE]]) for at in starts]
        back = torch.empty(len(order), dtype=torch.int64)
        back[torch.tensor(order)] = torch.arange(len(order))
        return torch.nn.functional.normalize(torch.cat(parts), dim=1)[back.to(parts[0].device)]

    def _save_if_due(self) -> None:
        if time.monotonic() - self._last_saved < self.settings.checkpoint_every:
            return
        self._count_time()
        names = {parameter: name for name, parameter in self.parameters.items()}
        tensors = {f"parameter.{name}": parameter for name, parameter in self.parameters.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        tensors |= {f"{key}.{names[p]}": state[key] for p, state in self.optimizer.state.items() for key in _MOMENTS}
        tensors |= {f"random.{kind}": state for kind, state in self._random().items()}
        result = {name: getattr(self.result, name) for name in ("losses", "accuracies", "best_epoch", "seconds")}
        state = {"record": self._record, "step": self.step, "pairs": self._drawn_from, "result": result}
        checkpoints.save(self.folder, tensors, state)
        self._last_saved = time.monotonic()

    def _restore(self) -> None:
        tensors, state = checkpoints.load(self.folder, f"delete {self.folder}")
        if state["record"] != self._record:
            self.progress.note(f"{self.folder} holds a fine-tuning of other texts, events or settings; this one begins anew")
            return
        self._load({name: tensors[f"parameter.{name}"] for name in self.parameters})
        self.best = {name: tensors[f"best.{name}"] for name in self.parameters}
        for name, parameter in self.parameters.items():
            kept = {key: tensors[f"{key}.{name}"] for key in _MOMENTS}
            self.optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device) for key, value in kept.items()
            }
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors and "cuda" in self._random():
            torch.cuda.set_rng_state(tensors["random.cuda"], self.encoder.device)
        for name, value in state["result"].items():
            setattr(self.result, name, value)
        self.step = state["step"]
        self.source.state = self._drawn_from = state["pairs"]
        self.progress.note(f"going on from step {self.step} (pass {len(self.result.losses)})")

    def _random(self) -> dict[str, Tensor]:
        """The state of torch's own streams, which dropout draws from."""
        found = {"cpu": torch.get_rng_state()}
        if self.encoder.device.startswith("cuda"):
            found["cuda"] = torch.cuda.get_rng_state(self.encoder.device)
        return found

    @torch.no_grad()
    def _load(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in tensors.items():
            self.parameters[name].copy_(value)

    def _count_time(self) -> None:
        now = time.monotonic()
        self.result.seconds = round(self.result.seconds + now - self._since, 3)
        self._since = now


def contrastive_loss(first: Tensor, second: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return -mean_k log softmax_l(first_k . second_l / temperature)_k.

    Args:
        first, second: float (n, F), of length one.
        mask: bool (n, n), pairs that are no negatives; the diagonal counts in any case.
        temperature: t.
    """
    scores = first @ second.T / temperature
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(mask & ~own, -torch.inf)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))
