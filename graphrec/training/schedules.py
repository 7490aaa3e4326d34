"""The course of the learning rate, as a pure function of the step."""

from __future__ import annotations

import math

from graphrec.training.settings import TrainSettings


def learning_rate(settings: TrainSettings, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of one step.

    During the warm-up of W steps it is rate * (step + 1) / W. After that, with t = (step - W) / (T - W) the share of the
    remaining T - W steps that is done: "constant" rate; "cosine" rate * (1 + cos(pi t)) / 2; "linear" rate * (1 - t);
    "step" rate * decay_factor ** floor((step - W) / steps between cuts).

    Args:
        settings: rate, schedule, warm-up and number of epochs.
        step: 0-based, counted over all epochs.
        steps_per_epoch: steps in one epoch.
    """
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, settings.epochs * steps_per_epoch - warmup)
    if settings.schedule == "cosine":
        return settings.learning_rate * (1 + math.cos(math.pi * min(1.0, done))) / 2
    if settings.schedule == "linear":
        return settings.learning_rate * max(0.0, 1 - done)
    if settings.schedule == "step":
        cuts = (step - warmup) // max(1, round(settings.decay_epochs * steps_per_epoch))
        return settings.learning_rate * settings.decay_factor**cuts
    return settings.learning_rate
