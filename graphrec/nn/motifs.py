"""Motif-induced hypergraphs of users: who shares triangles of links, links with common items, and common items alone."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from graphrec.ops import Relation

CHANNELS = ("social", "joint", "purchase")


def motif_channels(social: sp.csr_matrix, interactions: sp.csr_matrix) -> dict[str, sp.csr_matrix]:
    """Count, for each pair of users, the motifs that hold both.

    With B = S o S^T the mutual links and U = S - B the others (o is element-wise):

        social    the seven triangles of users: A_1 = U U o U^T + its transpose, ..., A_4 = B B o B, ...
        joint     linked users with common items: R R^T o B, and R R^T o U + its transpose
        purchase  users without a link who share more than one item

    Memory grows with the pairs of users who share an item.

    Args:
        social: S, 0/1 (U, U); entry (u, v) where u points to v.
        interactions: R, 0/1 (U, I).

    Returns:
        By channel, symmetric float32 (U, U) with counts, without the diagonal.

    Source: Yu et al. 2021, "Self-Supervised Multi-Channel Hypergraph Convolutional Network for Social Recommendation",
    arXiv:2101.06448, table 1; the bound of two common items in the purchase channel is that of its public code.
    """
    s, r = social.astype(np.float32).tocsr(), interactions.astype(np.float32).tocsr()
    b = s.multiply(s.T).tocsr()
    u = (s - b).tocsr()
    u.eliminate_zeros()
    ut = u.T.tocsr()

    def both(matrix: sp.csr_matrix) -> sp.csr_matrix:
        return matrix + matrix.T

    triangles = [
        both((u @ u).multiply(ut)),
        both((b @ u).multiply(ut) + (u @ b).multiply(ut) + (u @ u).multiply(b)),
        both((b @ b).multiply(u) + (b @ u).multiply(b) + (u @ b).multiply(b)),
        (b @ b).multiply(b),
        both((u @ u).multiply(u) + (u @ ut).multiply(u) + (ut @ u).multiply(u)),
        (u @ b).multiply(u) + (b @ ut).multiply(ut) + (ut @ u).multiply(b),
        (ut @ b).multiply(ut) + (b @ u).multiply(u) + (u @ ut).multiply(b),
    ]
    common = (r @ r.T).tocsr()
    joint = common.multiply(b) + both(common.multiply(u))
    linked = ((s + s.T) > 0).astype(np.float32)
    purchase = common - common.multiply(linked)
    purchase = purchase.multiply(purchase > 1)
    parts = sum(triangles[1:], triangles[0]), joint, purchase
    return {name: _off_diagonal(part) for name, part in zip(CHANNELS, parts, strict=True)}


def averaging(matrix: sp.csr_matrix) -> tuple[Relation, torch.Tensor]:
    """A symmetric matrix as a relation and float32 edge weights that sum to one in every row that has any."""
    matrix = sp.csr_matrix(matrix)
    total = np.asarray(matrix.sum(axis=1)).ravel()
    scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
    weights = matrix.data * np.repeat(scale, np.diff(matrix.indptr))
    return Relation.from_scipy(matrix), torch.from_numpy(weights.astype(np.float32))


def to_scipy(relation: Relation) -> sp.csr_matrix:
    """The pattern of a relation as a 0/1 float32 matrix (num_dst, num_src)."""
    ones = np.ones(relation.num_edges, dtype=np.float32)
    parts = ones, relation.indices.cpu().numpy(), relation.indptr.cpu().numpy()
    return sp.csr_matrix(parts, shape=(relation.num_dst, relation.num_src))


def _off_diagonal(matrix: sp.spmatrix) -> sp.csr_matrix:
    matrix = sp.csr_matrix(matrix)
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix
