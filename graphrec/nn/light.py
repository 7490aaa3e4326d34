"""LightGCN propagation: neighbour averaging with symmetric normalisation and no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field

from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import RelationLayer, at_rows, sides_of
from graphrec.nn.relations import RecencySettings
from graphrec.ops import Relation, SampledRelation, normalised_forward, spmm, spmm_compact
from graphrec.ops.once import once_differentiable
from graphrec.ops.spmm import scale_dtype


class LightGCNLayer(RelationLayer):
    """Y = D_dst^-1/2 · A · D_src^-1/2 · X, with the degrees of the relation on both sides and nothing to learn.

    A node without edges gets zeros.

    Args:
        dim: D of the source features, and of what comes out.

    Source: He et al., LightGCN, 2020, arXiv 2002.02126, equation 3. Equal to DGL's `GraphConv(norm="both", weight=False,
    bias=False)`.
    """

    needs_targets = False

    def __init__(self, dim: int) -> None:
        super().__init__(dim, None, dim)

    def propagate(
        self, relation: Relation, src_x: torch.Tensor, dst_x: torch.Tensor, rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        return hop(relation, src_x, rows)


class LightGCNSettings(RecencySettings):
    """Settings of the `lightgcn` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 4}}

    num_layers: int = Field(3, ge=1, le=16, description="propagation hops; 3 is the value of He et al. 2020")


class LightGCNEncoder(Encoder):
    """Mean of the embeddings after 0..L hops over the symmetrically normalised bipartite graph.

    E = 1/(L+1) · Σ_l Â^l · E⁰ with Â = D^-1/2 A D^-1/2.

    The sum is taken in Horner form, H ← E⁰ + Â·H, so no layer is stored, and the last hop is computed only for the
    rows asked for. Â is symmetric and the map is linear, so the backward pass is the same recursion on the
    gradient and saves no activations; its first hop reads only the rows that have a gradient. All of this is exact.

    Source: He et al., LightGCN, 2020, arXiv 2002.02126, equations 3, 4 and 8.
    """

    Settings = LightGCNSettings
    reads_weights = True
    takes_past = True

    @property
    def hops(self) -> int:
        """How many layers read the relation."""
        return self.settings.num_layers

    def forward(
        self,
        relation: Relation | Any,
        user_x: torch.Tensor,
        item_x: torch.Tensor,
        users: torch.Tensor | None = None,
        items: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Propagate.

        Args:
            relation: users as rows, items as columns, the whole graph or a sample; or a DGL graph between them
                (`graphrec.nn.layer.sides_of`), which is converted at every call.
            user_x, item_x: float32 or float64 (U, D) and (I, D), the embeddings at layer 0.
            users, items: int64, distinct: the rows wanted, both or neither; None for all.

        Returns:
            The user and item embeddings, (U, D) and (I, D), or only the rows asked for, in their order.

        Raises:
            ConfigError: the DGL graph has several edge types or parallel edges.
            ValueError: rows of one side only, or embeddings that do not fit the relation or, where they are not learned
                (require no gradient), are not finite.
        """
        if (users is None) != (items is None):
            raise ValueError("LightGCNEncoder: give both users and items, or neither")
        relation = sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        if isinstance(relation, SampledRelation):
            return self._sampled(relation, user_x, item_x, users, items)
        return _Propagate.apply(relation, user_x, item_x, users, items, self.settings.num_layers)


    def layer(self, index, relation, user_h, item_h, user_x, item_x, users, items):  # type: ignore[no-untyped-def]
        """One step of H ← E⁰ + Â·H for some rows, or all for None, the mean taken in the last; see `nn.layerwise`."""
        num_layers = self.settings.num_layers
        share = 1.0 / (num_layers + 1) if index == num_layers - 1 else 1.0
        return (
            hop(relation, item_h, users, user_x, share),
            hop(relation.transpose(), user_h, items, item_x, share),
        )

    def _sampled(self, relation, user_x, item_x, users, items):  # type: ignore[no-untyped-def]
        """The same recursion where the two directions and the layers are separate draws, so that Â is not symmetric.

        With `relation.past` the draws stand only for what has changed since: Â·H = Â·H' + Â·(H - H'), with the first term as the
        whole graph had it and the second from the draws. What is drawn counts the less the nearer H is to H'.

        Source: the control variates of Chen, Zhu and Song 2018 (arXiv:1710.10568); there H' are the last values that each node had,
            here those of one pass over the whole graph, as in Cong et al. 2020 (arXiv:2006.13866).
        """
        states = before = user_x, item_x
        past, last = relation.past, self.settings.num_layers - 1
        for index in range(last + 1):
            rows, part = (users, items) if index == last else (None, None), relation.at_layer(index)
            states = self.layer(index, part, *states, user_x, item_x, *rows)
            if past:
                before = past[0] if index == 0 else before
                with torch.no_grad():
                    drawn = self.layer(index, part, *before, *past[0], *rows)
                before = past[index + 1]
                whole = (at_rows(side, wanted) for side, wanted in zip(before, rows, strict=True))
                states = tuple(now + (then - part) for now, then, part in zip(states, whole, drawn, strict=True))
        return states


def hop(
    relation: Relation, source: torch.Tensor, rows: torch.Tensor | None = None, x: torch.Tensor | None = None, share: float = 1.0
) -> torch.Tensor:
    """One step towards the rows of a relation, share · (D^-1/2 A D^-1/2 · source + x), differentiable; whole or sampled.

    Args:
        relation: with its own scales.
        source: (I, D), of the columns.
        rows: int64 (B,), distinct: the rows wanted; None for all.
        x: (U, D), what is added for each row; None for nothing.
        share: a factor.

    Returns:
        (U, D), or (B, D) with `rows`.
    """
    dtype = scale_dtype(source)
    scales = relation.scale_dst(-0.5, dtype), relation.scale_src(-0.5, dtype)
    return spmm(relation, source, *scales, share, x if rows is None or x is None else x[rows], share, rows)


class _Propagate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, relation, user_x, item_x, users, items, num_layers):  # type: ignore[no-untyped-def]
        ctx.parameters = relation, users, items, num_layers
        hop = _Hop(relation, scale_dtype(user_x))
        user_h, item_h = user_x, item_x
        for _ in range(num_layers - 1):
            user_h, item_h = hop.users(item_h, user_x), hop.items(user_h, item_x)
        share = 1.0 / (num_layers + 1)
        user_z = user_x if users is None else user_x[users]
        item_z = item_x if items is None else item_x[items]
        return hop.users(item_h, user_z, share, users), hop.items(user_h, item_z, share, items)

    @staticmethod
    @once_differentiable("LightGCNEncoder")
    def backward(ctx, user_g, item_g):  # type: ignore[no-untyped-def]
        relation, users, items, num_layers = ctx.parameters
        share = 1.0 / (num_layers + 1)
        user_g, item_g = user_g.contiguous() * share, item_g.contiguous() * share
        hop = _Hop(relation, scale_dtype(user_g))
        if users is None:
            user_h, item_h = hop.users(item_g, user_g), hop.items(user_g, item_g)
        else:
            user_h = spmm_compact(relation, item_g, items, hop.user_scale, hop.item_scale).index_add_(0, users, user_g)
            item_h = spmm_compact(hop.transpose, user_g, users, hop.item_scale, hop.user_scale).index_add_(0, items, item_g)
        for _ in range(num_layers - 1):
            user_next, item_next = hop.users(item_h), hop.items(user_h)
            if users is None:
                user_h, item_h = user_next.add_(user_g), item_next.add_(item_g)
            else:
                user_h, item_h = user_next.index_add_(0, users, user_g), item_next.index_add_(0, items, item_g)
        return None, user_h, item_h, None, None, None


class _Hop:
    """One multiplication by Â, split into its two bipartite halves: y = share · (Â·x + z)."""

    def __init__(self, relation: Relation, dtype: torch.dtype) -> None:
        self.relation, self.transpose = relation, relation.transpose()
        self.user_scale, self.item_scale = relation.scale_dst(-0.5, dtype), relation.scale_src(-0.5, dtype)

    def users(self, item_x, z=None, share=1.0, rows=None):  # type: ignore[no-untyped-def]
        return normalised_forward(self.relation, item_x, share, z, rows)

    def items(self, user_x, z=None, share=1.0, rows=None):  # type: ignore[no-untyped-def]
        return normalised_forward(self.transpose, user_x, share, z, rows)
