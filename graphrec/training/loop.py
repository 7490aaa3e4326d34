"""The training loop: draw, step, validate, keep. What it knows of the model is `batch_loss` and `finish`; its parts a history knows."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from graphrec import checkpoints
from graphrec.errors import ConfigError, RunError, nearest
from graphrec.memory import kept_memory
from graphrec.models.trained import TrainedRecommender
from graphrec.ops import RowAdam
from graphrec.progress import Reporter, Task, shown_time
from graphrec.training.history import History
from graphrec.training.journal import Journal
from graphrec.training.samplers import Sampler
from graphrec.training.schedules import learning_rate
from graphrec.training.settings import TrainSettings

Validate = Callable[[TrainedRecommender], dict[str, float]]

_MOMENTS = "step", "exp_avg", "exp_avg_sq"
_SHOW_EVERY = 20  # steps between two updates of the line beside the progress bar
_CHECK_EVERY_ON_GPU = 50  # steps between two looks at the loss, which wait for the device
_TIMED_STEPS, _TIMED_SECONDS = 20, 5.0  # after which the time of a training is known well enough to be told
_LONG = 2 * 3600  # seconds that are worth telling
_REST = 20  # times as long as the last checkpoint took, before the next: at most a twentieth of the time goes there


@dataclass
class Position:
    """Where a run is; all of it goes into every checkpoint.

    Attributes:
        epoch: epochs completed.
        step: steps completed in the epoch under way.
        steps: steps completed since the start.
        loss_sum: of the losses of the epoch under way.
        best_metric, best_epoch: the best validation so far and the epochs it came after; None before the first.
        bad_validations: validations in a row without a better metric.
        stopped: early stopping has ended the run.
        train_seconds, valid_seconds: time spent, over all sessions of the run.
        journal_length: bytes of metrics.jsonl that belong to this position.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    best_metric: float | None = None
    best_epoch: int | None = None
    bad_validations: int = 0
    stopped: bool = False
    train_seconds: float = 0.0
    valid_seconds: float = 0.0
    journal_length: int = 0


class Loop:
    """Trains one prepared model in one run folder.

    Args:
        model: prepared; its parameters are trained in place.
        sampler: the batches.
        settings: how.
        folder: the run folder; checkpoints and metrics go there.
        validate: returns metrics of the finished model on the validation split, or None where there is none.
        progress: receives epochs, steps, loss and metric.
    """

    def __init__(
        self,
        model: TrainedRecommender,
        sampler: Sampler,
        settings: TrainSettings,
        folder: Path,
        validate: Validate | None,
        progress: Reporter,
    ) -> None:
        self.model, self.sampler, self.settings, self.folder = model, sampler, settings, folder
        self.validate, self.progress = validate, progress
        self.position = Position()
        self.parameters = dict(model.network.named_parameters())
        if settings.batching == "sampled":
            self.optimizer: torch.optim.Optimizer = RowAdam(self.parameters.values(), lr=settings.learning_rate)
        else:
            # fused: one pass over parameters, gradients and moments, several times faster than the default on a CPU
            self.optimizer = torch.optim.Adam(self.parameters.values(), lr=settings.learning_rate, fused=True)
        self.history = None if settings.history_every is None else History(model, settings.inference_block or 0, folder)
        self._last = folder / "checkpoints" / "last"
        self._best = folder / "checkpoints" / "best"
        self._last_saved, self._save_took = time.monotonic(), 0.0
        self._first: tuple[int, float] | None = None  # steps and time after the first step since the start or resume, which warms up
        self._timed = False

    def run(self) -> Position:
        """Train to the end, going on from the checkpoint in the folder if there is one, and leave the best weights in the
        model.

        Raises:
            RunError: the loss is not finite, or a checkpoint is damaged or cannot be written.
            ConfigError: validation does not give the metric that the settings name.
        """
        if checkpoints.exists(self._last):
            self._restore()
        self._warn_of_disk()
        self.journal = Journal(self.folder, self.position.journal_length, self.position.steps)
        try:
            with kept_memory(), torch.random.fork_rng(self._gpus()), self._progress_bar() as task:
                while self.position.epoch < self.settings.epochs and not self.position.stopped:
                    self._epoch(task)
            self._save()
        finally:
            self.journal.close()
        if self.position.best_epoch is not None:
            if self.position.best_epoch == self.position.epoch > 1 and not self.position.stopped:
                self.progress.note(
                    f"{self.settings.metric} was still rising after the last epoch; more train.epochs or a larger "
                    "train.learning_rate may do better"
                )
            if isinstance(self.optimizer, RowAdam):
                self.optimizer.settle()  # of the last weights, before the best ones take their place
            self._load_parameters(checkpoints.load(self._best)[0])
        self.finish()
        weights = self.model.relation_weights()
        if weights:
            self.progress.note("relations: " + ", ".join(f"{name} {value:.3f}" for name, value in weights.items()))
        return self.position

    def finish(self) -> None:
        """Compute the vectors that rank, in blocks where the settings say so."""
        if isinstance(self.optimizer, RowAdam):
            self.optimizer.settle()
        self.model.finish(*((self.settings.inference_block, self.folder) if self.settings.inference_block else ()))

    def step(self, batch: Any) -> torch.Tensor:
        """Make one optimiser step on `batch` and return its loss, detached."""
        at = self.position
        # Layers that draw (dropout) use torch's own generator: seeding it by the step makes a resumed run draw the same.
        torch.manual_seed(self.settings.seed * 1_000_003 + at.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, at.steps, self.sampler.steps_per_epoch)
        self.optimizer.zero_grad(set_to_none=True)
        batch = batch.to(self.model.device)
        if self.history is not None and at.steps % self.settings.history_every == 0:
            self.optimizer.settle()
            self.history.take()
        self._catch_up(batch)
        if self.history is not None:
            batch = replace(batch, neighbourhood=self.history.onto(batch.neighbourhood))
        loss, _ = self.model.batch_loss(batch, self.settings.weight_decay, self.settings.precision, at.steps)
        self._check_finite(loss)
        loss.backward()
        self.optimizer.step()
        at.step += 1
        at.steps += 1
        return loss.detach()

    def _catch_up(self, batch: Any) -> None:
        """Make up for the steps on the rows that this one reads."""
        if isinstance(self.optimizer, RowAdam) and batch.neighbourhood is not None:
            for name, rows in (("user", batch.neighbourhood.users), ("item", batch.neighbourhood.items)):
                if f"inputs.{name}" in self.parameters:
                    self.optimizer.catch_up(self.parameters[f"inputs.{name}"], rows)

    def _epoch(self, task: Task) -> None:
        at, start = self.position, time.monotonic()
        for batch in self.sampler.batches(at.epoch, at.step):
            loss = self.step(batch)
            at.loss_sum += loss.item() if loss.device.type == "cpu" else loss.double()
            task.advance()
            if not self._timed:
                self._tell_how_long()
            if at.steps % _SHOW_EVERY == 0:
                task.show(epoch=f"{at.epoch + 1}/{self.settings.epochs}", loss=float(at.loss_sum) / at.step)
            if at.step < self.sampler.steps_per_epoch and self._checkpoint_is_due():
                start = self._count_time(start)
                self._save()
        mean = float(at.loss_sum) / self.sampler.steps_per_epoch
        if not math.isfinite(mean):
            self._fail(mean)
        self._count_time(start)
        at.epoch, at.step, at.loss_sum = at.epoch + 1, 0, 0.0
        rate = learning_rate(self.settings, at.steps - 1, self.sampler.steps_per_epoch)
        record = {"epoch": at.epoch, "step": at.steps, "loss": mean, "learning_rate": rate}
        if self.validate and (at.epoch % self.settings.eval_every == 0 or at.epoch == self.settings.epochs):
            record["valid"] = self._validate(task)
        if "valid" in record or at.epoch == self.settings.epochs:
            weights = self.model.relation_weights()
            record |= {"relations": {name: round(value, 4) for name, value in weights.items()}} if weights else {}
        times = {"train_seconds": at.train_seconds, "valid_seconds": at.valid_seconds}
        self.journal.record(at.steps, record | {key: round(value, 3) for key, value in times.items()})
        if self._checkpoint_is_due():
            self._save()

    def _tell_how_long(self) -> None:
        """Say once, where what is left of the training takes hours, how long it takes."""
        at, now = self.position, time.monotonic()
        if self._first is None:
            self._first = at.steps, now
        steps, seconds = at.steps - self._first[0], now - self._first[1]
        if steps < _TIMED_STEPS or seconds < _TIMED_SECONDS:
            return
        self._timed = True
        epochs, per_step = self.settings.epochs - at.epoch, seconds / steps
        left = per_step * (epochs * self.sampler.steps_per_epoch - at.step)
        if left < _LONG:
            return
        bound = "at most" if self.validate and self.settings.patience else "about"
        rest = f", the {epochs} epochs {'left ' if at.epoch else ''}{bound} {shown_time(left)}" if epochs > 1 else ""
        epoch = shown_time(per_step * self.sampler.steps_per_epoch)
        self.progress.note(f"an epoch takes about {epoch}{rest}; a larger train.batch_size makes fewer steps")

    def _validate(self, task: Task) -> dict[str, float]:
        at, start = self.position, time.monotonic()
        self.finish()
        metrics = {name: float(value) for name, value in self.validate(self.model).items()}
        wanted = self.settings.metric
        if wanted not in metrics:
            raise ConfigError(
                f"train metric: validation gives {', '.join(metrics)}, not {wanted!r}{nearest(wanted, metrics)}"
            )
        if at.best_metric is None or metrics[wanted] > at.best_metric:
            at.best_metric, at.best_epoch, at.bad_validations = metrics[wanted], at.epoch, 0
            checkpoints.save(self._best, self._weights(), {"epoch": at.epoch, "metrics": metrics})
        else:
            at.bad_validations += 1
            at.stopped = self._is_out_of_patience()
        at.valid_seconds += time.monotonic() - start
        self.progress.note(
            f"epoch {at.epoch}: {wanted} {metrics[wanted]:.4f} (best {at.best_metric:.4f} after epoch {at.best_epoch})"
        )
        if at.stopped:
            self.progress.note(
                f"stopped early: {at.bad_validations} validations without a better {wanted}; "
                f"the weights of epoch {at.best_epoch} are kept"
            )
        return metrics

    def _is_out_of_patience(self) -> bool:
        return 0 < self.settings.patience <= self.position.bad_validations

    def _count_time(self, start: float) -> float:
        now = time.monotonic()
        self.position.train_seconds += now - start
        return now

    def _checkpoint_is_due(self) -> bool:
        every = self.settings.checkpoint_every
        return time.monotonic() - self._last_saved >= (max(every, _REST * self._save_took) if every else 0.0)

    def _save(self) -> None:
        start = time.monotonic()
        self.position.journal_length = self.journal.length
        state = asdict(self.position) | {"loss_sum": float(self.position.loss_sum)}
        past = self.history.state() if self.history is not None else {}
        checkpoints.save(self._last, self._weights() | self._moments() | past, state)
        self._last_saved = time.monotonic()
        self._save_took = self._last_saved - start

    def _warn_of_disk(self) -> None:
        """Say where the disk has no room for the checkpoints: weights, two moments and what a history keeps, beside those they replace; and the best weights."""
        weights = sum(parameter.nbytes for parameter in self.parameters.values())
        wanted = weights * (2 * 3 + (self.validate is not None)) + (0 if self.history is None else self.history.room)
        there = sum(file.stat().st_size for file in self._last.parent.rglob("*.safetensors"))
        free = shutil.disk_usage(self.folder).free
        if free < wanted - there:
            self.progress.note(
                f"warning: the disk of {self.folder} has {free / 1e9:.1f} GB free, and the checkpoints of this run will take up to "
                f"{(wanted - there) / 1e9:.1f} GB more while one replaces another; free some, or the training may end on a full disk"
            )

    def _restore(self) -> None:
        tensors, state = checkpoints.load(self._last)
        try:
            self.position = Position(**state)
            self.position.stopped = self._is_out_of_patience()  # patience may be another one now
            self._load_parameters(tensors)
            for name, parameter in self.parameters.items():
                if f"step.{name}" in tensors:
                    kept = {key: tensors.get(f"{key}.{name}") for key in (*_MOMENTS, "seen", "drift")}
                    if kept["step"].dim() > 0:
                        raise RuntimeError(f"the rows of {name} were stepped by clocks of their own, as is no longer done")
                    self.optimizer.state[parameter] = {
                        key: value.to(parameter.device) for key, value in kept.items() if value is not None or key in _MOMENTS
                    }
            if self.history is not None and self.position.steps % self.settings.history_every:
                self.history.restore(tensors)
        except (AttributeError, KeyError, TypeError, RuntimeError) as problem:
            raise RunError(
                f"{self._last / checkpoints.STATE} does not fit the model ({problem}); train again with --overwrite"
            ) from problem
        self.progress.note(f"going on from step {self.position.steps} (epoch {self.position.epoch + 1})")

    def _weights(self) -> dict[str, torch.Tensor]:
        return {f"parameter.{name}": parameter.detach() for name, parameter in self.parameters.items()}

    def _moments(self) -> dict[str, torch.Tensor]:
        names = {parameter: name for name, parameter in self.parameters.items()}
        return {f"{key}.{names[p]}": value for p, state in self.optimizer.state.items() for key, value in state.items()}

    @torch.no_grad()
    def _load_parameters(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, parameter in self.parameters.items():
            saved = tensors[f"parameter.{name}"]
            if saved.shape != parameter.shape:
                raise RuntimeError(f"{name} has shape {tuple(saved.shape)}, the model's is {tuple(parameter.shape)}")
            parameter.copy_(saved)

    def _check_finite(self, loss: torch.Tensor) -> None:
        on_cpu = loss.device.type == "cpu"
        if (on_cpu or self.position.steps % _CHECK_EVERY_ON_GPU == 0) and not torch.isfinite(loss):
            self._fail(float(loss.detach()))

    def _fail(self, loss: float) -> None:
        again = " with --overwrite; --resume keeps the settings and would fail alike" if self.position.steps else ""
        raise RunError(
            f"the loss became {loss} at step {self.position.steps + 1} (epoch {self.position.epoch + 1}); lower "
            f"train.learning_rate (now {self.settings.learning_rate:g}) or, with a softmax loss, raise its temperature, and "
            f"train again{again}"
        )

    def _gpus(self) -> list[torch.device]:
        return [self.model.device] if self.model.device.type == "cuda" else []

    def _progress_bar(self) -> Any:
        per_epoch = self.sampler.steps_per_epoch
        left = (self.settings.epochs - self.position.epoch) * per_epoch - self.position.step
        return self.progress.task(f"Training {self.model.name}", total=max(0, left), unit="steps")
