"""The pass over the whole graph in bounded memory: layer by layer, a block of rows at a time."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graphrec.atomic import allocate
from graphrec.errors import ConfigError, RunError
from graphrec.ops import Relation

Keep = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def encode_in_blocks(
    encoder: nn.Module,
    relation: Relation,
    user_x: Tensor,
    item_x: Tensor,
    block: int,
    keep: Keep,
    folder: str | os.PathLike[str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Encode all users and items as `encoder(relation, user_x, item_x)` does, `block` rows at a time.

    A layer is complete before the next one starts, so no node is computed twice. On the CPU what lies between two layers is
    in a file that is mapped into memory and has no name, so it is gone with the process; what a block does not read need not
    be resident. On a GPU it stays on the device.

    Args:
        encoder: with `hops` and `layer(index, relation, user_h, item_h, user_x, item_x, users, items)`, which gives the rows
            `users` and `items` of layer `index` from all rows of the layer before (the inputs at first) and the inputs.
        relation: users as rows, items as columns, the whole graph.
        user_x, item_x: (U, D) and (I, D).
        block: rows at a time.
        keep: what to keep of rows (u, D) and (i, D) of the last layer, row by row.
        folder: where the files are; None for the system's temporary folder, which is memory on some systems.

    Returns:
        What is kept of all users and items, float32 on the CPU.

    Source: the layer-wise inference of Hamilton et al. 2017 (arXiv:1706.02216) and Ying et al. 2018 (arXiv:1806.01973,
    section 3.4); the files and the blocks are ours.
    """
    states = user_x, item_x
    before: list[Table] = []
    for index in range(encoder.hops):
        last = index == encoder.hops - 1
        tables: list[Table | None] = [None, None]
        kept = keep if last else None
        layer_in_blocks(encoder, index, relation, states, (user_x, item_x), block, tables, before, keep=kept, folder=folder)
        before, states = tables, tuple(table.rows for table in tables)
    return states


def layer_in_blocks(
    encoder: nn.Module,
    index: int,
    relation: Relation,
    states: tuple[Tensor, Tensor],
    inputs: tuple[Tensor, Tensor],
    block: int,
    tables: list[Table | None],
    read: Sequence[Table] = (),
    *,
    keep: Keep | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> None:
    """Fill the tables of users and items with what layer `index` gives, `block` rows at a time.

    Args:
        states: of the layer before, (U, .) and (I, .).
        inputs: user_x and item_x.
        tables: of users and of items; None where there is none yet, which is then made.
        read: tables whose pages are let go after each block, with those that are filled.
        keep: what to keep of each block, in memory; None for all of it, in files.
        encoder, relation, folder: as in `encode_in_blocks`.
    """
    layer = relation.at_layer(index)
    for side, size in enumerate(map(len, inputs)):
        for start in range(0, size, block):
            rows = torch.arange(start, min(start + block, size), device=inputs[side].device)
            asked = (rows, rows[:0]) if side == 0 else (rows[:0], rows)
            parts = encoder.layer(index, layer, *states, *inputs, *asked)
            part = (parts if keep is None else keep(*parts))[side]
            if tables[side] is None:
                tables[side] = Table((size, *part.shape[1:]), part, keep is not None, folder)
            tables[side].rows[start : start + len(rows)] = part
            for table in (*read, tables[side]):
                table.release()


class Table:
    """The rows of one side of one layer, filled block by block: kept in memory, or for a while in a file."""

    def __init__(self, shape: tuple[int, ...], like: Tensor, kept: bool, folder: str | os.PathLike[str] | None) -> None:
        self._map: mmap.mmap | None = None
        if kept:
            self.rows = torch.empty(shape, dtype=torch.float32)
        elif like.device.type != "cpu":
            self.rows = like.new_empty(shape)
        else:
            with tempfile.TemporaryFile(dir=folder) as file:
                allocate(file, like.element_size() * torch.Size(shape).numel(), folder or tempfile.gettempdir(), RunError)
                self._map = mmap.mmap(file.fileno(), 0)
            self.rows = torch.frombuffer(self._map, dtype=like.dtype).view(shape)

    def release(self) -> None:
        """Let go of resident pages: they are in the file, and come back when they are read."""
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)


def check_blocks(encoder: Any, where: str) -> None:
    """Make sure that an encoder works layer by layer, or has no layers.

    Args:
        encoder: any.
        where: what to call it in the message.

    Raises:
        ConfigError: it makes its vectors in one pass only.
    """
    hops = getattr(encoder, "hops", None)
    if hops is None or (hops > 0 and not hasattr(encoder, "layer")):
        raise ConfigError(
            f"inference_block: {where} ({type(encoder).__name__}) computes all users and items at once, not a block of rows at "
            "a time; leave train.inference_block out"
        )
