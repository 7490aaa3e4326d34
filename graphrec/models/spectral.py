"""The spectrum of the interaction matrix: degree normalisation, randomised SVD, spectral embeddings."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch

from graphrec import ops
from graphrec.models.dense import eigen, product
from graphrec.progress import SILENT, Reporter

if TYPE_CHECKING:
    from graphrec.graph.store import GraphStore

_OVERSAMPLING = 32  # extra directions, so that the last wanted ones converge too
_POWER_ITERATIONS = 3  # 2 to 8 give the same Recall@20 on Gowalla within 0.0015
_NEGLIGIBLE = 1e-6  # relative size below which a direction is rounding noise in float32
_EXACT_AT_ONCE = 8192  # rows in float64 at a time, so that no second copy of a tall block is needed
_ROWS_AT_ONCE = 64  # one line of the kernels' widest path, so the intermediate signals stay in cache
_PUSHED_SHARE = 0.3  # of all edges walked for one signal, up to which `push` is quicker than `spmm`
_WHOLE_BYTES = 2 << 30  # of a block of the users, (U, w), up to which it is held whole
_SLICE_BYTES = 512 << 20  # of a slice of its columns where it is not


class NormalisedInteractions:
    """The degree-normalised interaction matrix as a linear operator.

    R~ = D_u^-a R D_i^-b, with D_u and D_i the row and column sums of R; an empty row or column stays empty.

    Where all weights of R are 1, the products run on the message-passing kernels with the degrees factored out;
    otherwise on SciPy with the values stored.

    Args:
        matrix: R, float32 (U, I), non-negative.
        user_exponent: a; 0 leaves the users as they are, 0.5 is the symmetric normalisation.
        item_exponent: b.
    """

    def __init__(self, matrix: sp.csr_matrix, user_exponent: float, item_exponent: float) -> None:
        self.shape = matrix.shape
        self.user_scale = torch.from_numpy(_power(matrix.sum(axis=1), -user_exponent))  # (U,)
        self.item_scale = torch.from_numpy(_power(matrix.sum(axis=0), -item_exponent))  # (I,)
        self._matrix = matrix
        self._relation: ops.Relation | None = None
        if bool((matrix.data == 1).all()):
            self._relation = ops.Relation.from_scipy(matrix)
            self._transposed = self._relation.transpose()

    def to_users(self, x: torch.Tensor) -> torch.Tensor:
        """R~ x for float32 x (I, D): (U, D)."""
        if self._relation is None:
            return torch.from_numpy(self._rows @ x.numpy())
        return ops.spmm(self._relation, x, self.user_scale, self.item_scale)

    def to_items(self, y: torch.Tensor) -> torch.Tensor:
        """R~^T y for float32 y (U, D): (I, D)."""
        if self._relation is None:
            return torch.from_numpy(self._columns @ y.numpy())
        return ops.spmm(self._transposed, y, self.item_scale, self.user_scale)

    def add_smoothed(self, scores: torch.Tensor, histories: sp.csr_matrix, weight: float) -> None:
        """Add weight * H R~^T R~ to `scores` (B, I), for sparse float32 histories H (B, I)."""
        push_to_users, push_to_items = self._pushed
        for start in range(0, histories.shape[0], _ROWS_AT_ONCE):
            block = slice(start, start + _ROWS_AT_ONCE)
            items = torch.from_numpy(histories[block].toarray())
            if push_to_users:
                users = ops.push(self._transposed, items, self.item_scale, self.user_scale)
            else:
                users = self.to_users(items.T.contiguous()).T
            if push_to_items:
                smoothed = ops.push(self._relation, users, self.user_scale, self.item_scale)
            else:
                smoothed = self.to_items(users.T.contiguous()).T.contiguous()  # adding strided rows would be slower
            scores[block].add_(smoothed, alpha=weight)

    @cached_property
    def _pushed(self) -> tuple[bool, bool]:
        """Whether `push` beats `spmm` from histories to users, and from these to items, by the paths of some users of R."""
        if self._relation is None:
            return False, False
        rows = np.linspace(0, self.shape[0] - 1, min(_ROWS_AT_ONCE, self.shape[0])).astype(np.int64)
        items = torch.from_numpy(self._matrix[rows].toarray())
        users = ops.push(self._transposed, items)
        walked = [
            float((signals != 0).float().mean(0) @ relation.degree_dst.float())
            for signals, relation in ((items, self._transposed), (users, self._relation))
        ]
        to_users, to_items = (edges <= _PUSHED_SHARE * self._relation.num_edges for edges in walked)
        return to_users, to_items

    @cached_property
    def _rows(self) -> sp.csr_matrix:
        """R~ with its values, (U, I)."""
        return (sp.diags(self.user_scale.numpy()) @ self._matrix @ sp.diags(self.item_scale.numpy())).tocsr()

    @cached_property
    def _columns(self) -> sp.csr_matrix:
        """R~^T with its values, (I, U)."""
        return self._rows.T.tocsr()


def truncated_svd(
    interactions: NormalisedInteractions,
    rank: int,
    generator: torch.Generator,
    progress: Reporter = SILENT,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find the leading singular triplets by block power iteration from a random start.

    R~ ~ P diag(s) Q^T. Signs are fixed so that the entry of largest magnitude in each column of Q is positive; the same
    generator state gives the same result bit for bit.

    Args:
        interactions: R~, (U, I).
        rank: number of triplets, 1..min(U, I).
        generator: draws the start.
        progress: receives the iterations.

    Returns:
        P float32 (U, rank), s float32 (rank,) descending, Q float32 (I, rank). Where s is zero, so is P.

    Raises:
        ValueError: the rank is out of range.

    Source: Halko, Martinsson and Tropp (2011), arXiv 0909.4061, algorithms 4.4 and 5.1; orthonormal bases come from the
        eigenvectors of the small Gram matrix instead of QR, which is ten times faster for tall matrices.
    """
    num_users, num_items = interactions.shape
    limit = min(num_users, num_items)
    if not 1 <= rank <= limit:
        raise ValueError(f"truncated_svd: rank must lie in 1..{limit} for shape {interactions.shape}, got {rank}")
    start = torch.randn(num_items, _width(interactions.shape, rank), generator=generator)  # (I, w)
    to_users, to_items = interactions.to_users, interactions.to_items
    with progress.task("singular vectors", total=_POWER_ITERATIONS + 1, unit="passes") as task:
        if num_users <= num_items:  # bases cost less on the side with fewer nodes
            block = to_users(start)
            for done in range(_POWER_ITERATIONS):
                block = to_users(to_items(_orthonormal(block) if done else block))  # the first is far from degenerate
                task.advance()
        else:
            for _ in range(_POWER_ITERATIONS):
                start = _orthonormal(to_items(to_users(start)))
                task.advance()
            block = to_users(start)
        users, _, _ = _thin_svd(block)  # (U, w)
        items, singular_values, rotation = _thin_svd(to_items(users))
        task.advance()
    users, items = product(users, rotation[:, :rank]), items[:, :rank]
    signs = _signs(items)
    return users * signs, singular_values[:rank].contiguous(), items * signs


def leading_directions(
    interactions: NormalisedInteractions, rank: int, generator: torch.Generator, progress: Reporter = SILENT
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find s and Q as `truncated_svd` does, without P, so that many users need no memory of their own.

    Up to 2 GiB for a block of the users it is the same computation. Above, and where users are more than items, R~^T R~ is applied
    to some columns at a time, and the last basis W = R~ X M of the users is not formed either: its Gram matrix is X^T R~^T R~ X,
    and R~^T W = (R~^T R~ X) M.

    Args:
        interactions, rank, generator, progress: as in `truncated_svd`.

    Returns:
        s float32 (rank,) descending, Q float32 (I, rank).

    Raises:
        ValueError: the rank is out of range.
    """
    if not _in_slices(interactions.shape, rank):
        return truncated_svd(interactions, rank, generator, progress)[1:]
    num_users, num_items = interactions.shape
    block = torch.randn(num_items, _width(interactions.shape, rank), generator=generator)  # (I, w)
    step = max(1, _SLICE_BYTES // (4 * num_users))

    def smoothed(x: torch.Tensor) -> torch.Tensor:
        """R~^T R~ x, (I, w)."""
        out = torch.empty_like(x)
        for start in range(0, x.shape[1], step):
            columns = slice(start, start + step)
            out[:, columns] = interactions.to_items(interactions.to_users(x[:, columns].contiguous()))
        return out

    with progress.task("singular vectors", total=_POWER_ITERATIONS + 1, unit="passes") as task:
        for _ in range(_POWER_ITERATIONS):
            block = smoothed(block)  # by itself, so that the block before it is free when the basis is made
            block = _orthonormal(block)
            task.advance()
        onward = smoothed(block)
        gram = _gram(block, onward)
        _, right, inverse = _spectrum((gram + gram.T) / 2)
        block = product(onward, (right * inverse).float())
        del onward
        items, singular_values, _ = _thin_svd(block)
        task.advance()
    items = items[:, :rank]
    return singular_values[:rank].contiguous(), items * _signs(items)


def bytes_of_directions(shape: tuple[int, int], rank: int) -> int:
    """About how much memory `leading_directions` takes at once for R~ of this shape, its edges aside."""
    users, items, width = *shape, _width(shape, rank)
    small = 3 * 8 * width**2
    if _in_slices(shape, rank):
        return 4 * 2 * items * width + _SLICE_BYTES + small
    return 4 * 3 * (users + items) * width + small


def _width(shape: tuple[int, int], rank: int) -> int:
    return min(*shape, rank + _OVERSAMPLING)


def _in_slices(shape: tuple[int, int], rank: int) -> bool:
    return shape[0] > shape[1] and 4 * shape[0] * _width(shape, rank) > _WHOLE_BYTES


def spectral_embeddings(
    store: GraphStore | sp.csr_matrix,
    dim: int,
    user_exponent: float = 0.5,
    item_exponent: float = 0.5,
    seed: int = 0,
    *,
    power: float = 0.5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embed users and items by the leading singular vectors of the degree-normalised interactions.

    With R~ = D_u^-a R D_i^-b ~ P diag(s) Q^T, the embeddings are P diag(s)^p and Q diag(s)^p. With p = 1/2 their dot
    products are the best approximation of R~ of that rank; with p = 0 all directions count alike.

    Args:
        store: the graph store, or its training matrix float32 (U, I).
        dim: D; directions beyond min(U, I) are zero.
        user_exponent, item_exponent: a and b.
        seed: of the random start of the decomposition.
        power: p, 0 or more. Directions with a singular value of zero stay zero.

    Returns:
        user float32 (U, D) and item float32 (I, D).
    """
    matrix = store if sp.issparse(store) else store.train_matrix()
    interactions = NormalisedInteractions(matrix, user_exponent, item_exponent)
    rank = min(dim, *matrix.shape)
    users, singular_values, items = truncated_svd(interactions, rank, torch.Generator().manual_seed(seed))
    scale = torch.where(singular_values > 0, singular_values.pow(power), 0.0)
    padding = (0, dim - rank)
    return torch.nn.functional.pad(users * scale, padding), torch.nn.functional.pad(items * scale, padding)


def _orthonormal(block: torch.Tensor) -> torch.Tensor:
    """A basis (N, w) of the columns of a tall block (N, w), as orthonormal as the next power iteration needs.

    In float32, so cheaper than `_thin_svd`. The columns' span is kept, that of the faintest directions too, whose
    length is then uncertain.
    """
    eigenvalues, right = eigen(product(block.T, block).double())
    return product(block, (right * eigenvalues.clamp(min=1e-7 * float(eigenvalues[-1]) + 1e-30).rsqrt()).float())


def _thin_svd(block: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Singular vectors (N, w), values (w,) descending and right vectors (w, w) of a tall block (N, w).

    Directions lost in rounding noise get the value 0 and a zero left vector.
    """
    values, right, inverse = _spectrum(_gram(block, block))
    return product(block, (right * inverse).float()), values.float(), right.float()


def _gram(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a^T b in float64 (w, w), for tall blocks (N, w); a may be b."""
    gram = torch.zeros(a.shape[1], b.shape[1], dtype=torch.float64)
    for left, right in zip(a.split(_EXACT_AT_ONCE), b.split(_EXACT_AT_ONCE), strict=True):
        exact = left.double()
        gram += product(exact.T, exact if a is b else right.double())
    return gram


def _spectrum(gram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Singular values (w,), descending, of a block by its Gram matrix (w, w), its right vectors (w, w), and 1 / values.

    Directions lost in rounding noise get 0 for both.
    """
    eigenvalues, right = eigen(gram)
    values, right = eigenvalues.clamp(min=0).sqrt().flip(0), right.flip(1)
    values = torch.where(values > _NEGLIGIBLE * values[0], values, 0.0)
    return values, right, torch.where(values > 0, 1 / values, 0.0)


def _signs(items: torch.Tensor) -> torch.Tensor:
    """The sign of the entry of largest magnitude in each column of Q (I, rank): (1, rank)."""
    return torch.sign(items.gather(0, items.abs().argmax(dim=0, keepdim=True)))


def _power(degrees: np.ndarray, exponent: float) -> np.ndarray:
    """`degrees ** exponent` as a float32 vector, 0 where the degree is 0."""
    degrees = np.asarray(degrees, dtype=np.float64).ravel()
    return np.where(degrees > 0, np.where(degrees > 0, degrees, 1.0) ** exponent, 0.0).astype(np.float32)
