"""What a made-up world shows of itself: titles, texts, prices, knowledge triples, media vectors, users and their links.

Everything is drawn in blocks of items, each with its own generator, so that memory stays bounded and the result does
not depend on how the blocks are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrec.logs.synthetic_tastes import (
    BRANDS_PER_TOPIC,
    CREATORS_PER_NICHE,
    Items,
    Niches,
    Users,
    item_tastes,
    stream,
)
from graphrec.logs.synthetic_words import FIRST_NAMES, HOUSES, LAST_NAMES, PLACES, REGIONS, TOPICS

if TYPE_CHECKING:
    from graphrec.logs.synthetic_settings import WorldSettings

BLOCK = 1 << 15  # items written at once
TASTE_DIM = 24  # size of the latent taste vectors behind the media vectors
_AGES = ("18-24", "25-34", "35-44", "45-54", "55+")
_SECONDS_PER_WEEK = 7 * 86_400


class Catalogue:
    """Names and describes the items of a world.

    Args:
        settings: the world's settings.
        niches, items: its hidden state.
    """

    def __init__(self, settings: WorldSettings, niches: Niches, items: Items) -> None:
        self._settings, self._niches, self._items = settings, niches, items
        self.item_ids = identifiers("i", items.count)
        rng = stream(settings.seed, 6)
        self._words = [_niche_words(rng, int(topic)) for topic in niches.topic]
        names = rng.permutation(len(FIRST_NAMES) * len(LAST_NAMES))
        self.creators = [
            _person(int(names[n % len(names)]), n // len(names)) for n in range(niches.count * CREATORS_PER_NICHE)
        ]
        self.brands = [
            f"{HOUSES[(topic * 5 + number) % len(HOUSES)]} {TOPICS[topic].house}"
            for topic in range(settings.num_topics)
            for number in range(BRANDS_PER_TOPIC)
        ]

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the item ranges `(first, last)` in which the catalogue is written."""
        for first in range(0, self._items.count, BLOCK):
            yield first, min(first + BLOCK, self._items.count)

    def items(self, first: int, last: int) -> dict[str, Any]:
        """Return the columns of `items.parquet` for the items `first` to `last`."""
        items, rng = self._items, stream(self._settings.seed, 7, first)
        rows = range(first, last)
        picks = rng.integers(0, 1 << 30, (last - first, 8)).tolist()
        described = [self._describe(int(items.primary[row]), row, pick) for row, pick in zip(rows, picks, strict=True)]
        topics = self._niches.topic[items.primary[first:last]]
        typical = np.array([topic.price for topic in TOPICS])[topics]
        released = _arrival_seconds(rng, items.week[first:last], before=9 * 52)
        return {
            "item_id": self.item_ids[first:last],
            "title": [title for title, _ in described],
            "text": [text for _, text in described],
            "category": [TOPICS[topic].category for topic in topics],
            "creator": [self.creators[number] for number in items.creator[first:last]],
            "brand": [self.brands[number] for number in items.brand[first:last]],
            "price": np.round(typical * np.exp(0.35 * rng.standard_normal(last - first)) + 0.5) - 0.05,
            "released": released // 86_400 * 86_400,
        }

    def _describe(self, niche: int, item: int, pick: list[int]) -> tuple[str, str]:
        topic = TOPICS[self._niches.topic[niche]]
        adjectives, nouns, motifs = self._words[niche]
        noun = nouns[pick[1] % len(nouns)]
        other = nouns[(pick[1] + 1 + pick[2] % (len(nouns) - 1)) % len(nouns)]
        title = topic.titles[pick[3] % len(topic.titles)].format(
            adjective=adjectives[pick[0] % len(adjectives)], noun=noun, other=other, place=PLACES[pick[4] % len(PLACES)]
        )
        kind = topic.kinds[pick[5] % len(topic.kinds)]
        first = motifs[pick[6] % len(motifs)]
        second = motifs[(pick[6] + 1 + pick[7] % (len(motifs) - 1)) % len(motifs)]
        theirs = self._words[self._items.secondary[item]][2]
        third = theirs[pick[2] % len(theirs)]
        creator = self.creators[self._items.creator[item]]
        article = "An" if kind[0] in "aeio" or kind in ("LP", "EP") else "A"
        text = f"{article} {kind} of {first} and {second}, {topic.maker} {creator}. Also for friends of {third}."
        return title, text

    def triples(self, first: int, last: int) -> dict[str, list[str]]:
        """Return the knowledge triples whose head is an item from `first` to `last`."""
        items, rng = self._items, stream(self._settings.seed, 8, first)
        motif = rng.integers(0, 4, last - first)
        tails: dict[str, list[str]] = {
            "in_category": [f"category:{TOPICS[t].category}" for t in self._niches.topic[items.primary[first:last]]],
            "created_by": [f"creator:{self.creators[n]}" for n in items.creator[first:last]],
            "made_by": [f"brand:{self.brands[n]}" for n in items.brand[first:last]],
            "has_theme": [
                f"theme:{self._words[niche][2][m]}" for niche, m in zip(items.primary[first:last], motif, strict=True)
            ],
        }
        heads = self.item_ids[first:last]
        return {
            "head": heads * len(tails),
            "relation": [relation for relation in tails for _ in heads],
            "tail": [tail for column in tails.values() for tail in column],
        }

    def entity_triples(self) -> dict[str, list[str]]:
        """Return the triples between entities: where a category belongs and what a creator is known for."""
        rows = [
            (f"category:{topic.category}", "part_of", f"department:{topic.department}")
            for topic in TOPICS[: self._settings.num_topics]
        ]
        for number in np.unique(self._items.creator).tolist():
            theme = self._words[number // CREATORS_PER_NICHE][2][number % CREATORS_PER_NICHE]
            rows.append((f"creator:{self.creators[number]}", "known_for", f"theme:{theme}"))
        head, relation, tail = (list(column) for column in zip(*rows, strict=True))
        return {"head": head, "relation": relation, "tail": tail}

    def media(self, number: int, width: int, first: int, last: int) -> np.ndarray:
        """Return the media vectors of items `first` to `last`: a linear map of their taste plus noise.

        Args:
            number: which kind of media, from 0.
            width: F, size of the vectors.

        Returns:
            float32 (n, F).
        """
        tastes = item_tastes(self._settings, self._niches, self._items, first, last, TASTE_DIM)
        camera = stream(self._settings.seed, 9, number).standard_normal((TASTE_DIM, width), dtype=np.float32)
        noise = stream(self._settings.seed, 9, number, first).standard_normal((last - first, width), dtype=np.float32)
        seen = np.einsum("nd,df->nf", tastes, camera) / np.float32(np.sqrt(TASTE_DIM))  # no BLAS: same bytes everywhere
        return seen + np.float32(self._settings.media_noise) * noise


def user_columns(settings: WorldSettings, users: Users) -> dict[str, Any]:
    """Return the columns of `users.parquet`; region and age lean towards the user's community."""
    rng = stream(settings.seed, 10)
    region = np.where(rng.random(users.count) < 0.7, users.community, rng.integers(0, 1 << 20, users.count))
    age = np.where(rng.random(users.count) < 0.5, users.community // 3, rng.integers(0, 1 << 20, users.count))
    return {
        "user_id": identifiers("u", users.count),
        "joined": _arrival_seconds(rng, users.week, before=100),
        "region": [REGIONS[number % len(REGIONS)] for number in region],
        "age_group": [_AGES[number % len(_AGES)] for number in age],
    }


def social_links(settings: WorldSettings, users: Users) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield runs of directed links `(src, dst)` as int64 user indices, sorted, without doubles and loops.

    A user draws about `friends` others, active users more; a share `homophily` of them lives in the same community. Half
    of the links are answered.
    """
    order = np.argsort(users.community, kind="stable")
    starts = np.searchsorted(users.community[order], np.arange(settings.community_count + 1))
    pull = np.minimum(users.activity, 8 * np.median(users.activity))
    edges = np.concatenate([[0.0], np.cumsum(pull[order])])
    rng = stream(settings.seed, 11)
    degree = rng.poisson(settings.friends / 1.5 * pull / pull.mean())
    src = np.repeat(np.arange(users.count), degree)
    same = rng.random(len(src)) < settings.homophily
    home = users.community[src]
    low = np.where(same, edges[starts[home]], 0.0)
    high = np.where(same, edges[starts[home + 1]], edges[-1])
    target = low + rng.random(len(src)) * (high - low)
    dst = order[np.minimum(np.searchsorted(edges[1:], target, side="right"), users.count - 1)]
    answered = rng.random(len(src)) < 0.5
    key = np.concatenate([src * users.count + dst, (dst * users.count + src)[answered]])
    key = np.sort(key[np.concatenate([src != dst, (src != dst)[answered]])])
    key = key[np.diff(key, prepend=-1) > 0]
    for first in range(0, len(key), 1 << 20):
        part = key[first : first + (1 << 20)]
        yield part // users.count, part % users.count


def identifiers(letter: str, count: int) -> list[str]:
    """Return `count` ids such as `u00017`; they sort as their numbers do."""
    width = max(5, len(str(count - 1)))
    return [f"{letter}{number:0{width}d}" for number in range(count)]


def _niche_words(rng: np.random.Generator, topic: int) -> tuple[list[str], list[str], list[str]]:
    words = TOPICS[topic]
    return (
        [words.adjectives[n] for n in rng.permutation(len(words.adjectives))[:5]],
        [words.nouns[n] for n in rng.permutation(len(words.nouns))[:6]],
        [words.motifs[n] for n in rng.permutation(len(words.motifs))[:4]],
    )


def _person(number: int, lap: int) -> str:
    first, last = FIRST_NAMES[number % len(FIRST_NAMES)], LAST_NAMES[number // len(FIRST_NAMES)]
    middle = ""
    while lap:  # in large worlds the plain names run out
        lap, letter = divmod(lap - 1, 26)
        middle = f"{chr(65 + letter)}. {middle}"
    return f"{first} {middle}{last}"


def _arrival_seconds(rng: np.random.Generator, week: np.ndarray, before: int) -> np.ndarray:
    # seconds relative to the start of the period: some time in the week before the first possible event, or up to
    # `before` weeks earlier for what was there from the start
    earlier = np.where(week == 0, rng.integers(0, before, len(week)), 0)
    return (week - earlier) * _SECONDS_PER_WEEK - rng.integers(1, _SECONDS_PER_WEEK, len(week))
