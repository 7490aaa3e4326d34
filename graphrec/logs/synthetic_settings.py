"""What a made-up world is like: the settings that every part of the generator reads."""

from __future__ import annotations

import datetime
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from graphrec.logs.synthetic_words import TOPICS
from graphrec.settings import Settings

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class WorldSettings(Settings):
    """What a made-up world is like. The defaults give the demo log that graphrec ships.

    Attributes:
        num_events: events in the log, all behaviours together.
        num_users, num_items: sizes; left out, one user per 60 events and 4.33 √events items.
        days: length of the period.
        start: its first day.
        seed: the same seed gives the same world.
        num_topics: shelves of the shop.
        niche_size: items in a niche, roughly; smaller niches are easier to learn.
        num_communities: left out, one per 60 users.
        funnel: behaviour → share of the events of the behaviour before it that go on to it; the first is 1.
        wander: share of views that ignore the user's taste.
        drift: share of sessions that follow the new taste at the end of the period.
        homophily: share of social links inside a community.
        friends: mean number of social links of a user.
        popularity_exponent, activity_exponent: how steeply the rank-size curves of items and users fall.
        cold_item_share, cold_user_share: those that arrive late and meet few events.
        media: name → size of the media vectors.
        media_noise: noise beside the taste in the media vectors, which have unit scale.
    """

    num_events: int = Field(120_000, ge=100, le=1_000_000_000)
    num_users: int | None = Field(None, ge=10, le=20_000_000)
    num_items: int | None = Field(None, ge=24, le=10_000_000)
    days: int = Field(182, ge=7, le=3650)
    start: datetime.date = datetime.date(2024, 1, 1)
    seed: int = Field(7, ge=0)
    num_topics: int = Field(12, ge=2, le=len(TOPICS))
    niche_size: int = Field(30, ge=2)
    num_communities: int | None = Field(None, ge=1)
    funnel: dict[str, Share] = Field(default_factory=lambda: {"view": 1.0, "cart": 0.35, "purchase": 0.55})
    wander: Share = 0.12
    drift: Share = 0.4
    homophily: Share = 0.8
    friends: float = Field(6.0, ge=0.0, le=200.0)
    popularity_exponent: float = Field(0.6, ge=0.0, le=1.5)
    activity_exponent: float = Field(0.6, ge=0.0, le=1.5)
    cold_item_share: Share = 0.06
    cold_user_share: Share = 0.06
    media: dict[str, Annotated[int, Field(ge=1, le=4096)]] = Field(default_factory=lambda: {"image": 48, "audio": 24})
    media_noise: float = Field(0.5, ge=0.0)

    @field_validator("funnel")
    @classmethod
    def _starts_with_one(cls, funnel: dict[str, float]) -> dict[str, float]:
        if not funnel or next(iter(funnel.values())) != 1.0 or len(funnel) > 100:
            raise ValueError("needs 1 to 100 behaviours, the first with the share 1.0")
        return funnel

    @field_validator("media")
    @classmethod
    def _plain_names(cls, media: dict[str, int]) -> dict[str, int]:
        for name in media:
            if not name.isidentifier():
                raise ValueError(f"media names must be plain words, got {name!r}")
        return media

    @model_validator(mode="after")
    def _enough_items(self) -> WorldSettings:
        if self.item_count < self.num_topics:
            raise ValueError(f"num_items must be at least num_topics = {self.num_topics}, got {self.item_count}")
        return self

    @property
    def user_count(self) -> int:
        """Number of users: as asked for, or by the rule of `num_users`."""
        return self.num_users or max(10, min(self.num_events // 60, 20_000_000))

    @property
    def item_count(self) -> int:
        """Number of items: as asked for, or by the rule of `num_items`."""
        return self.num_items or max(24, min(round(4.33 * self.num_events**0.5), self.num_events // 5))

    @property
    def community_count(self) -> int:
        """Number of communities: as asked for, or by the rule of `num_communities`."""
        return self.num_communities or max(4, self.user_count // 60)

    @property
    def num_weeks(self) -> int:
        """Number of weeks that the period touches."""
        return -(-self.days // 7)
