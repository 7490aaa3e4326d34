"""Closed-form baselines of link prediction: counts of common neighbours, each by its degree. Weights of edges do not count."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from torch import Tensor

from graphrec.link.base import LinkModel
from graphrec.link.known import KnownGraph
from graphrec.logs.link_graph import LinkGraph
from graphrec.progress import Reporter
from graphrec.settings import Settings

_PAIRS_AT_ONCE = 1 << 17


class HeuristicSettings(Settings):
    """There is nothing to set."""


class CommonNeighbours(LinkModel):
    """s(u, v) = number of common neighbours |N(u) & N(v)|, edges taken in both directions.

    Source: Liben-Nowell and Kleinberg 2007, The link-prediction problem for social networks, doi:10.1002/asi.20591.
    """

    name = "common-neighbours"
    Settings = HeuristicSettings

    def _fit(self, graph: LinkGraph, seed: int, progress: Reporter) -> None:
        """Keep the training adjacency; nothing is learned."""
        self._keep(graph)

    def _restore(self, state: dict[str, Tensor]) -> None:
        self._keep(self.known)

    def _keep(self, graph: LinkGraph | KnownGraph) -> None:
        self._adjacency = symmetric_adjacency(graph)
        degree = np.diff(self._adjacency.indptr).astype(np.float64)
        self._scaled = (self._adjacency @ sp.diags_array(self._weight(degree))).tocsr()

    def _score(self, pairs: np.ndarray) -> np.ndarray:
        found = [np.empty(0)]
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            source, target = pairs[start : start + _PAIRS_AT_ONCE].T
            found.append(np.asarray(self._adjacency[source].multiply(self._scaled[target]).sum(axis=1)).reshape(-1))
        return np.concatenate(found).astype(np.float32)

    def _weight(self, degree: np.ndarray) -> np.ndarray:
        return np.ones_like(degree)


class AdamicAdar(CommonNeighbours):
    """s(u, v) = sum over common neighbours w of 1 / log degree(w).

    A common neighbour has two neighbours at least, so the logarithm is positive.

    Source: Adamic and Adar 2003, Friends and neighbors on the web, doi:10.1016/S0378-8733(03)00009-1.
    """

    name = "adamic-adar"

    def _weight(self, degree: np.ndarray) -> np.ndarray:
        return np.where(degree > 1, 1 / np.log(np.maximum(degree, 2)), 0.0)


class ResourceAllocation(CommonNeighbours):
    """s(u, v) = sum over common neighbours w of 1 / degree(w).

    Source: Zhou, Lü and Zhang 2009, Predicting missing links via local information, arXiv:0901.0553.
    """

    name = "resource-allocation"

    def _weight(self, degree: np.ndarray) -> np.ndarray:
        return 1 / np.maximum(degree, 1)


def symmetric_adjacency(graph: LinkGraph | KnownGraph) -> sp.csr_array:
    """The training edges in both directions, ones, without repetition: float64 (N, N)."""
    both = np.concatenate([graph.train, graph.train[:, ::-1]])
    matrix = sp.coo_array((np.ones(len(both)), (both[:, 0], both[:, 1])), shape=(graph.num_nodes, graph.num_nodes)).tocsr()
    matrix.data[:] = 1.0
    return matrix
