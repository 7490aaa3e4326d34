"""Rank the full catalogue for all users with their seen items masked: graphrec's `topk_scores` against implicit's `recommend`.

    python examples/benchmarks/ranking.py --data DIR [--k 20] [--dim 64] [--repeats 5] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists (`user item item ...`), plain or .gz. Both rank with the same factors,
which implicit's ALS fits first (not timed). The timed calls alternate, so that both meet the same noise; seconds are medians.
implicit is timed with one BLAS thread, as its documentation advises, and with all of them, and the quicker way counts.
Peak memory is that of a fresh process for each, which loads the factors and ranks once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import sparse


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--k", type=int, default=20, help="list length (default 20)")
    parser.add_argument("--dim", type=int, default=64, help="factors per user and item (default 64)")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each (default 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--once", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)  # the fresh process
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(rank_once(arguments.once[0], Path(arguments.once[1]), arguments.k)))
        return
    if arguments.data is None:
        parser.error("--data is required")
    result = measure(Path(arguments.data), arguments.k, arguments.dim, arguments.repeats)
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>22}  {value:.4f}" if isinstance(value, float) else f"{name:>22}  {value}")


def measure(data: Path, k: int, dim: int, repeats: int) -> dict[str, object]:
    """Fit the factors, time both rankers alternately, and return the measurements."""
    import torch
    from threadpoolctl import threadpool_limits

    from graphrec.graph.build import build
    from graphrec.logs.read import read_split_folder
    from graphrec.ops import backend

    with tempfile.TemporaryDirectory() as folder:
        store = build(read_split_folder(data), Path(folder) / "store")
        seen = store.train_matrix()
        fit_factors(Path(folder), seen, dim)
        ours, implicit = ours_ranker(Path(folder), k), implicit_ranker(Path(folder), k)
        seconds: dict[str, list[float]] = {"ours": [], "implicit, one BLAS thread": [], "implicit": []}
        for _ in range(repeats + 1):
            seconds["ours"].append(timed(ours))
            seconds["implicit"].append(timed(implicit))
            with threadpool_limits(1, "blas"):
                seconds["implicit, one BLAS thread"].append(timed(implicit))
        median = {name: statistics.median(values[1:]) for name, values in seconds.items()}  # the first call warms up
        alone = {name: fresh_process(name, Path(folder), k) for name in ("ours", "implicit")}
        overlap = list_overlap(ours(), implicit())
    theirs = min(("implicit", "implicit, one BLAS thread"), key=median.__getitem__)
    return {
        "ours_seconds": median["ours"],
        "implicit_seconds": median[theirs],
        "ratio": median[theirs] / median["ours"],
        "ours_peak_rss_mb": alone["ours"]["peak_rss_mb"],
        "implicit_peak_rss_mb": alone["implicit"]["peak_rss_mb"],
        "ours_ranking_mb": alone["ours"]["ranking_mb"],
        "implicit_ranking_mb": alone["implicit"]["ranking_mb"],
        "overlap": overlap,
        "backend": backend(),
        "implicit_blas": "one thread" if theirs != "implicit" else "all threads",
        "threads": torch.get_num_threads(),
        "users": seen.shape[0],
        "items": seen.shape[1],
        "k": k,
        "dim": dim,
    }


def fit_factors(folder: Path, seen: sparse.csr_matrix, dim: int) -> None:
    """Fit implicit's ALS and write its factors and the seen items into `folder`."""
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(factors=dim, random_state=0, use_gpu=False)
        model.fit(seen, show_progress=False)
    np.save(folder / "user.npy", model.user_factors)
    np.save(folder / "item.npy", model.item_factors)
    sparse.save_npz(folder / "seen.npz", seen, compressed=False)


def ours_ranker(folder: Path, k: int) -> Callable[[], np.ndarray]:
    """Return a function that ranks all users with `graphrec.ops.topk_scores`: int64 (U, k)."""
    import torch

    from graphrec.ops import topk_scores

    users, items = (torch.from_numpy(np.load(folder / f"{side}.npy")) for side in ("user", "item"))
    seen = sparse.load_npz(folder / "seen.npz")
    return lambda: topk_scores(users, items, k, seen.indptr, seen.indices)[1].numpy()


def implicit_ranker(folder: Path, k: int) -> Callable[[], np.ndarray]:
    """Return a function that ranks all users with implicit's `recommend`: int32 (U, k)."""
    warnings.filterwarnings("ignore", message="OpenBLAS is configured")  # both ways are timed
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares()
    model.user_factors, model.item_factors = (np.load(folder / f"{side}.npy") for side in ("user", "item"))
    seen = sparse.load_npz(folder / "seen.npz")
    everyone = np.arange(seen.shape[0])
    return lambda: model.recommend(everyone, seen, N=k, filter_already_liked_items=True)[0]


def rank_once(name: str, folder: Path, k: int) -> dict[str, float]:
    """Rank once in this process: its peak memory, and how much of that the ranking added."""
    ranker = {"ours": ours_ranker, "implicit": implicit_ranker}[name](folder, k)
    before = peak_rss_mb()
    ranker()
    return {"peak_rss_mb": peak_rss_mb(), "ranking_mb": peak_rss_mb() - before}


def fresh_process(name: str, folder: Path, k: int) -> dict[str, float]:
    """Run `rank_once` in a new Python process."""
    command = [sys.executable, __file__, "--k", str(k), "--once", name, str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def list_overlap(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean share of the places of our lists, (U, k), whose item is in the other list of the same user."""
    return float(np.mean([np.isin(mine, other).mean() for mine, other in zip(ours, theirs, strict=True)]))


def timed(action: Callable[[], object]) -> float:
    """Seconds that `action` takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, in MB of 2^20 bytes.

    `VmHWM` starts anew with the program; `ru_maxrss` of a new process begins at the peak of the one that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024


if __name__ == "__main__":
    main()
