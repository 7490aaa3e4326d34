"""Links between users held out of the graph, to measure friend recommendation by."""

from __future__ import annotations

import numpy as np
import polars as pl

from graphrec.errors import StoreError


def hold_out_links(links: pl.DataFrame, share: float, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Split links between users into those to train on and those to find again.

    A pair of users goes to one side with both its directions, so that no link gives its reverse away.

    Args:
        links: src, dst, weight, as in `InteractionLog.social`.
        share: of the pairs to hold out, in (0, 1).
        seed: of the draw.

    Returns:
        The links that stay and those held out.

    Raises:
        StoreError: nothing would be held out, or nothing would stay.
    """
    pairs = links.select(low=pl.min_horizontal("src", "dst"), high=pl.max_horizontal("src", "dst"))
    distinct = pairs.unique(maintain_order=True)
    count = round(share * len(distinct))
    if not 0 < count < len(distinct):
        raise StoreError(f"holding out a share of {share} of {len(distinct):,} pairs of linked users leaves one side empty")
    chosen = np.zeros(len(distinct), dtype=bool)
    chosen[np.random.default_rng(seed).permutation(len(distinct))[:count]] = True
    held = pairs.join(distinct.with_columns(held=pl.Series(chosen)), on=["low", "high"], maintain_order="left")["held"]
    return links.filter(~held), links.filter(held)
