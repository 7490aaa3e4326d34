"""Measure how fast a large CSV becomes a graph store: read, clean, split, build.

    python examples/benchmarks/ingest.py --rows 10000000 [--json]

The CSV has about 50 bytes a row: text ids, a behaviour, epoch seconds, a weight; users and items follow a power law.
It is generated once per size and kept in --folder. Reading and building run in a fresh process, so that `seconds`
starts after the imports and `peak_rss_mb` is the peak memory of that work and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CHUNK = 1_000_000  # rows generated at once
START = 1_600_000_000  # first timestamp, in seconds since 1970
SPAN = 80_000_000  # seconds from the first to the last timestamp


def generate(path: Path, rows: int) -> None:
    """Write `rows` power-law events to `path`, in time order and reproducibly."""
    import numpy as np
    import polars as pl

    from graphrec.atomic import atomic_file

    generator = np.random.default_rng(0)
    users, items = max(rows // 50, 10), max(rows // 200, 10)
    with atomic_file(path) as temporary, open(temporary, "wb") as output:
        output.write(b"user_id,item_id,behavior,timestamp,weight\n")
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            clock = START + (start + np.sort(generator.integers(0, count, count))) * SPAN // rows
            frame = pl.DataFrame(
                {
                    "user": (users * generator.power(0.6, count)).astype(np.int64),
                    "item": (items * generator.power(0.3, count)).astype(np.int64),
                    "behavior": generator.choice(["view", "view", "view", "cart", "purchase"], count),
                    "timestamp": clock,
                }
            )
            frame.select(
                pl.format("user-{}", pl.col("user").cast(pl.String).str.zfill(8)),
                pl.format("item-{}", pl.col("item").cast(pl.String).str.zfill(8)),
                "behavior",
                "timestamp",
                pl.lit("1.0"),
            ).write_csv(output, include_header=False)


def measure(path: Path) -> dict[str, float]:
    """Read `path` and build a store from it in this process."""
    import graphrec.graph.build
    import graphrec.logs.read

    with tempfile.TemporaryDirectory(prefix="graphrec-ingest-") as folder:
        started = time.perf_counter()
        log = graphrec.logs.read.read_log(path, rejected=Path(folder, "rejected.parquet"))
        reading = time.perf_counter() - started
        store = graphrec.graph.build.build(log, Path(folder, "store"), split="time")
        seconds = time.perf_counter() - started
    return {
        "rows": log.rejected.total,
        "bytes": path.stat().st_size,
        "seconds": seconds,
        "read_seconds": reading,
        "build_seconds": seconds - reading,
        "rows_per_second": log.rejected.total / seconds,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "num_users": store.num_users,
        "num_items": store.num_items,
    }


def main() -> None:
    """Parse the command line, generate what is missing, measure in a fresh process, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="events in the CSV (default 1,000,000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(tempfile.gettempdir(), "graphrec-ingest"),
        help="where generated files are kept for the next run (default: %(default)s)",
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # the fresh process's own call
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure)))
        return
    if arguments.rows < 10:
        parser.error(f"--rows must be at least 10, got {arguments.rows}")
    path = arguments.folder / f"events-{arguments.rows}.csv"
    if not path.exists():
        print(f"generating {path}", file=sys.stderr)
        generate(path, arguments.rows)
    command = [sys.executable, os.path.abspath(__file__), "--measure", str(path)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode != 0:
        raise SystemExit(finished.returncode)
    found = json.loads(finished.stdout.splitlines()[-1])
    if arguments.json:
        print(json.dumps(found))
        return
    size = found["bytes"] / 1e6
    print(f"{found['rows']:,} rows ({size:,.0f} MB): {found['num_users']:,} users, {found['num_items']:,} items")
    print(
        f"read {found['read_seconds']:.1f} s, build {found['build_seconds']:.1f} s, together {found['seconds']:.1f} s"
    )
    print(f"{found['rows_per_second']:,.0f} rows/s, peak memory {found['peak_rss_mb']:,.0f} MB")


if __name__ == "__main__":
    main()
