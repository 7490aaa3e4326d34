"""Ablations: rows that leave out one edge type or one feature each, and what that costs against the full model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graphrec.benchmarking.plan import Contender, Row
from graphrec.benchmarking.summary import Comparison
from graphrec.errors import ConfigError, unknown_name
from graphrec.evaluation.significance import shown_p
from graphrec.graph.manifest import FILE_NAME
from graphrec.graph.store import GraphStore
from graphrec.models import create
from graphrec.models.ablation import ablations
from graphrec.progress import Reporter

KINDS = ("relations",)


@dataclass(frozen=True)
class Ablated:
    """How a row came to be.

    Attributes:
        full: label of the row of the whole model.
        left_out: the edge type ("follows") or feature ("item.text") that the row does without.
    """

    full: str
    left_out: str


def ablated_rows(
    rows: Sequence[Row], kind: str, folders: Sequence[Path], progress: Reporter
) -> tuple[list[Row], dict[str, Ablated]]:
    """Put, after each model that reads several edge types or features, one row for each of these, without it.

    Args:
        rows: the rows that were asked for.
        kind: one of `KINDS`; "relations" leaves out each edge type and each feature.
        folders: the data; one graph store.
        progress: told what is left out, and which models have nothing to leave out.

    Returns:
        All rows, and label to origin of those that were added.

    Raises:
        ConfigError: the kind is unknown, the data are not one store, no model has anything to leave out, or a model names a
            relation or feature that the store lacks.
    """
    if kind not in KINDS:
        raise unknown_name("ablation", kind, KINDS)
    if len(folders) != 1 or not (folders[0] / FILE_NAME).is_file():
        raise ConfigError(
            f"--ablate leaves out what one graph store has, got --data {', '.join(map(str, folders))}; give the folder of one store, "
            "as graphrec build writes it"
        )
    store = GraphStore.open(folders[0])
    made: list[Row] = []
    origins: dict[str, Ablated] = {}
    for row in rows:
        made.append(row)
        found = {}
        if isinstance(row, Contender):
            found = ablations(create(row.model, row.model_settings), store)
            parts = ", ".join(found) or "nothing, for it reads no relation and no feature that it can do without"
            progress.note(f"{row.label} without: {parts}")
        for left_out, changes in found.items():
            label = f"{row.label} without {left_out}"
            made.append(replace(row, label=label, model_settings={**row.model_settings, **changes}))
            origins[label] = Ablated(row.label, left_out)
    if not origins:
        raise ConfigError(
            f"--ablate: {', '.join(row.label for row in rows)} read the target behaviour alone and no features, or need all they "
            "read, so there is nothing to leave out; take a model of several relations (social-lightgcn, mb-cgcn, composed with "
            "rgcn), of several modalities (freedom), or with features in its inputs"
        )
    return made, origins


def losses(comparisons: Sequence[Comparison], origins: dict[str, Ablated]) -> tuple[list[str], list[list[Any]]]:
    """Head and lines of the table of losses, the largest first within a model and metric.

    Args:
        comparisons: the full model as A, the one without something as B.
        origins: as `ablated_rows` returned them.
    """
    head = ["data", "model", "without", "metric", "full", "left", "loss", "95% from", "to", "p", "p (Holm)", "needed"]
    lines = []
    for one in sorted(comparisons, key=lambda one: (one.data, one.a, one.difference.metric, one.difference.difference)):
        d = one.difference
        needed = "–" if one.p_holm >= 0.05 or d.better == "neither" else "yes" if d.better == "A" else "does harm"
        lines.append(
            [one.data, one.a, origins[one.b].left_out, d.metric, d.a, d.b, -d.difference, -d.high, -d.low, shown_p(d.p_permutation),
             shown_p(one.p_holm), needed]
        )  # fmt: skip
    return head, lines
