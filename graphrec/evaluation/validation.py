"""The quick check that the training loop makes between epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphrec.errors import ConfigError
from graphrec.evaluation.breakdown import mean
from graphrec.evaluation.lists import ON_REQUEST, Lists, compute, lower_is_better, needs, split_name
from graphrec.evaluation.ranking import rank_users
from graphrec.evaluation.split_data import read_split
from graphrec.progress import SILENT, Reporter
from graphrec.training.settings import TrainSettings

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore
    from graphrec.models.base import Recommender


def watch(
    store: GraphStore, settings: TrainSettings, progress: Reporter = SILENT
) -> Callable[[Recommender], dict[str, float]] | None:
    """Return the `validator` of the metric and the users of `settings`, with recall at the same list length beside it."""
    _, k = metric_to_choose_by(settings.metric, store.num_items)
    return validator(store, list(dict.fromkeys([settings.metric, f"recall@{k}"])), settings.valid_users, progress)


def metric_to_choose_by(metric: str, num_items: int) -> tuple[str, int]:
    """Split the name of a metric that weights, settings or shares are chosen by: its largest value must be the best one.

    Raises:
        ConfigError: a metric is unknown, one where smaller is better, one that needs more than the lists, or k is larger
            than the catalogue.
    """
    name, k = split_name(metric)
    if lower_is_better(name) or k is None or needs(name) & ON_REQUEST:
        raise ConfigError(f"nothing can be chosen on validation items by {metric!r}; choose an accuracy metric such as 'ndcg@20'")
    if k > num_items:
        raise ConfigError(
            f"the validation metric {metric} lists more items than the {num_items} of the catalogue; choose a shorter list, such "
            f"as '{name}@{max(1, num_items // 2)}' ([train] metric, or --metric of fuse)"
        )
    return name, k


def validator(
    store: GraphStore,
    metric: str | Sequence[str] = ("ndcg@20", "recall@20"),
    users: int | None = None,
    progress: Reporter = SILENT,
) -> Callable[[Recommender], dict[str, float]] | None:
    """Return a function from a model to `{metric: value}` on the valid split.

    The split is read once; each call ranks the full catalogue for the valid users, without intervals and breakdowns.

    Args:
        store: the graph store.
        metric: one name or several, with their list length; a larger value must be the better one.
        users: how many to rank, the same random ones every time; None ranks all of the split.
        progress: told of a sample, and receives the users of each call.

    Returns:
        The function, or None where the store has no valid split.

    Raises:
        ConfigError: as in `metric_to_choose_by`.
    """
    names = [metric] if isinstance(metric, str) else list(metric)
    wanted = [metric_to_choose_by(name, store.num_items) for name in names]
    if "valid" not in store.splits:
        return None
    data = read_split(store, "valid", mask_valid=False)
    if users is not None and users < len(data.users):
        progress.note(f"validation ranks {users:,} of {len(data.users):,} users, always the same")
        data = data.sample(users)
    longest = max(k for _, k in wanted)

    def validate(model: Recommender) -> dict[str, float]:
        topk = rank_users(model, data.users, longest, data.seen, progress=progress)
        lists = Lists(
            topk=topk,
            hits=data.truth.contains(topk),
            relevant=data.truth.sizes,
            truth_indptr=data.truth.indptr,
            item_counts=data.catalogue.item_counts,
            num_users=data.catalogue.num_users,
        )
        values = {full: compute([name], [k], lists)[full] for full, (name, k) in zip(names, wanted, strict=True)}
        return {full: mean(value) if hasattr(value, "__len__") else value for full, value in values.items()}

    return validate
