"""The registry of metrics: one line per metric, imported only when it is asked for.

A metric is a pure function. Its parameter names say what it is given (the list is in `graphrec.evaluation.lists`), and it
returns either one value per user, float64 (B,), or one float for all lists together. One whose smaller value is the better
says so on the line after it: `gini.lower_is_better = True`. A new metric is one function and one line here; the command
line, the run file, the report and the tests then know it.
"""

from __future__ import annotations

METRICS: dict[str, str] = {
    "recall": "graphrec.evaluation.metrics:recall",
    "ndcg": "graphrec.evaluation.metrics:ndcg",
    "precision": "graphrec.evaluation.metrics:precision",
    "hit": "graphrec.evaluation.metrics:hit",
    "mrr": "graphrec.evaluation.metrics:mrr",
    "map": "graphrec.evaluation.metrics:average_precision",
    "auc": "graphrec.evaluation.metrics:auc",
    "coverage": "graphrec.evaluation.beyond_accuracy:coverage",
    "gini": "graphrec.evaluation.beyond_accuracy:gini",
    "novelty": "graphrec.evaluation.beyond_accuracy:novelty",
    "diversity": "graphrec.evaluation.beyond_accuracy:diversity",
    "popularity": "graphrec.evaluation.beyond_accuracy:popularity",
    "rmse": "graphrec.evaluation.ratings:rmse",
    "mae": "graphrec.evaluation.ratings:mae",
}
