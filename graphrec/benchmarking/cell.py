"""One cell of the grid in a process of its own: `python -m graphrec.benchmarking.cell FOLDER`.

The folder holds `request.json`; `result.json`, the evaluation and the run are added to it. A fresh process makes the peak of
memory that of this model alone, and a crash that of this cell alone.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from graphrec import __version__
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
from graphrec.training.run import Run
from graphrec.training.train import train


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
        model, result = _sum(request)
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
    run = _train(request, store, folder)
    seconds = time.perf_counter() - started
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # of no use once the model is written
    summary = run.summary()
    result = {"fit_seconds": seconds, "fit_peak_mb": peak_mb(), "device": _device(run.model)}
    return run.model, result | {name: summary[name] for name in ("epochs", "best_epoch") if name in summary}


def _train(request: dict[str, Any], store: GraphStore, folder: Path, **train_changes: Any) -> Run:
    spec = request["spec"]
    settings = {**spec.get("train", {"seed": spec["seed"]}), **request["free"], **train_changes}
    validation = watch if spec["stop_early"] else None
    return train(store, spec["model"], folder, settings, model_settings=spec["settings"], validation=validation)


def _sum(request: dict[str, Any]) -> tuple[Recommender, dict[str, Any]]:
    """Choose the share with both models trained once more without the selection's held-out part, then add the real ones."""
    reset_peak()
    started = time.perf_counter()
    spec, selection = request["spec"], GraphStore.open(request["selection"], verify=False)
    scratch = Path(request["scratch"])
    fitted = []
    for number, (part, epochs) in enumerate(zip(request["parts"], request["epochs"], strict=True)):
        changes = {} if epochs is None else {"epochs": epochs}  # where the real one stopped early
        part = {**part, "spec": {**part["spec"], "stop_early": False}}
        fitted.append(_train(part, selection, scratch / str(number), **changes).model)
    devices = ", ".join(dict.fromkeys(map(_device, fitted)))
    values = choose_share(fitted[0], fitted[1], selection, spec["metric"], spec["seed"])
    del fitted
    shutil.rmtree(scratch)
    first, second = (Run.load(Path(folder) / RUN).model for folder in request["cells"])
    share = best_share(values)
    model = ScoreSum.of((first, second), (1 - share, share), spec["seed"])
    result = {"fit_seconds": time.perf_counter() - started, "fit_peak_mb": peak_mb(), "share": share, "device": devices}
    return model, result | {"shares": {f"{share:g}": value for share, value in values.items()}}


def _device(model: Recommender) -> str:
    return str(getattr(model, "device", "cpu"))


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
