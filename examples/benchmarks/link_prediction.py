"""Measure link prediction on a social graph: neighbourhood counts, matrix factorisation and graph autoencoders.

    python examples/benchmarks/link_prediction.py --data FILE_OR_DIR [--seeds 3] [--models A,B] [--json]

FILE_OR_DIR is an edge list, a graph store with social links, or an ogbl folder with its own split. Each seed draws another
split (5 % of the edges to validate, 10 % to test, as many non-edges) and other weights. A trained model is fitted once for each
line of its grid below; the validation's average precision chooses the line, anew for each seed, and only that fit is measured
on the test links. Seconds are of that fit.
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

from recipes import add_grid_options, some_of

from graphrec.errors import GraphrecError
from graphrec.graph.links import open_link_graph
from graphrec.link.evaluate import LinkResult, predict_links
from graphrec.logs.link_graph import LinkGraph
from graphrec.ops import backend

METRICS = ("auc", "ap", "hits@20", "hits@50")
CHOSEN_BY = "ap"
EPOCHS = 150  # at most; the validation may stop earlier
LINEAR, NONLINEAR = {"num_layers": 1, "activation": "none"}, {"num_layers": 2, "activation": "relu"}
GRID: dict[str, list[dict[str, Any]]] = {
    "common-neighbours": [{}],
    "adamic-adar": [{}],
    "mf": [{"weight_decay": 1e-4}, {"weight_decay": 1e-3}],
    "gae": [LINEAR, NONLINEAR],
    "vgae": [LINEAR, NONLINEAR],
    "masked-gae": [{"decoder": "dot"}, {"decoder": "mlp"}],
}


def main() -> None:
    """Parse the command line, run every seed, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="edge list, graph store or ogbl folder")
    add_grid_options(parser, GRID)
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    try:
        names = some_of(options.models, GRID)
        graphs = [open_link_graph(options.data, seed=seed) for seed in range(options.seeds)]
        report = {name: summarise([best(name, graph, seed) for seed, graph in enumerate(graphs)]) for name in names}
    except GraphrecError as error:
        parser.exit(1, f"{error}\n")
    if options.json:
        print(json.dumps({"data": options.data, "seeds": options.seeds, "backend": backend(), "models": report}))
        return
    print(f"{graphs[0]}; mean and standard deviation of {options.seeds} seeds; backend {backend()}")
    print(f"{'model':18}" + "".join(f"{metric:>18}" for metric in METRICS) + f"{'seconds':>10}")
    for name, row in report.items():
        cells = [f"{row[metric]:.4f} ({row[f'{metric}_sd']:.4f})" for metric in METRICS]
        print(f"{name:18}" + "".join(f"{cell:>18}" for cell in cells) + f"{row['seconds']:10.2f}")


def best(name: str, graph: LinkGraph, seed: int) -> tuple[dict[str, Any], LinkResult]:
    """Fit every line of a model's grid; return the line that the validation prefers, and its fit."""
    budget = {} if GRID[name] == [{}] else {"epochs": EPOCHS}
    fits = [(line, predict_links(graph, name, {**budget, **line}, metrics=METRICS, seed=seed)) for line in GRID[name]]
    return max(fits, key=lambda fit: fit[1].valid[CHOSEN_BY])


def summarise(fits: list[tuple[dict[str, Any], LinkResult]]) -> dict[str, Any]:
    """Average the test metrics over seeds, with standard deviations, and list what the validation chose."""
    summary: dict[str, Any] = {}
    for metric in METRICS:
        values = [fit.test[metric] for _, fit in fits]
        summary[metric] = statistics.fmean(values)
        summary[f"{metric}_sd"] = statistics.stdev(values) if len(values) > 1 else 0.0
    summary["seconds"] = statistics.fmean(fit.seconds for _, fit in fits)
    summary["chosen"] = [line for line, _ in fits]
    return summary


if __name__ == "__main__":
    main()
