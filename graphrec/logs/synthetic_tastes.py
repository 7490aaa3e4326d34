"""The hidden state of a made-up world: who likes what, when it arrives, and what is popular.

Tastes have two levels. A *topic* is a shelf (jazz); a *niche* is a corner of it, of about `niche_size` items. An item
belongs to a primary and, less strongly, to a secondary niche. A user holds a mixture over six niches: four come from the
user's *community*, two are personal; the mixture at the end of the period differs from the one at its start.
All arrays together take a few hundred bytes per user and per item, whatever the number of events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from graphrec.logs.synthetic_settings import WorldSettings

SLOTS = 6  # niches in a user's mixture
PRIMARY_SHARE = 0.8  # part of an item's pull that comes through its primary niche
CREATORS_PER_NICHE = 4
BRANDS_PER_TOPIC = 6
_START_SLOTS = np.array(
    [1, 1, 1, 0, 1, 0], dtype=np.float64
)  # slots 0..3 come from the community, 4 and 5 are personal
_END_SLOTS = np.array([0, 1, 1, 1, 0, 1], dtype=np.float64)


def stream(seed: int, *path: int) -> np.random.Generator:
    """Return the generator of one named part of the world, independent of all others."""
    return np.random.default_rng([seed, *path])


@dataclass(frozen=True)
class Niches:
    """The corners of the topics.

    Attributes:
        topic: int64 (M,), topic of each niche.
        popularity: float64 (M,), sums to 1.
    """

    topic: np.ndarray
    popularity: np.ndarray

    @property
    def count(self) -> int:
        return len(self.topic)


@dataclass(frozen=True)
class Items:
    """The catalogue in order of release.

    Attributes:
        primary, secondary: int64 (I,), niches.
        week: int64 (I,), first week in which the item can be met; 0 for those there from the start.
        popularity: float64 (I,), power law.
        appeal: float64 (I,), factor on the chance that a view becomes more, 0.5 to 1.5.
        creator, brand: int64 (I,), entity numbers.
    """

    primary: np.ndarray
    secondary: np.ndarray
    week: np.ndarray
    popularity: np.ndarray
    appeal: np.ndarray
    creator: np.ndarray
    brand: np.ndarray

    @property
    def count(self) -> int:
        return len(self.primary)


@dataclass(frozen=True)
class Users:
    """The users in order of joining.

    Attributes:
        community: int64 (U,).
        week: int64 (U,), first week in which the user can act.
        activity: float64 (U,), power law.
        slots: int32 (U, 6), niches of the mixture.
        start, end: float32 (U, 6), cumulative mixture weights at both ends of the period; the last entry is infinite.
    """

    community: np.ndarray
    week: np.ndarray
    activity: np.ndarray
    slots: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @property
    def count(self) -> int:
        return len(self.community)


def draw_niches(settings: WorldSettings) -> Niches:
    """Cut every topic into niches and give each a popularity that falls as a power of its rank."""
    rng = stream(settings.seed, 1)
    count = max(settings.num_topics, settings.item_count // settings.niche_size)
    popularity = (1.0 + rng.permutation(count)) ** -0.4
    return Niches(np.arange(count) % settings.num_topics, popularity / popularity.sum())


def draw_items(settings: WorldSettings, niches: Niches) -> Items:
    """Draw the catalogue; every niche has at least one item from the first week on."""
    rng = stream(settings.seed, 2)
    count = settings.item_count
    primary = rng.permutation(np.arange(count) % niches.count)
    secondary = rng.integers(0, niches.count, count)
    popularity = _power_law(rng, count, settings.popularity_exponent)
    week, cold = _arrivals(rng, count, settings.num_weeks, 0.7, settings.cold_item_share)
    popularity[cold] *= 0.15
    week[np.unique(primary, return_index=True)[1]] = 0
    order = np.argsort(week, kind="stable")
    primary = primary[order]
    leaning = np.minimum(rng.random(count), rng.random(count))  # the first creators of a niche made most of its items
    return Items(
        primary=primary,
        secondary=secondary[order],
        week=week[order],
        popularity=popularity[order],
        appeal=rng.uniform(0.5, 1.5, count),
        creator=primary * CREATORS_PER_NICHE + (leaning * CREATORS_PER_NICHE).astype(np.int64),
        brand=niches.topic[primary] * BRANDS_PER_TOPIC + (primary + rng.integers(0, 2, count)) % BRANDS_PER_TOPIC,
    )


def draw_users(settings: WorldSettings, niches: Niches) -> Users:
    """Draw the users: community, arrival, activity and the two ends of the taste mixture."""
    rng = stream(settings.seed, 3)
    count = settings.user_count
    shelf = _community_niches(rng, settings.community_count, niches)
    community = (settings.community_count * rng.random(count) ** 1.3).astype(np.int64)  # some are larger than others
    week, cold = _arrivals(rng, count, settings.num_weeks, 0.6, settings.cold_user_share)
    activity = _power_law(rng, count, settings.activity_exponent)
    activity[cold] *= 0.2
    week[0] = 0
    order = np.argsort(week, kind="stable")
    community, week, activity = community[order], week[order], activity[order]
    slots = np.empty((count, SLOTS), dtype=np.int32)
    for slot in range(4):
        slots[:, slot] = shelf[community, rng.integers(0, shelf.shape[1], count)]
    for slot in range(4, SLOTS):
        slots[:, slot] = _pick(niches.popularity, rng.random(count))
    return Users(
        community, week, activity, slots, _cumulative(rng, count, _START_SLOTS), _cumulative(rng, count, _END_SLOTS)
    )


def item_tastes(settings: WorldSettings, niches: Niches, items: Items, first: int, last: int, size: int) -> np.ndarray:
    """Return the latent taste vectors of items `first` to `last`, float32 (n, size).

    Topic and niche each have a random direction; an item mixes those of its two niches and adds its own noise.
    """
    rng = stream(settings.seed, 4)
    topics = rng.standard_normal((settings.num_topics, size), dtype=np.float32)
    directions = topics[niches.topic] + rng.standard_normal((niches.count, size), dtype=np.float32)
    own = stream(settings.seed, 4, first).standard_normal((last - first, size), dtype=np.float32)
    share = np.float32(PRIMARY_SHARE)
    mixed = share * directions[items.primary[first:last]] + (1 - share) * directions[items.secondary[first:last]]
    return mixed + np.float32(0.4) * own


def _power_law(rng: np.random.Generator, count: int, exponent: float) -> np.ndarray:
    # Pareto draws whose rank-size curve falls as rank ** -exponent; the cap keeps one draw from owning the world
    return np.minimum((1.0 - rng.random(count)) ** -exponent, 200.0)


def _arrivals(
    rng: np.random.Generator, count: int, weeks: int, at_start: float, cold_share: float
) -> tuple[np.ndarray, np.ndarray]:
    # returns the week of arrival and the mask of the late, cold ones
    late_from = max(1, int(weeks * 0.85))
    kind = rng.random(count)
    week = np.where(kind < at_start, 0, rng.integers(0, late_from, count))
    cold = kind >= 1.0 - cold_share
    return np.where(cold, rng.integers(late_from, max(weeks, late_from + 1), count), week), cold


def _community_niches(rng: np.random.Generator, communities: int, niches: Niches) -> np.ndarray:
    # (C, 8): each community gathers around three topics and eight niches of them
    num_topics = int(niches.topic.max()) + 1
    topics = rng.integers(0, num_topics, (communities, 3))
    shelf = np.empty((communities, 8), dtype=np.int64)
    members = [np.flatnonzero(niches.topic == topic) for topic in range(num_topics)]
    for column in range(8):
        topic, draw = topics[:, column % 3], rng.random(communities)
        for number, own in enumerate(members):
            chosen = topic == number
            popularity = niches.popularity[own]
            shelf[chosen, column] = own[_pick(popularity / popularity.sum(), draw[chosen])]
    return shelf


def _pick(probability: np.ndarray, draw: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(np.cumsum(probability), draw, side="right"), len(probability) - 1)


def _cumulative(rng: np.random.Generator, count: int, present: np.ndarray) -> np.ndarray:
    weights = rng.standard_exponential((count, SLOTS)) * present + 1e-12 * present
    cumulative = np.cumsum(weights, axis=1)
    cumulative /= cumulative[:, -1:]
    result = cumulative.astype(np.float32)
    result[:, -1 if present[-1] else -2] = np.inf
    result[:, -1] = np.inf
    return result
