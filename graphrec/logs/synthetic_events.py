"""The event stream of a made-up world: sessions in the rhythm of days and weeks, each a walk through the funnel.

A session belongs to one user and follows one niche of the user's mixture of that moment. It holds a few views; a small
share of them wanders off to something that is merely popular. A view goes on to the next behaviour of the funnel with a
chance that is higher where the taste led to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graphrec.logs.synthetic_tastes import PRIMARY_SHARE, SLOTS, Items, Niches, Users, stream

if TYPE_CHECKING:
    from graphrec.logs.synthetic_settings import WorldSettings

CHUNK_EVENTS = 1 << 19  # events drawn at once: bounds memory to about 100 MB
_MEAN_VIEWS = 3.0  # views in a session
_STEP_SECONDS = 90  # from one view to the next
_WEEK_SECONDS = 7 * 86_400
_TASTE_LIFT, _WANDER_LIFT = 1.15, 0.35  # factors on the funnel for views that taste or chance led to


@dataclass(frozen=True)
class Events:
    """A run of events in time order.

    Attributes:
        user, item: int32 (n,), indices.
        behavior: int8 (n,), position in the funnel.
        time: int64 (n,), seconds since the start of the period.
    """

    user: np.ndarray
    item: np.ndarray
    behavior: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: np.ndarray | slice) -> Events:
        """Return the events at `index`."""
        return Events(self.user[index], self.item[index], self.behavior[index], self.time[index])


class EventSource:
    """Draws the events of a world, chunk by chunk.

    Args:
        settings: the world's settings.
        niches, items, users: its hidden state.
    """

    def __init__(self, settings: WorldSettings, niches: Niches, items: Items, users: Users) -> None:
        self._settings, self._items, self._users = settings, items, users
        self._hours, self._rhythm = _rhythm(settings.days)
        self._niche_cumulative = np.cumsum(niches.popularity)
        self._niche_cumulative[-1] = np.inf
        self._index_items(niches)
        self._user_cumulative = np.cumsum(users.activity)
        joined = np.searchsorted(users.week, np.arange(settings.num_weeks), side="right")
        self._user_limit = self._user_cumulative[joined - 1]  # (weeks,): activity of those who have joined

    def _index_items(self, niches: Niches) -> None:
        # One list of (niche, item) entries, sorted by niche and release: what a niche offers in a week is a prefix of
        # its part of the list, so that a draw is one search in the cumulative popularity.
        items, weeks = self._items, self._settings.num_weeks
        item = np.tile(np.arange(items.count), 2)
        niche = np.concatenate([items.primary, items.secondary])
        pull = np.concatenate([PRIMARY_SHARE * items.popularity, (1 - PRIMARY_SHARE) * items.popularity])
        key = niche * weeks + items.week[item]
        order = np.argsort(key, kind="stable")
        key = key[order]
        self._entry_item = item[order].astype(np.int32)
        self._entry_cumulative = np.cumsum(pull[order])
        edges = np.concatenate([[0.0], self._entry_cumulative])
        first = np.arange(niches.count) * weeks
        self._niche_low = edges[np.searchsorted(key, first, side="left")]  # (M,)
        self._niche_high = np.stack(  # (weeks, M)
            [edges[np.searchsorted(key, first + week, side="right")] for week in range(weeks)]
        )

    def chunks(self) -> Iterator[Events]:
        """Yield all `num_events` events in time order, in runs of about `CHUNK_EVENTS`."""
        total = self._settings.num_events
        count = -(-total // CHUNK_EVENTS)
        held: Events | None = None
        for number in range(count):
            quota = total * (number + 1) // count - total * number // count
            events = self._draw(stream(self._settings.seed, 5, number), quota, number / count, (number + 1) / count)
            if held is not None:
                events = _joined(held, events)
            events = events.take(np.argsort(events.time, kind="stable"))
            if number + 1 == count:
                yield events
                return
            # A session may run past the end of its chunk: those events wait for the next one.
            border = np.interp((number + 1) / count, self._rhythm, self._hours)
            cut = int(np.searchsorted(events.time, border, side="left"))
            held = events.take(slice(cut, None))
            yield events.take(slice(None, cut))

    def _draw(self, rng: np.random.Generator, quota: int, low: float, high: float) -> Events:
        parts, have = [], 0
        steps = np.cumprod(list(self._settings.funnel.values()))
        mean = _MEAN_VIEWS * float(steps.sum())
        while have < quota:
            sessions = int((quota - have) / mean * 1.02) + 16
            part = self._sessions(rng, sessions, low, high)
            parts.append(part)
            have += len(part)
        drawn = parts[0]
        for part in parts[1:]:
            drawn = _joined(drawn, part)
        return drawn.take(slice(None, quota))  # sessions come in no order of time, so this cuts at random

    def _sessions(self, rng: np.random.Generator, count: int, low: float, high: float) -> Events:
        settings, users = self._settings, self._users
        begin = np.interp(rng.uniform(low, high, count), self._rhythm, self._hours)
        week = np.minimum((begin / _WEEK_SECONDS).astype(np.int64), settings.num_weeks - 1)
        user = np.searchsorted(self._user_cumulative, rng.random(count) * self._user_limit[week], side="right")
        user = np.minimum(user, users.count - 1)
        late = rng.random(count) < settings.drift * begin / self._hours[-1]
        cumulative = np.where(late[:, None], users.end[user], users.start[user])  # (sessions, SLOTS)
        slot = (cumulative <= rng.random(count, dtype=np.float32)[:, None]).sum(axis=1)
        niche = users.slots[user, np.minimum(slot, SLOTS - 1)].astype(np.int64)
        views = np.minimum(rng.geometric(1.0 / _MEAN_VIEWS, count), 20)
        owner = np.repeat(np.arange(count), views)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(views) - views, views)
        time = begin[owner].astype(np.int64) + position * _STEP_SECONDS + rng.integers(0, 60, len(owner))
        wander = rng.random(len(owner)) < settings.wander
        niche, week = niche[owner], week[owner]
        niche[wander] = np.searchsorted(self._niche_cumulative, rng.random(int(wander.sum())), side="right")
        item = self._draw_items(rng, niche, week)
        return self._funnel(rng, user[owner].astype(np.int32), item, time, wander)

    def _draw_items(self, rng: np.random.Generator, niche: np.ndarray, week: np.ndarray) -> np.ndarray:
        low, high = self._niche_low[niche], self._niche_high[week, niche]
        target = np.minimum(low + rng.random(len(niche)) * (high - low), np.nextafter(high, 0.0))
        return self._entry_item[np.searchsorted(self._entry_cumulative, target, side="right")]

    def _funnel(
        self, rng: np.random.Generator, user: np.ndarray, item: np.ndarray, time: np.ndarray, wander: np.ndarray
    ) -> Events:
        rates = list(self._settings.funnel.values())
        reached = np.zeros(len(user), dtype=np.int8)
        alive = np.arange(len(user))
        lift = np.where(wander, _WANDER_LIFT, _TASTE_LIFT) * self._items.appeal[item]
        for step, rate in enumerate(rates[1:], start=1):
            alive = alive[rng.random(len(alive)) < rate * lift[alive]]
            reached[alive] = step
        width = reached.astype(np.int64) + 1
        source = np.repeat(np.arange(len(user)), width)
        behavior = (np.arange(len(source)) - np.repeat(np.cumsum(width) - width, width)).astype(np.int8)
        return Events(user[source], item[source], behavior, time[source] + 25 * behavior.astype(np.int64))


def _rhythm(days: int) -> tuple[np.ndarray, np.ndarray]:
    """Return hour marks in seconds and the share of all sessions begun by then, both (24 days + 1,)."""
    hour = np.arange(days * 24)
    clock, weekday = hour % 24, (hour // 24) % 7
    daily = 0.08 + np.exp(-(((clock - 20.0) / 3.5) ** 2)) + 0.5 * np.exp(-(((clock - 12.5) / 2.5) ** 2))
    rate = daily * np.where(weekday >= 5, 1.35, 1.0) * (1.0 + 0.5 * hour / len(hour))
    share = np.concatenate([[0.0], np.cumsum(rate)])
    return np.arange(len(share)) * 3600.0, share / share[-1]


def _joined(first: Events, second: Events) -> Events:
    return Events(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("user", "item", "behavior", "time")
        )
    )
