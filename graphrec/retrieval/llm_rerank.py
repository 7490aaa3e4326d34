"""Zero-shot re-ranking: a language model puts a user's retrieved candidates in a new order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from graphrec.errors import ConfigError, check_list_length
from graphrec.features.llm import LLM
from graphrec.graph.catalogue import Catalogue
from graphrec.progress import SILENT, Reporter
from graphrec.retrieval.source import Source, open_model

SYSTEM = (
    "You order items for one user by how well each fits what the user has chosen before. Answer with the numbers of all "
    "candidates, best first, as one JSON list such as [2, 3, 1], and with nothing else."
)
_FENCED = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)


@dataclass(frozen=True)
class Reranked:
    """Lists in the model's order.

    Attributes:
        lists: the columns of `recommend`; `score` is still that of the retrieval, `rank` the new place.
        asked: users whose candidates the language model was asked about.
        kept: of these, users whose candidates stay in the order of the retrieval, because the answer was no permutation.
    """

    lists: pl.DataFrame
    asked: int
    kept: int


def rerank(
    source: Source,
    users: Iterable[Any],
    llm: LLM,
    k: int = 10,
    *,
    candidates: int = 20,
    history: int = 20,
    exclude_seen: bool = True,
    progress: Reporter = SILENT,
) -> Reranked:
    """Retrieve candidates for each user and let a language model order them by their titles.

    Args:
        source: a run, a model, or the folder of either; the store must have had titles.
        users: original user ids.
        llm: who is asked; one prompt for each user.
        k: list length, 1..candidates.
        candidates: items retrieved for each user.
        history: titles of the user's training items that the prompt shows at most; the most popular are left out first.
        exclude_seen: leave out the items of the user's training history.
        progress: receives the prompts.

    Raises:
        ConfigError: the model has no titles, or `k` is above `candidates`.
        UnknownIdError: a user does not occur in the training data.
        LanguageModelError: the language model cannot be had.

    Source: Hou et al. (2024), "Large language models are zero-shot rankers for recommender systems", arXiv 2305.08845, with a
        sequential prompt; an answer that is not exactly a permutation of the candidates is not repaired but counted.
    """
    check_list_length(k, candidates, "candidates")
    model = open_model(source)
    titles_of(model.catalogue)
    lists = model.recommend(list(users), min(candidates, model.catalogue.num_items), exclude_seen=exclude_seen)
    parts = lists.partition_by("user_id", maintain_order=True)
    prompts = [
        prompt(history_titles(model.catalogue, part["user_id"][0], history), part["title"].to_list()) for part in parts
    ]
    answers = llm.complete_all(prompts, SYSTEM, progress=progress)
    frames, kept = [lists.clear()], 0
    for part, answer in zip(parts, answers, strict=True):
        order = permutation(answer, part.height)
        kept += order is None
        part = part if order is None else part[order]
        frames.append(part.head(k).with_columns(rank=pl.int_range(1, min(k, part.height) + 1, dtype=pl.Int64)))
    return Reranked(pl.concat(frames), len(parts), kept)


def prompt(history: list[str], candidates: list[str]) -> str:
    """Write what the language model is asked for one user."""
    chosen = "\n".join(f"- {one_line(title)}" for title in history) or "- nothing yet"
    numbered = "\n".join(f"{number}. {one_line(title)}" for number, title in enumerate(candidates, 1))
    return f"The user has chosen:\n{chosen}\n\nCandidates:\n{numbered}\n\nThe order of all {len(candidates)} candidates:"


def permutation(answer: str, count: int) -> list[int] | None:
    """Read an answer strictly: positions 0..count-1 in the new order, or None where it is no permutation of 1..count.

    A JSON list of whole numbers counts, alone or in one code fence; prose around it, a missing, repeated or unknown number
    does not.
    """
    fenced = _FENCED.fullmatch(answer.strip())
    try:
        numbers = json.loads(fenced.group(1) if fenced else answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        return None
    if sorted(numbers) != list(range(1, count + 1)):
        return None
    return [number - 1 for number in numbers]


def titles_of(catalogue: Catalogue) -> list[str]:
    """The titles of all items.

    Raises:
        ConfigError: there are none.
    """
    if catalogue.titles is None:
        raise ConfigError(
            "a language model knows items by their titles, and this model's store has none; build the store with an item "
            "table that has a title column, and train again"
        )
    return catalogue.titles


def history_titles(catalogue: Catalogue, user_id: Any, limit: int) -> list[str]:
    """The titles of a user's training items, the least popular first: they say most about a taste."""
    _, items = catalogue.seen(catalogue.users.index_of([user_id]))
    items = items[np.argsort(catalogue.item_counts[items], kind="stable")][:limit]
    return [catalogue.titles[item] for item in items if catalogue.titles[item]]


def one_line(text: str | None) -> str:
    """The text without line breaks, which would part a list's entry in two."""
    return " ".join((text or "(no title)").split())
