"""Item and user profiles that a language model writes from attributes and training histories, for a text encoder to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from graphrec.errors import ConfigError, nearest
from graphrec.features.llm import LLM
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

ITEM_SYSTEM = (
    "You describe an item of a catalogue in at most two sentences: what it is and who may like it. Use only what is given, "
    "and answer with the description alone."
)
USER_SYSTEM = (
    "You describe a user's taste in at most two sentences, from the items that the user has chosen. Name kinds of items, not "
    "single ones, and answer with the description alone."
)


def write_profiles(
    store: GraphStore,
    ntype: str,
    llm: LLM,
    *,
    columns: Sequence[str] | None = None,
    history: int = 20,
    limit: int | None = None,
    progress: Reporter = SILENT,
) -> pl.DataFrame:
    """Let a language model write a profile for each item or user of a store.

    Args:
        store: the graph store; only its training side is read.
        ntype: "item" describes the rows of the item table, "user" what each user has chosen in training.
        llm: who writes; an interrupted call goes on from its cache.
        columns: of the item table, the text to go by; None takes all.
        history: items that a user's prompt shows at most, the least popular first.
        limit: nodes described, in the order of the store; None describes all.
        progress: receives the prompts.

    Returns:
        A frame with `item_id` or `user_id` and `profile`; nodes that nothing is known of are left out.

    Raises:
        ConfigError: another node type, no item table, or an unknown column.
        LanguageModelError: the language model cannot be had.

    Source: Ren et al. (2024), "Representation learning with large language models for recommendation", arXiv 2310.15950,
        section 3.3, whose prompts ask for more than these two sentences.
    """
    if ntype not in ("item", "user"):
        raise ConfigError(f"profiles are written of item or user nodes, got {ntype!r}")
    texts = _item_texts(store, columns)
    if ntype == "user":
        texts = _user_texts(store, texts, history)
    nodes = np.array([node for node, text in enumerate(texts) if text][:limit], dtype=np.int64)
    system = ITEM_SYSTEM if ntype == "item" else USER_SYSTEM
    profiles = llm.complete_all([texts[node] for node in nodes], system, progress=progress)
    ids = store.ids(ntype).gather(nodes).rename(f"{ntype}_id")
    return pl.DataFrame([ids, pl.Series("profile", profiles, dtype=pl.String)])


def _item_texts(store: GraphStore, columns: Sequence[str] | None) -> list[str]:
    """One line "column: value; ..." per item; empty where nothing is known."""
    table = store.table("item")
    if table is None:
        raise ConfigError(
            "profiles need an item table, and the store has none; build it with --items FILE, a table of the items' attributes"
        )
    known = [name for name in table.columns if name != "item_id"]
    for name in columns or ():
        if name not in known:
            raise ConfigError(f"the item table has no column {name!r}; it has {', '.join(known)}{nearest(name, known)}")
    chosen = table.select(columns or known)
    return [_attributes(row) for row in chosen.iter_rows(named=True)]


def _user_texts(store: GraphStore, item_texts: list[str], history: int) -> list[str]:
    catalogue = store.catalogue()
    texts = []
    for user in range(store.num_users):
        _, items = catalogue.seen(np.array([user]))
        items = items[np.argsort(catalogue.item_counts[items], kind="stable")]
        lines = [f"- {item_texts[item]}" for item in items if item_texts[item]][:history]
        texts.append("The user has chosen:\n" + "\n".join(lines) if lines else "")
    return texts


def _attributes(row: dict[str, Any]) -> str:
    parts = []
    for name, value in row.items():
        if isinstance(value, list):
            value = ", ".join(str(one) for one in value)
        if value is not None and str(value).strip():
            parts.append(f"{name}: {' '.join(str(value).split())}")
    return "; ".join(parts)
