"""Compare the test items of a given split with held-out training items: are settings chosen on the latter good for the former?

    python examples/benchmarks/split_shift.py --data DIR [--json]

DIR holds `train.txt` and `test.txt` adjacency lists, plain or .gz. A tenth of each user's training items is held out, as with
`quality.py --validate`. For both parts: how many interactions their items have in the rest of train, as quantiles over the
held-out pairs and as the mean logarithm. Were the test items drawn at random from all, both would look alike.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from quality import VALID_SHARE

import graphrec
from graphrec.evaluation.split_data import read_split
from graphrec.logs.read import read_split_folder

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


def main() -> None:
    """Parse the command line, build the store, print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    try:
        rows = measure(options.data)
    except graphrec.errors.GraphrecError as error:
        parser.exit(1, f"{error}\n")
    if options.json:
        print(json.dumps({"data": options.data.name, "parts": rows}))
        return
    print(f"{'part':8}{'pairs':>10}{'mean log':>10}" + "".join(f"{share:>8g}" for share in QUANTILES))
    for name, row in rows.items():
        cells = "".join(f"{value:8.0f}" for value in row["quantiles"])
        print(f"{name:8}{row['pairs']:10,}{row['mean_log']:10.3f}{cells}")


def measure(data: Path) -> dict[str, dict]:
    """The training interactions of the items of the validation part and of the test part."""
    with tempfile.TemporaryDirectory(prefix="graphrec-shift-") as scratch:
        log = read_split_folder(data, rejected=Path(scratch) / "rejected.parquet")
        store = graphrec.build(log, Path(scratch) / "store", split={"method": "given", "valid": VALID_SHARE})
        counts, found = store.catalogue().item_counts, {}
        for part in ("valid", "test"):
            of_pairs = counts[read_split(store, part, mask_valid=True).truth.indices]
            quantiles = np.quantile(of_pairs, QUANTILES).tolist()
            found[part] = {"pairs": len(of_pairs), "mean_log": float(np.log1p(of_pairs).mean()), "quantiles": quantiles}
    return found


if __name__ == "__main__":
    main()
