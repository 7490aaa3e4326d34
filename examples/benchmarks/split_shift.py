"""Compare the test items of a given split with held-out training items: are settings chosen on the latter good for the former?

    python examples/benchmarks/split_shift.py --data DIR [--json]

DIR holds `train.txt` and `test.txt` adjacency lists, plain or .gz. A tenth of each user's training items is held out, at random as
with `quality.py --validate`, and as blocks as with the graph filter's `hold_out`. For each part: how many interactions its items
have in what is left, as quantiles over the held-out pairs and as the mean logarithm; and the dispersion, how much the held-out
share of items with at least 100 interactions varies, in units of what chance gives. Were the test items drawn at random from all,
they would look as the random part does.

Where ids number users and items in the order of their first mention, the items that a user is the first to have stand in their
own order, often that of time. The last line says how like the user's test items they are in each fifth of that order, in units of the
user's mean: equal numbers say that the test items are from anywhere, rising ones that they come after the training items.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from quality import VALID_SHARE

import graphrec
from graphrec.evaluation.split_data import read_split
from graphrec.logs.read import read_split_folder
from graphrec.models.held_out import hide, hide_blocks

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
FIRST, FIFTHS = 20, 5  # items that a user is the first to have, so that their order says something, and the parts of it
OFTEN = 100  # interactions of an item whose held-out share says something


def main() -> None:
    """Parse the command line, build the store, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    try:
        rows, fifths = measure(options.data)
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    if options.json:
        print(json.dumps({"data": options.data.name, "parts": rows, "fifths": fifths}))
        return
    print(f"{'part':8}{'pairs':>10}{'dispersion':>12}{'mean log':>10}" + "".join(f"{share:>8g}" for share in QUANTILES))
    for name, row in rows.items():
        cells = "".join(f"{value:8.0f}" for value in row["quantiles"])
        print(f"{name:8}{row['pairs']:10,}{row['dispersion']:12.2f}{row['mean_log']:10.3f}{cells}")
    if fifths:
        print("likeness to the test items, by order of first mention: " + ", ".join(f"{value:.3f}" for value in fifths))


def measure(data: Path) -> tuple[dict[str, dict], list[float]]:
    """What `compare` says of held-out training items and of the test items, and what `by_first_mention` does."""
    with tempfile.TemporaryDirectory(prefix="graphrec-shift-") as scratch:
        log = read_split_folder(data, rejected=Path(scratch) / "rejected.parquet")
        store = graphrec.build(log, Path(scratch) / "store", split={"method": "given", "valid": 0.0})
        train, test = store.train_matrix(), read_split(store, "test", mask_valid=True)
        users, items = (store.ids(side).series.arg_sort().to_numpy() for side in ("user", "item"))
    found = {}
    for name, part in (("random", hide), ("block", hide_blocks)):
        kept, hidden = part(train, VALID_SHARE, np.random.default_rng(0))
        found[name] = compare(kept, hidden.indices)
    found["test"] = compare(train, test.truth.indices)
    pairs = np.repeat(test.users, np.diff(test.truth.indptr)), test.truth.indices
    held = sp.csr_matrix((np.ones(len(pairs[0]), np.float32), pairs), shape=train.shape)
    return found, by_first_mention(train[users][:, items], held[users][:, items])


def compare(rest: sp.csr_matrix, held: np.ndarray) -> dict:
    """How often the items of held-out pairs (P,) occur in the rest (U, I), and how their held-out share varies."""
    left = np.bincount(rest.indices, minlength=rest.shape[1])
    away = np.bincount(held, minlength=rest.shape[1])
    often = left + away >= OFTEN
    total, share = (left + away)[often], away.sum() / (left + away).sum()
    dispersion = ((away[often] - share * total) ** 2 / (share * (1 - share) * total)).mean()
    of_pairs = left[held]
    return {
        "pairs": len(held),
        "dispersion": float(dispersion),
        "mean_log": float(np.log1p(of_pairs).mean()),
        "quantiles": np.quantile(of_pairs, QUANTILES).tolist(),
    }


def by_first_mention(train: sp.csr_matrix, test: sp.csr_matrix) -> list[float]:
    """How like a user's test items are the training items that no user before had, in five parts of their order.

    Likeness is the number of common users, divided by the square roots of both items' counts, summed over the test items, in
    units of the user's mean; the result is its average over the users with at least 20 such items, nothing without any.

    Args:
        train, test: (U, I), users and items in the order of their ids.
    """
    by_item = train.tocsc().sorted_indices()
    count = np.diff(by_item.indptr)
    known = np.flatnonzero(count)
    first = by_item.indices[by_item.indptr[known]]  # the first user of each item
    scaled = by_item @ sp.diags(np.maximum(count, 1) ** -0.5)
    parts = []
    for user in np.flatnonzero(np.bincount(first, minlength=train.shape[0]) >= FIRST):
        likeness = (scaled[:, known[first == user]].T @ scaled[:, test[user].indices]).sum(axis=1)
        if likeness.any():
            relative = np.asarray(likeness).ravel() / likeness.mean()
            parts.append([part.mean() for part in np.array_split(relative, FIFTHS)])
    return np.mean(parts, axis=0).tolist() if parts else []


if __name__ == "__main__":
    main()
