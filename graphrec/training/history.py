"""The vectors of all nodes as they were at a recent step, from which sampled steps take what they do not draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from graphrec.errors import ConfigError
from graphrec.models.trained import TrainedRecommender
from graphrec.nn.layerwise import Table, layer_in_blocks
from graphrec.ops import Neighbourhood

_NAMES = "history.user", "history.item"


class History:
    """The inputs and every layer's vectors of all nodes, taken anew every so many steps by a pass over the whole graph.

    On the CPU the tables lie in files without a name, as in `graphrec.nn.layerwise`; on a GPU on the device.

    Args:
        model: prepared, with an encoder that `takes_past`.
        block: rows computed at a time; 0 for all at once.
        folder: where the files are.
    """

    def __init__(self, model: TrainedRecommender, block: int, folder: Path) -> None:
        self._model, self._folder = model, folder
        self._block = block or max(model.relation.num_dst, model.relation.num_src)
        self._tables: list[list[Table | None]] = [[None, None] for _ in range(model.network.encoder.hops + 1)]

    @property
    def room(self) -> int:
        """Bytes on the disk, on the CPU: the tables, and the inputs in a checkpoint and in the one that it replaces."""
        relation, dim = self._model.relation, self._model.network.encoder.dim
        return (len(self._tables) + 2) * 4 * dim * (relation.num_dst + relation.num_src)

    def take(self) -> None:
        """Take the vectors of the model as it is."""
        with torch.no_grad():
            self._take(self._model.network.inputs())

    def onto(self, neighbourhood: Neighbourhood) -> Neighbourhood:
        """Return a neighbourhood whose relation knows its nodes' past."""
        nodes = neighbourhood.users, neighbourhood.items
        past = [tuple(table.rows[rows] for table, rows in zip(tables, nodes, strict=True)) for tables in self._tables]
        return replace(neighbourhood, relation=neighbourhood.relation.with_past(past))

    def state(self) -> dict[str, Tensor]:
        """What a resumed training needs to have the same past: the inputs that it was taken from."""
        return {name: table.rows for name, table in zip(_NAMES, self._tables[0], strict=True) if table is not None}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take the vectors of the inputs that `state` gave."""
        with torch.no_grad():
            self._take(tuple(tensors[name].to(self._model.device) for name in _NAMES))

    def _take(self, inputs: tuple[Tensor, Tensor]) -> None:
        encoder, (first, *others) = self._model.network.encoder, self._tables
        for side, x in enumerate(inputs):
            first[side] = first[side] or Table(tuple(x.shape), x, False, self._folder)
            first[side].rows.copy_(x)
        for index, (before, tables) in enumerate(zip(self._tables, others, strict=False)):
            states, x = (tuple(table.rows for table in part) for part in (before, first))
            read = (*before, *first)
            layer_in_blocks(encoder, index, self._model.relation, states, x, self._block, tables, read, folder=self._folder)


def check_takes_past(model: TrainedRecommender) -> None:
    """Raise ConfigError where the encoder of a prepared model can take nothing from the past."""
    encoder = model.network.encoder
    if not getattr(encoder, "takes_past", False) or encoder.hops == 0:
        raise ConfigError(
            f"train history_every: the encoder of {model.name} ({type(encoder).__name__}) takes nothing from earlier passes over the "
            "graph, which only LightGCN's propagation without noise does; leave history_every out and draw more neighbours (fanouts)"
        )
