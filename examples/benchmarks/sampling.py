"""Measure drawing negatives and neighbours, and one Adam step over all embeddings.

    python examples/benchmarks/sampling.py --data DIR [--repeats 7] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists (`user item item ...`), plain or .gz. Rates are of the best repeat, in
draws or neighbours a second; contestants take turns, so that a busy machine slows them alike. Negatives are drawn for users in
random order and checked against their histories. `negatives_numpy` is the search that needs no loop (a uniform number among
the items that a user lacks, then one search in all histories). Neighbours are drawn without replacement, by DGL through
`dgl.sampling.sample_neighbors` on the same edges.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from graphrec import _dgl, _kernels
from graphrec.graph.build import build
from graphrec.logs.read import read_split_folder
from graphrec.ops import AliasTable, Relation, backend, sample_negatives, sample_neighbors
from graphrec.ops.adam import FusedAdam

NEGATIVES, ROWS, FANOUT, DIM = 2_000_000, 20_000, 10, 64


def measure(relation: Relation, repeats: int = 7) -> dict[str, object]:
    """Measure everything on the histories of `relation`; return rates per second and milliseconds."""
    rng = np.random.default_rng(0)
    users = torch.from_numpy(rng.integers(0, relation.num_dst, NEGATIVES))
    rows = torch.from_numpy(rng.permutation(relation.num_dst)[:ROWS])
    drawn = int(relation.degree_dst[rows].clamp_max(FANOUT).sum())
    rates = best_seconds(negative_contestants(relation, users), repeats)
    result: dict[str, object] = {f"{name}_per_second": NEGATIVES / seconds for name, seconds in rates.items()}
    rates = best_seconds(neighbour_contestants(relation, rows), repeats)
    result |= {f"{name}_per_second": drawn / seconds for name, seconds in rates.items()}
    sizes = relation.num_dst, relation.num_src
    result |= {f"{name}_ms": 1e3 * seconds for name, seconds in best_seconds(adam_contestants(sizes), repeats).items()}
    return result | {"backend": backend(), "threads": torch.get_num_threads()}


def negative_contestants(relation: Relation, users: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Ways of drawing one negative for each of `users`."""
    table = AliasTable.from_popularity(relation.degree_src)
    few = users[: len(users) // 20].repeat(20)  # the twin needs much memory; its rate does not depend on the length
    width, indptr = relation.num_src, relation.indptr.numpy()
    degree = np.diff(indptr)
    place = np.arange(relation.num_edges) - np.repeat(indptr[:-1], degree)
    keys = np.repeat(np.arange(relation.num_dst) * width, degree) + relation.indices.numpy() - place

    def by_numpy() -> np.ndarray:
        index = users.numpy()
        missing = np.random.default_rng(0).integers(width - degree[index])
        return missing + np.searchsorted(keys, index * width + missing, side="right") - indptr[index]

    def by_reference() -> None:
        with mock.patch.object(_kernels, "library", lambda device_type="cpu": None):
            for part in few.chunk(20):
                sample_negatives(relation, part, seed=0)

    return {
        "negatives": lambda: sample_negatives(relation, users, seed=0),
        "negatives_by_popularity": lambda: sample_negatives(relation, users, seed=0, distribution=table),
        "negatives_numpy": by_numpy,
        "negatives_reference": by_reference,
    }


def neighbour_contestants(relation: Relation, rows: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Ways of drawing neighbours of `rows`, uniformly and weighted."""
    dgl = _dgl.import_dgl()
    weights = torch.rand(relation.num_edges, generator=torch.Generator().manual_seed(0)) + 0.1
    # DGL draws edges that end at the seed nodes, so users are destinations there as well.
    graph = dgl.heterograph({("item", "of", "user"): (relation.indices.long(), relation.rows)})
    graph.edata["weight"] = weights
    seeds = {"user": rows}
    return {
        "neighbors": lambda: sample_neighbors(relation, rows, FANOUT, seed=0),
        "neighbors_dgl": lambda: dgl.sampling.sample_neighbors(graph, seeds, FANOUT),
        "neighbors_weighted": lambda: sample_neighbors(relation, rows, FANOUT, weights=weights, seed=0),
        "neighbors_weighted_dgl": lambda: dgl.sampling.sample_neighbors(graph, seeds, FANOUT, prob="weight"),
    }


def adam_contestants(sizes: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Optimisers, each with tables of its own."""

    def tables() -> list[torch.nn.Parameter]:
        made = [torch.nn.Parameter(torch.randn(size, DIM)) for size in sizes]
        for table in made:
            table.grad = torch.randn_like(table)
        return made

    return {
        "adam": FusedAdam(tables()).step,
        "adam_torch_fused": torch.optim.Adam(tables(), fused=True).step,
        "adam_torch_foreach": torch.optim.Adam(tables(), foreach=True).step,
    }


def best_seconds(contestants: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Run all in turn, `repeats` times after a warm-up; return the fewest seconds of each."""
    best = dict.fromkeys(contestants, float("inf"))
    for repeat in range(repeats + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            if repeat:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each, the best counts (default 7)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = build(read_split_folder(arguments.data), Path(folder) / "store")
        result = measure(Relation.from_scipy(store.train_matrix()), arguments.repeats)
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>34}  {format(value, ',.2f') if isinstance(value, float) else value}")


if __name__ == "__main__":
    main()
