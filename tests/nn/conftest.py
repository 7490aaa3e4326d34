"""Small graphs for layers, as relations and as DGL graphs: a few nodes of each have no edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.ops import Relation


@dataclass(frozen=True)
class Sample:
    """A graph in both forms; messages go from `src` to `dst`, and the last destination and source have no edges."""

    relation: Relation
    graph: Any
    num_dst: int
    num_src: int


def _edges(num_dst: int, num_src: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    keys = np.random.default_rng(seed).choice((num_dst - 1) * (num_src - 1), count, replace=False)
    return keys // (num_src - 1), keys % (num_src - 1)


@pytest.fixture(scope="session")
def bipartite() -> Sample:
    """12 destinations "user", 9 sources "item"; directions cannot be confused, for the sizes differ."""
    dst, src = _edges(12, 9, 40, 1)
    edges = {("item", "liked by", "user"): (src, dst)}
    graph = import_dgl().heterograph(edges, num_nodes_dict={"item": 9, "user": 12})
    return Sample(Relation.from_coo(dst, src, 12, 9), graph, 12, 9)


@pytest.fixture(scope="session")
def homogeneous() -> Sample:
    """11 nodes and a pattern that is not symmetric, so that a transposed graph shows."""
    dst, src = _edges(11, 11, 35, 2)
    return Sample(Relation.from_coo(dst, src, 11, 11), import_dgl().graph((src, dst), num_nodes=11), 11, 11)


@pytest.fixture(params=["bipartite", "homogeneous"])
def sample(request) -> Sample:
    """Run the test on both graphs."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def draw():
    """`draw(n, d)`: float64 standard normal values that want a gradient; the same in every run."""
    generator = torch.Generator().manual_seed(5)

    def values(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    return values


@pytest.fixture
def same():
    """`same(ours, theirs, inputs)`: equal results, and equal gradients by every input, of a random weighted sum.

    `transposed` are positions of inputs that the two sides store the other way round.
    """

    def check(
        ours: torch.Tensor, theirs: torch.Tensor, inputs: list[list[torch.Tensor]], transposed: tuple[int, ...] = ()
    ) -> None:
        torch.testing.assert_close(ours, theirs)
        weight = torch.randn(ours.shape, dtype=ours.dtype, generator=torch.Generator().manual_seed(6))
        gradients = [
            torch.autograd.grad((y * weight).sum(), side) for y, side in zip((ours, theirs), inputs, strict=True)
        ]
        for position, (left, right) in enumerate(zip(*gradients, strict=True)):
            left = left.T if position in transposed else left
            torch.testing.assert_close(left, right.reshape(left.shape))

    return check
