"""The head that is no inner product: a multi-layer perceptron beside a generalised product, as in NeuMF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphrec.nn.heads import check_rows
from graphrec.nn.tower import Tower, he_normal
from graphrec.settings import Settings

_VALUES_AT_ONCE = 1 << 22  # floats of the widest layer in memory at a time: 16 MB


class MLPSettings(Settings):
    """Settings of the MLP head."""

    search: ClassVar[Mapping[str, Any]] = {"inputs": ["concat", "product", "both"], "dropout": [0.0, 0.2, 0.5]}

    hidden: tuple[int, ...] = Field(default=(64, 32, 16), min_length=1)
    """Widths of the hidden layers, a tower that halves as in the paper; the last one is joined to the product branch."""
    inputs: Literal["concat", "product", "both"] = "concat"
    """What the perceptron sees of a pair: the two vectors, their elementwise product, or both. The paper's is "concat"."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of hidden values dropped in training mode; the paper drops none."""

    @field_validator("hidden")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1:
            raise ValueError("every width must be at least 1")
        return value


class MLPHead(nn.Module):
    """s(u, i) = h^T (e_u * e_i) + g^T MLP([e_u ; e_i]), with ReLU layers.

    The first layer is a sum of a part of the user and a part of the item, so `prepare` computes each once and scoring all
    pairs costs only the later layers. `h` starts at ones and `g` at zeros: training starts where the dot product would.

    Args:
        settings: layers and inputs.
        dim: D.
        generator: source of the random start of the perceptron.

    Source: He et al. 2017, Neural collaborative filtering, arXiv:1708.05031, eq. 8-12 (GMF, MLP and their fusion NeuMF).
        There each branch has embeddings of its own; here both see the encoder's vectors. The sigmoid is in the loss.
    """

    Settings = MLPSettings
    is_inner_product: ClassVar[bool] = False

    def __init__(
        self, settings: MLPSettings | None = None, dim: int = 0, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.settings = settings or MLPSettings()
        self.dim = dim
        first = self.settings.hidden[0]
        self._prepared = dim if self.settings.inputs == "product" else dim + first
        shapes = {}
        if self.settings.inputs != "product":
            shapes |= {"of_user": (first, dim), "of_item": (first, dim)}
        if self.settings.inputs != "concat":
            shapes["of_product"] = (first, dim)
        fan_in = dim * len(shapes)
        self.first = nn.ParameterDict({name: he_normal(shape, fan_in, generator) for name, shape in shapes.items()})
        self.tower = Tower(self.settings.hidden, self.settings.dropout, generator)
        self.product_weight = nn.Parameter(torch.ones(dim))
        self.hidden_weight = nn.Parameter(torch.zeros(self.settings.hidden[-1]))

    def prepare(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """Append each row's part of the first layer: (u, D) and (i, D) give (u, D + H) and (i, D + H)."""
        check_rows("MLPHead.prepare", user, item, self.dim, self.dim)
        if self.settings.inputs == "product":
            return user, item
        user_part = user @ self.first["of_user"].T
        item_part = item @ self.first["of_item"].T
        return torch.cat([user, user_part], -1), torch.cat([item, item_part], -1)

    def pairs(self, user: Tensor, item: Tensor) -> Tensor:
        """Score prepared rows: (B, .) with (B, .) gives (B,); (B, .) with (B, n, .) gives (B, n)."""
        check_rows("MLPHead.pairs", user, item, self._prepared, self._prepared, pairs=True)
        if item.dim() > user.dim():
            user = user.unsqueeze(-2)  # (B, 1, .)
        return self._scores(user, item)

    def matrix(self, user: Tensor, item: Tensor) -> Tensor:
        """Score every prepared user row with every item row: (B, .) and (M, .) give (B, M).

        Blocks of pairs keep the hidden layers within 16 MB. Where gradients are wanted, a block's layers are computed again
        in the backward pass instead of being kept.
        """
        check_rows("MLPHead.matrix", user, item, self._prepared, self._prepared)
        width = max(self.dim, *self.settings.hidden)
        columns = max(1, min(len(item), _VALUES_AT_ONCE // width))
        rows = max(1, _VALUES_AT_ONCE // (width * columns))
        blocks = []
        for start in range(0, max(1, len(user)), rows):
            part = user[start : start + rows].unsqueeze(1)  # (b, 1, .)
            blocks.append(torch.cat([self._block(part, some) for some in item.split(columns)], 1))
        return torch.cat(blocks)

    def ranking_vectors(self, user: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        """The encoded vectors (U, D) and (I, D) as they are: `prepare` and `matrix` score them, no dot product does."""
        return user, item

    def _block(self, user: Tensor, item: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return checkpoint(self._scores, user, item, use_reentrant=False)
        return self._scores(user, item)

    def _scores(self, user: Tensor, item: Tensor) -> Tensor:
        """Score prepared rows that broadcast against each other."""
        product = user[..., : self.dim] * item[..., : self.dim]
        first = 0.0 if self.settings.inputs == "product" else user[..., self.dim :] + item[..., self.dim :]
        if self.settings.inputs != "concat":
            first = first + product @ self.first["of_product"].T
        return product @ self.product_weight + self.tower(first) @ self.hidden_weight
