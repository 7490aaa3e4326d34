"""GC-MC: one message per rating level, and a decoder that gives a probability to every level.

R levels, U users, I items, D inputs, H hidden, S basis matrices, B batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import dropout, relu

from graphrec.nn.heads import check_rows
from graphrec.nn.layer import linear, project, sides_of
from graphrec.nn.rating_graph import RatingGraph
from graphrec.ops import Relation, spmm
from graphrec.ops.spmm import scale_dtype
from graphrec.settings import Settings


class GCMCEncoderSettings(Settings):
    """Settings of GC-MC's encoder."""

    search: ClassVar[Mapping[str, Any]] = {
        "accumulate": ["sum", "stack"],
        "dropout": [0.0, 0.3, 0.5, 0.7],
        "node_dropout": [0.0, 0.3, 0.5, 0.7],
    }

    hidden_dim: int = Field(default=500, ge=1)
    """H, the length of a node's accumulated messages; the paper's choice."""
    out_dim: int = Field(default=75, ge=1)
    """D of what comes out; the paper's choice."""
    accumulate: Literal["sum", "stack"] = "sum"
    """How messages of different levels are joined. "sum": added, with weights that a level shares with those below it;
    "stack": each level has its own H / R entries, rounded up."""
    normalization: Literal["left", "symmetric"] = "symmetric"
    """What a message is divided by: the receiver's degree, or the root of both degrees' product."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance that an accumulated entry is zeroed in training; the paper tunes it between 0.3 and 0.8 by data set. With
    dropout, keep `train.weight_decay` small, as the paper does: a large one can pull all vectors to zero for good."""
    node_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Chance that all messages of a node are left out in training; the paper has one rate for this and the other."""


class GCMCEncoder(nn.Module):
    """e = W · dropout(ReLU(h)), h_u = join over the levels r of Σ_{i rated r by u} W_r x_i / c_ui, and the same for items.

    c_ui is the number of ratings of the receiver, or sqrt(|N_u| · |N_i|). With "sum", W_r = Σ_{s ≤ r} T_s.

    Args:
        settings: see `GCMCEncoderSettings`; None takes the defaults.
        dim: D of the inputs.
        generator: source of the random start.
        num_levels: R of the graph.

    **Source**: van den Berg et al. 2017, "Graph Convolutional Matrix Completion", arXiv 1706.02263, its graph
    convolutional encoder, node dropout and weight sharing. There x is a one-hot row, so that W_r has a free column for
    every node; here x is a learned embedding (or projected features) and W_r a map of it: the same table, factored, so
    that it does not grow with the number of levels.
    """

    Settings = GCMCEncoderSettings
    hops: ClassVar[int] = 1

    def __init__(
        self,
        settings: GCMCEncoderSettings | None = None,
        dim: int = 64,
        generator: torch.Generator | None = None,
        num_levels: int = 1,
    ) -> None:
        super().__init__()
        self.settings = settings or GCMCEncoderSettings()
        stacked = self.settings.accumulate == "stack"
        width = -(-self.settings.hidden_dim // num_levels) if stacked else self.settings.hidden_dim
        bound = (6.0 / (dim + width)) ** 0.5
        self.weight = nn.Parameter(torch.empty(num_levels, dim, width).uniform_(-bound, bound, generator=generator))
        self.dense = linear(width * num_levels if stacked else width, self.settings.out_dim, generator, bias=False)
        self.out_dim = self.settings.out_dim

    def forward(
        self,
        graph: RatingGraph | Any,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            graph: users as rows, items as columns, as many levels as the encoder, all of it or a sample; or what `RatingGraph.of`
                makes one of, such as a DGL graph, at every call.
            user_x, item_x: float32 or float64 (U, D) and (I, D).
            users, items: int64, distinct: the rows wanted; None for all.

        Returns:
            The encoded users and items, (U, out_dim) and (I, out_dim), or only the rows asked for, in their order.

        Raises:
            ConfigError: as of `RatingGraph.from_dgl`.
            ValueError: the graph has another number of levels, or features do not fit it or the encoder, or are not finite.
        """
        graph = RatingGraph.of(graph, user_x.device)
        if len(graph.levels) != len(self.weight):
            raise ValueError(
                f"GCMCEncoder: the graph must have {len(self.weight)} levels, got {len(graph.levels)}; "
                "make the encoder with num_levels of its graph"
            )
        sides_of(graph.pattern, "GCMCEncoder", user_x, item_x, self.weight.shape[1], users, items)
        return self._encode(graph, user_x, item_x, users, items)

    def _encode(
        self, graph: RatingGraph, user_x: Tensor, item_x: Tensor, users: Tensor | None, items: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        levels = [level.transpose() for level in graph.levels]
        return (
            self._receive(graph.levels, self._scales(graph.pattern, user_x), self._heard(item_x), users),
            self._receive(levels, self._scales(graph.pattern.transpose(), item_x), self._heard(user_x), items),
        )

    def layer(self, index, graph, user_h, item_h, user_x, item_x, users, items):  # type: ignore[no-untyped-def]
        """The one layer for some rows; see `nn.layerwise`."""
        return self._encode(graph, user_h, item_h, users, items)

    def _receive(
        self,
        levels: list[Relation] | tuple[Relation, ...],
        scales: tuple[Tensor, Tensor | None],
        x: Tensor,
        rows: Tensor | None,
    ) -> Tensor:
        heard = torch.stack([spmm(level, x, *scales, rows=rows) for level in levels])  # (R, B, D)
        if self.settings.accumulate == "sum":
            h = torch.einsum("rbd,rdh->bh", heard, self.weight.cumsum(0))
        else:
            h = torch.bmm(heard, self.weight).transpose(0, 1).flatten(1)  # (R, B, h) -> (B, R * h)
        return project(self.dense, dropout(relu(h.to(x.dtype)), self.settings.dropout, self.training))

    def _scales(self, pattern: Relation, x: Tensor) -> tuple[Tensor, Tensor | None]:
        wide = scale_dtype(x)
        if self.settings.normalization == "left":
            return pattern.scale_dst(-1.0, wide), None
        return pattern.scale_dst(-0.5, wide), pattern.scale_src(-0.5, wide)

    def _heard(self, x: Tensor) -> Tensor:
        if not self.training or not self.settings.node_dropout:
            return x
        return x * dropout(x.new_ones(len(x), 1), self.settings.node_dropout, True)


class RatingHeadSettings(Settings):
    """Settings of the rating head."""

    num_bases: int = Field(default=2, ge=1, le=32)
    """S, basis matrices that all levels share; 2 is the paper's choice for MovieLens."""
    levels: tuple[float, ...] = (0.0, 1.0)
    """The rating of each level, ascending; found in the training data."""


class RatingHead(nn.Module):
    """s(u, i) = Σ_r rating_r · p_r, the expected rating, with p = softmax_r(e_uᵀ Q_r e_i) and Q_r = Σ_s a_rs P_s.

    It has the four methods of a head, and `logits` for the loss.

    Args:
        settings: see `RatingHeadSettings`; None takes the defaults.
        dim: D of the encoded vectors.
        generator: source of the random start.

    **Source**: van den Berg et al. 2017, arXiv 1706.02263, its bilinear decoder and weight sharing.
    """

    Settings = RatingHeadSettings
    is_inner_product: ClassVar[bool] = False

    def __init__(
        self, settings: RatingHeadSettings | None = None, dim: int = 0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or RatingHeadSettings()
        num_bases, num_levels = self.settings.num_bases, len(self.settings.levels)
        self.dim = dim
        self.bases = nn.Parameter(torch.empty(num_bases, dim, dim))
        for basis in self.bases.data:
            nn.init.xavier_uniform_(basis, generator=generator)
        self.mix = nn.Parameter(torch.empty(num_levels, num_bases))
        nn.init.xavier_uniform_(self.mix, generator=generator)

    def prepare(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Turn users (u, D) into e_uᵀ P_s for every basis, (u, S · D); items (i, D) stay."""
        check_rows("RatingHead.prepare", user, item, self.dim, self.dim)
        by_basis = torch.einsum("ud,sde->use", user, self.bases)
        return by_basis.flatten(1).to(user.dtype), item

    def logits(self, user: Tensor, item: Tensor) -> Tensor:
        """e_uᵀ Q_r e_i of prepared rows: (B, S · D) with (B, D) gives (B, R), with (B, n, D) gives (B, n, R)."""
        check_rows("RatingHead.logits", user, item, len(self.bases) * self.dim, self.dim, pairs=True)
        by_basis = user.unflatten(1, (len(self.bases), -1))  # (B, S * D) -> (B, S, D)
        by_basis = by_basis if item.dim() == 2 else by_basis.unsqueeze(1)
        return (by_basis * item.unsqueeze(-2)).sum(-1) @ self.mix.T

    def pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """Expected rating row by row: (B, S · D) with (B, D) gives (B,), with (B, n, D) gives (B, n)."""
        check_rows("RatingHead.pairs", user, item, len(self.bases) * self.dim, self.dim, pairs=True)
        return self.logits(user, item).softmax(-1) @ self._values(user)

    def matrix(self, user: Tensor, item: Tensor) -> Tensor:
        """Expected rating of every user row with every item row: (B, S · D) and (M, D) give (B, M).

        Level by level with a running softmax, so that nothing of the size B · M · R is written.
        """
        check_rows("RatingHead.matrix", user, item, len(self.bases) * self.dim, self.dim)
        by_basis = [part @ item.T for part in user.split(item.shape[1], dim=1)]  # S of (B, M)
        largest = by_basis[0].new_full((), -torch.inf)
        total, weighted = 0.0, 0.0
        for value, mix in zip(self._values(user), self.mix, strict=True):
            logit = sum(weight * basis for weight, basis in zip(mix, by_basis, strict=True))
            higher = torch.maximum(largest, logit)
            shrink, share = torch.exp(largest - higher), torch.exp(logit - higher)
            total, weighted, largest = total * shrink + share, weighted * shrink + value * share, higher
        return weighted / total

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The encoded rows themselves, (U, D) and (I, D)."""
        return user, item

    def _values(self, like: Tensor) -> Tensor:
        return torch.tensor(self.settings.levels, dtype=like.dtype, device=like.device)
