"""PinSAGE convolution: important neighbours found by random walks, pooled by how often the walks met them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from graphrec.nn.encoder import Encoder
from graphrec.nn.layer import sides_of
from graphrec.ops import Relation, spmm
from graphrec.ops.importance import Importance, ImportantNeighbourhoods
from graphrec.settings import Settings


class PinSAGESettings(Settings):
    """Settings of the `pinsage` encoder."""

    search: ClassVar[Mapping[str, Any]] = {"num_layers": {"low": 1, "high": 3}, "num_neighbors": [5, 10, 20, 50]}

    num_layers: int = Field(default=2, ge=1, le=8)
    """L, convolutions; 2 is the paper's choice."""
    num_neighbors: int = Field(default=10, ge=1)
    """T, important items pooled for each node; the paper takes 50, on a graph of billions."""
    num_walks: int = Field(default=50, ge=1)
    """R, random walks from each node."""
    walk_length: int = Field(default=3, ge=1)
    """S, items met by a walk, one for each step there and back."""


class PinSAGEEncoder(Encoder):
    """Items and users convolve the states of the items that random walks meet from them.

    n_v = sum over the T important items w of v of a_vw relu(Q h_w + q), a_vw = w's share of the visits (importance pooling)
    h'_v = z / |z|, z = relu(W [h_v ; n_v] + b); after L layers e_v = G_2 relu(G_1 h_v + g)

    Q is shared by both sides, W and b are not.

    Args:
        settings: of layers and walks.
        dim: D of the inputs, of every layer and of what comes out.
        generator: source of the random start and of the walks' seed.

    Source: Ying et al. 2018, PinSAGE, arXiv:1806.01973, algorithms 1 and 2. There only pins have outputs and a query is a pin;
    here users are convolved like items, from the items that walks from them meet, and the inputs are learned.
    """

    Settings = PinSAGESettings

    @property
    def hops(self) -> int:
        """L, the convolutions."""
        return self.settings.num_layers

    def build(self, generator: torch.Generator | None) -> None:
        """Make the convolutions and draw the seed of the walks."""
        generator, dim = generator or torch.Generator().manual_seed(0), self.dim
        self.message = nn.ModuleList(_linear(dim, dim, generator) for _ in range(self.hops))
        self.user_update = nn.ModuleList(_linear(2 * dim, dim, generator) for _ in range(self.hops))
        self.item_update = nn.ModuleList(_linear(2 * dim, dim, generator) for _ in range(self.hops))
        self.hidden, self.output = _linear(dim, dim, generator), _linear(dim, dim, generator, bias=False)
        self._walk_seed = int(torch.randint(2**62, (1,), generator=generator))
        self._neighbourhoods: ImportantNeighbourhoods | None = None
        self._whole: Importance | None = None

    def observe(self, relation: Relation) -> None:
        """Walk the training graph; called once, before the first step."""
        s = self.settings
        walks = s.num_neighbors, s.num_layers, s.num_walks, s.walk_length
        self._neighbourhoods = ImportantNeighbourhoods(relation.to("cpu"), *walks, self._walk_seed)
        self._whole = self._neighbourhoods.whole().to(relation.device)

    def neighbourhoods(self) -> ImportantNeighbourhoods:
        """What makes the neighbourhoods of sampled batches: the important neighbours, no other ones are ever read."""
        return self._walked(self._neighbourhoods)

    def forward(
        self,
        relation: Relation | Importance,
        user_x: Tensor,
        item_x: Tensor,
        users: Tensor | None = None,
        items: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Convolve.

        Args:
            relation: the training graph given to `observe`, or the `Importance` of a batch.
            user_x, item_x: (U, D) and (I, D) inputs.
            users, items: int64, distinct: the rows wanted, both or neither; None for all.

        Returns:
            (u, D) and (i, D) in the order asked for.

        Raises:
            ValueError: the tables do not fit, or `observe` has not been called.
        """
        if not isinstance(relation, Importance):
            sides_of(relation, type(self).__name__, user_x, item_x, self.dim, users, items)
        states = user_x, item_x
        for index in range(self.hops):
            rows = (users, items) if index == self.hops - 1 else (None, None)
            states = self.layer(index, relation, *states, user_x, item_x, *rows)
        return states

    def layer(self, index, relation, user_h, item_h, user_x, item_x, users, items):  # type: ignore[no-untyped-def]
        """Convolution `index` for some rows, or all for None, the last one with the dense layers; see `nn.layerwise`."""
        edges = relation if isinstance(relation, Importance) else self._walked(self._whole)
        sent = relu(self.message[index](item_h))
        user = self._update(self.user_update[index], user_h, users, edges.to_users, edges.user_weight, sent)
        item = self._update(self.item_update[index], item_h, items, edges.to_items, edges.item_weight, sent)
        if index < self.hops - 1:
            return user, item
        return tuple(self.output(relu(self.hidden(side))) for side in (user, item))

    def _walked(self, found: Any) -> Any:
        if found is None:
            raise ValueError("PinSAGEEncoder: no graph has been walked yet; call observe(relation) with the training graph first")
        return found

    def _update(self, linear: nn.Module, h: Tensor, rows: Tensor | None, edges: Relation, weight: Tensor, sent: Tensor) -> Any:
        sent = sent.float() if sent.dtype == torch.bfloat16 else sent  # message passing stays float32
        pooled = spmm(edges, sent, rows=rows, edge_weight=weight.to(sent.dtype))
        own = h if rows is None else h.index_select(0, rows)
        return normalize(relu(linear(torch.cat([own, pooled], dim=1))), dim=1)


def _linear(inputs: int, outputs: int, generator: torch.Generator, bias: bool = True) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(linear.weight, generator=generator)
    if bias:
        nn.init.zeros_(linear.bias)
    return linear
