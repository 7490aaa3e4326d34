"""The one training loop: samplers feed batches, the loop steps, checkpoints make a killed run go on exactly."""

from __future__ import annotations

SAMPLERS: dict[str, str] = {
    "uniform-user": "graphrec.training.samplers:UniformUserSampler",
    "uniform-edge": "graphrec.training.samplers:UniformEdgeSampler",
}
