"""Learning-rate schedules at points that can be worked out by hand."""

from __future__ import annotations

import pytest

from graphrec.training.schedules import learning_rate
from graphrec.training.settings import TrainSettings


def rate(step: int, **values: object) -> float:
    return learning_rate(TrainSettings(epochs=10, learning_rate=0.1, **values), step, steps_per_epoch=10)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"schedule": "constant"}, {0: 0.1, 99: 0.1, 500: 0.1}),
        ({"schedule": "cosine"}, {0: 0.1, 50: 0.05, 100: 0.0, 150: 0.0}),
        ({"schedule": "linear"}, {0: 0.1, 50: 0.05, 75: 0.025, 100: 0.0, 150: 0.0}),
        ({"schedule": "step", "decay_epochs": 3.0, "decay_factor": 0.5}, {0: 0.1, 29: 0.1, 30: 0.05, 60: 0.025}),
        ({"warmup_epochs": 0.5}, {0: 0.02, 3: 0.08, 4: 0.1, 5: 0.1, 99: 0.1}),
        ({"warmup_epochs": 2.0, "schedule": "linear"}, {9: 0.05, 19: 0.1, 20: 0.1, 60: 0.05}),
        ({"warmup_epochs": 1.0, "schedule": "step", "decay_epochs": 1.0}, {9: 0.1, 19: 0.1, 20: 0.01}),
    ],
)
def test_rates(values, expected):
    for step, wanted in expected.items():
        assert rate(step, **values) == pytest.approx(wanted, abs=1e-12), step
