"""Encoders over several behaviours of the same users and items: a cascade, and user-specific weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from graphrec.errors import ConfigError
from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import at_rows, sides_of
from graphrec.nn.light import LightGCNEncoder, LightGCNSettings
from graphrec.nn.relations import RecencySettings, Relations
from graphrec.ops import Relation, spmm
from graphrec.ops.spmm import scale_dtype


class BehaviorSettings(RecencySettings):
    """What the encoders over behaviours share."""

    behaviors: list[str] | None = None
    """Names in order, as "view", "cart", "buy"; the last must be the target. None: all, those with most events first."""
    num_layers: int = Field(2, ge=1, le=16)
    """L, hops within each behaviour."""


class BehaviorEncoder(Encoder):
    """Base of encoders over the user to item relations, the target last.

    Args:
        settings: the subclass's own.
        dim: D of the inputs.
        generator: source of the random start.
    """

    Settings = BehaviorSettings
    reads_weights = True
    name = "behaviors"  # for messages

    def prepare(self, relations: Relations, generator: torch.Generator) -> None:
        """Take the behaviours and make what depends on their number.

        Raises:
            ConfigError: a behaviour is missing or has no training events, the last is not the target, or there is but one.
        """
        where, target = f"encoder {self.name}", relations.target[1]
        named = dict.fromkeys(self.settings.behaviors or relations.behaviors)
        self.names = [name for name in named if name not in relations.dropped]
        relations = relations.weighted(self.settings.half_life_days, where)
        found = [relations.of_behavior(name, where) for name in self.names]
        if self.names[-1:] != [target]:
            raise ConfigError(
                f"{where}: the behaviours must end with the target {target!r}, got {', '.join(self.names)}; reorder them, or "
                "build the store with [build] target_behavior set to the last of them"
            )
        if len(found) < 2 and not relations.dropped:
            raise ConfigError(
                f"{where} needs another behaviour beside the target {target!r}; the store has {relations.describe()}; "
                "add events of one to the log, or use lightgcn"
            )
        self._others = found[:-1]
        self.make(len(found), generator)

    def optional(self, relations: Relations) -> list[str]:
        """The behaviours beside the target."""
        named = dict.fromkeys(self.settings.behaviors or relations.behaviors)
        return [name for name in named if name not in {relations.target[1], *relations.dropped}]

    def make(self, count: int, generator: torch.Generator) -> None:
        """Make parameters for `count` behaviours; none by default."""

    def _all(self, relation: Relation) -> list[Relation]:
        return [*self._others, relation]


class CascadeSettings(BehaviorSettings):
    """Settings of the `cascade` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 4}, "transform": [False, True]}

    transform: bool = True
    """Whether a learned matrix, which starts at one, stands between two behaviours."""


class CascadeEncoder(BehaviorEncoder):
    """LightGCN on one behaviour after the other, each starting where the one before ended.

    x^1 = x, y^b = LightGCN_b(x^b), x^{b+1} = n(y^b) W^b, and e = sum_b c_b n(y^b), with n the rows at unit length and c_b =
    B softmax_b(a), learned, starting at one each. Matrices and c are shared by users and items.

    Source: Cheng et al. 2023, "Multi-Behavior Recommendation with Cascading Graph Convolution Networks" (MB-CGCN),
    arXiv:2303.15720, after Yan et al. 2022 (CRGCN), arXiv:2205.13128. The weights c are added: with c = 1 it is the paper's sum.
    """

    Settings = CascadeSettings
    name = "cascade"

    def make(self, count: int, generator: torch.Generator) -> None:
        """One matrix between two behaviours, one weight each."""
        self.logits = nn.Parameter(torch.zeros(count))
        steps = count - 1 if self.settings.transform else 0
        self.transforms = nn.ParameterList([nn.Parameter(torch.eye(self.dim)) for _ in range(steps)])
        self._hops = LightGCNEncoder(LightGCNSettings(num_layers=self.settings.num_layers), self.dim)

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Go through the cascade; arguments and result as of `HeteroEncoder.forward`."""
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        x, total = (user_x, item_x), [0.0, 0.0]
        for number, (one, weight) in enumerate(zip(self._all(relation), self._weights(), strict=True)):
            last = number == len(self._others)
            y = self._hops(one, *x, *((users, items) if last else (None, None)))
            x = [normalize(side, dim=1) for side in y]
            kept = x if last else [side if rows is None else side[rows] for side, rows in zip(x, (users, items), strict=True)]
            total = [sum_ + weight.to(side.dtype) * side for sum_, side in zip(total, kept, strict=True)]
            if not last and self.settings.transform:
                x = [side @ self.transforms[number].to(side.dtype) for side in x]
        return total[0], total[1]

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """The learned shares softmax(a) of the behaviours in every vector."""
        return dict(zip(self.names, torch.softmax(self.logits, 0).tolist(), strict=True))

    def _weights(self) -> Tensor:
        return torch.softmax(self.logits, 0) * len(self.logits)


class MBGCNSettings(BehaviorSettings):
    """Settings of the `mbgcn` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 4}, "item_share": {"low": 0.0, "high": 1.0}}

    item_share: float = Field(0.3, ge=0, le=1)
    """Share of the item-based score beside the user-based one; the paper's lambda is one minus this."""


class MBGCNEncoder(BehaviorEncoder):
    """Behaviours that count for each user by how often the user shows them, and items that are alike within a behaviour.

    p^{l+1} = sum_b a_ub mean of q^l over the items of u under b, with a_ub = w_b n_ub / sum_c w_c n_uc, n_ub the number of those
    items and w >= 0 learned; q^{l+1} = mean of p^l over the users of i under any behaviour; both are averaged over layers. Beside
    it, for each behaviour, s_b^{l+1} = items to users to items by means, and the score gains the mean over the
    user's items j under b of <s_bj M_b, s_bi>. All of it is one inner product of D (1 + B) numbers.

    Source: Jin et al. 2020, "Multi-behavior Recommendation with Graph Convolutional Networks", SIGIR,
    doi:10.1145/3397271.3401072, eq. 2-11. Here hops have no matrices, layers are averaged and not concatenated, and the
    item-item relation is walked in two steps instead of being stored.
    """

    Settings = MBGCNSettings
    name = "mbgcn"

    def make(self, count: int, generator: torch.Generator) -> None:
        """A weight and a matrix for each behaviour; the output has a part for each."""
        self.raw = nn.Parameter(torch.zeros(count))
        self.maps = nn.ParameterList([nn.Parameter(torch.eye(self.dim)) for _ in range(count)])
        self.out_dim = self.dim * (1 + count * (self.settings.item_share > 0))

    def forward(
        self,
        relation: Relation,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Propagate; arguments and result as of `HeteroEncoder.forward`, with D (1 + B) columns."""
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        relations, dtype = self._all(relation), scale_dtype(item_x)
        left = self._user_scales(relations, dtype)
        degree = sum(one.strength_src for one in relations).to(dtype)  # of items, over all behaviours
        item_scale = torch.where(degree > 0, 1 / degree.clamp(min=torch.finfo(dtype).tiny), torch.zeros_like(degree))
        p, q = user_x, item_x
        user_sum, item_sum = p, q
        for _ in range(self.settings.num_layers):
            p, q = (
                sum(scale[:, None] * spmm(one, q) for one, scale in zip(relations, left, strict=True)),
                item_scale[:, None] * sum(spmm(one.transpose(), p) for one in relations),
            )
            user_sum, item_sum = user_sum + p, item_sum + q
        share = self.settings.item_share
        layers = self.settings.num_layers + 1
        user_parts, item_parts = [user_sum * ((1 - share) ** 0.5 / layers)], [item_sum * ((1 - share) ** 0.5 / layers)]
        if share > 0:
            for one, matrix in zip(relations, self.maps, strict=True):
                alike = self._alike(one, item_x) * (share / len(relations)) ** 0.5
                user_parts.append(spmm(one, alike @ matrix.to(dtype), one.scale_dst(-1.0, dtype)))
                item_parts.append(alike)
        return at_rows(torch.cat(user_parts, 1), users), at_rows(torch.cat(item_parts, 1), items)

    @torch.no_grad()
    def relation_weights(self, relation: Relation, user_x: Tensor, item_x: Tensor) -> dict[str, float]:
        """The mean over users of a_ub."""
        relations = self._all(relation)
        counts = torch.stack([one.strength_dst.double() for one in relations]) * self._strength().double()[:, None]
        share = counts / counts.sum(0).clamp(min=1e-12)
        active = counts.sum(0) > 0
        return dict(zip(self.names, share[:, active].mean(1).tolist(), strict=True))

    def _strength(self) -> Tensor:
        return torch.exp(self.raw)

    def _user_scales(self, relations: list[Relation], dtype: torch.dtype) -> list[Tensor]:
        """w_b / sum_c w_c n_uc for each behaviour: what the sum over the items of u under b is multiplied by, (U,) each."""
        strength = self._strength().to(dtype)
        total = sum(weight * one.strength_dst.to(dtype) for one, weight in zip(relations, strength, strict=True))
        inverse = torch.where(total > 0, 1 / total.clamp(min=1e-12), torch.zeros_like(total))
        return [weight * inverse for weight in strength]

    def _alike(self, relation: Relation, s: Tensor) -> Tensor:
        """Average the layers of the walk from items to users to items."""
        dtype = scale_dtype(s)
        transpose, total = relation.transpose(), s
        for _ in range(self.settings.num_layers):
            s = spmm(transpose, spmm(relation, s, relation.scale_dst(-1.0, dtype)), relation.scale_src(-1.0, dtype))
            total = total + s
        return total / (self.settings.num_layers + 1)
