"""One cell of the grid in a process of its own: `python -m graphrec.benchmarking.cell FOLDER`.

The folder holds `request.json`; `result.json`, the evaluation and the run are added to it. A fresh process makes the peak of
memory that of this model alone, and a crash that of this cell alone.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from graphrec import __version__
from graphrec.benchmarking.data import selection
from graphrec.benchmarking.fusion import best_share, choose_share
from graphrec.benchmarking.plan import REQUEST, RESULT, RUN
from graphrec.benchmarking.process import end_with_parent, peak_mb, reset_peak
from graphrec.errors import ConfigError, GraphrecError
from graphrec.evaluation.evaluate import evaluate
from graphrec.evaluation.lists import needs
from graphrec.evaluation.validation import watch
from graphrec.graph.store import GraphStore
from graphrec.models import create
from graphrec.models.base import Recommender
from graphrec.models.score_sum import ScoreSum
from graphrec.ops import backend
from graphrec.progress import SILENT
from graphrec.training.again import learn_again
from graphrec.training.run import Run
from graphrec.training.train import train
from graphrec.tuning.fuse import fuse


def main(folder: Path) -> None:
    """Do what `request.json` asks for and write `result.json`.

    Raises:
        GraphrecError: the model cannot be trained or measured; the message says why.
    """
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    store = GraphStore.open(request["store"], verify=False)  # the parent has just compared the checksums
    _check_known(request["spec"])
    _import_late(any("train" in part for part in request["spec"].get("sum", [request["spec"]])))
    if "sum" in request["spec"]:
        model, result = _sum(request, store, folder)
    else:
        model, result = _fit(request, store, folder / RUN)
    reset_peak()
    started = time.perf_counter()
    spec = request["spec"]
    evaluation = evaluate(model, store, spec["split"], spec["k"], spec["metrics"], bootstrap=0)
    result["evaluate_seconds"] = time.perf_counter() - started
    result["evaluate_peak_mb"] = peak_mb()
    evaluation.save(folder)
    result |= {"metrics": evaluation.metrics, "users": evaluation.counts["users"], "counts": evaluation.counts}
    result |= {"version": __version__, "backend": backend(), "threads": torch.get_num_threads()}
    (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")


def _check_known(spec: dict[str, Any]) -> None:
    """Make sure that this process knows the models and metrics that the one which asks has made and looked at already."""
    try:
        for part in spec.get("sum", [spec]):
            create(part["model"], part["settings"])
        for metric in spec["metrics"]:
            needs(metric)
    except ConfigError as problem:
        raise ConfigError(
            f"{problem}; every cell is measured in a process of its own, which does not know what was registered at run time: write "
            "it into the registry, or measure it with graphrec.train, graphrec.evaluate and graphrec.compare"
        ) from problem


def _fit(request: dict[str, Any], store: GraphStore, folder: Path) -> tuple[Recommender, dict[str, Any]]:
    reset_peak()
    started = time.perf_counter()
    run, summary = _learn(request, store, folder)
    seconds = time.perf_counter() - started
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # of no use once the model is written
    result = {"fit_seconds": seconds, "fit_peak_mb": peak_mb(), "device": _device(run.model)}
    return run.model, result | summary


def _learn(request: dict[str, Any], store: GraphStore, folder: Path) -> tuple[Run, dict[str, float]]:
    """Train a model, or several alike from seeds of their own and their mean, into a run folder; return its epochs, too."""
    spec, seed = request["spec"], request["spec"]["seed"]
    members = spec.get("members", 1)
    places = [folder] if members == 1 else [folder.with_name(f"{folder.name}-{number}") for number in range(members)]
    validation = watch if spec["stop_early"] else None
    runs = []
    for number, place in enumerate(places):
        settings = {**spec.get("train", {}), **request["free"], "seed": seed * members + number}
        runs.append(train(store, spec["model"], place, settings, model_settings=spec["settings"], validation=validation))
    told = [run.summary() for run in runs]
    epochs = {name: statistics.mean(one[name] for one in told) for name in ("epochs", "best_epoch") if name in told[0]}
    if members == 1:
        return runs[0], epochs
    mean = fuse(runs, folder, seed=seed)
    for place in places:
        shutil.rmtree(place)
    return mean, epochs


def _sum(request: dict[str, Any], store: GraphStore, folder: Path) -> tuple[Recommender, dict[str, Any]]:
    """Choose the share with both models trained once more without the selection's held-out part, then add the real ones."""
    reset_peak()
    started = time.perf_counter()
    spec, chosen_on = request["spec"], selection(store)
    runs = [Path(cell) / RUN for cell in request["cells"]]
    fitted = [
        learn_again(Run.load(run), chosen_on, SILENT, folder, device) for run, device in zip(runs, request["devices"], strict=True)
    ]
    devices = _device(*fitted)
    values = choose_share(fitted[0], fitted[1], chosen_on, spec["metric"], spec["seed"])
    del fitted
    first, second = (Run.load(run).model for run in runs)
    share = best_share(values)
    model = ScoreSum.of((first, second), (1 - share, share), spec["seed"])
    result = {"fit_seconds": time.perf_counter() - started, "fit_peak_mb": peak_mb(), "share": share, "device": devices}
    return model, result | {"shares": {f"{share:g}": value for share, value in values.items()}}


def _device(*models: Recommender) -> str:
    """Where the models, or the members of their sums, were trained."""
    single = [one for model in models for one in getattr(model, "members", [model])]
    return ", ".join(dict.fromkeys(str(getattr(one, "device", "cpu")) for one in single))


def _import_late(trained: bool) -> None:
    """Import now what a fit or a training would import under the clock; that time is not the model's."""
    import torch.utils.tensorboard

    if trained:
        import torch._dynamo  # noqa: F401


if __name__ == "__main__":
    end_with_parent()
    try:
        main(Path(sys.argv[1]))
    except GraphrecError as problem:
        sys.exit(f"error: {problem}")
