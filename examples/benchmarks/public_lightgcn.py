"""The training step of LightGCN's public PyTorch code, for `step.py --public FOLDER`.

FOLDER is a checkout of GitHub's gusye1234/LightGCN-PyTorch; its own model, loss and optimiser run, imported from there. Its
data loader is replaced, because it is slow and reads files of its own: the graph is made from the graph store with SciPy,
as the same float32 tensor. Its sampler and metrics are not used, so what only they import (pandas, scikit-learn,
cppimport) need not be installed, and drawing is not part of the seconds measured here.

Source: He et al. 2020, LightGCN, arXiv:2002.02126.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import statistics
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest import mock

import numpy as np
import scipy.sparse
import torch

from graphrec.errors import ConfigError
from graphrec.graph.store import GraphStore
from graphrec.losses.batch import Batch
from graphrec.models.lightgcn import LightGCN
from graphrec.training.settings import TrainSettings

STEPS, WARMUP = 10, 2
_FILES = "code/model.py", "code/parse.py", "code/utils.py", "code/world.py"
_UNUSED = {
    "dataloader": SimpleNamespace(BasicDataset=object),
    "sklearn": SimpleNamespace(),
    "sklearn.metrics": SimpleNamespace(roc_auc_score=None),
    "cppimport": None,  # an import fails, which the public code expects; otherwise it would compile its sampler
}


def load(folder: Path) -> ModuleType:
    """Import the public code and return its `utils`, which holds its `LightGCN`, `BPRLoss` and `world.config`.

    Raises:
        ConfigError: `folder` is no checkout of it, or of a version that cannot be imported.
    """
    missing = [name for name in _FILES if not (folder / name).is_file()]
    expected = "a checkout of github.com/gusye1234/LightGCN-PyTorch"
    if missing:
        raise ConfigError(
            f"--public must be {expected}, with {', '.join(_FILES)}; {folder} has no {', '.join(missing)}"
        )
    path = [str(folder.resolve() / "code"), *sys.path]
    # The code parses sys.argv on import, and its modules have everyday names: nothing of that may stay behind.
    try:
        with (
            mock.patch.object(sys, "argv", ["public"]),
            mock.patch.object(sys, "path", path),
            mock.patch.dict(sys.modules, _UNUSED),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            utils = importlib.import_module("utils")
            _ = utils.LightGCN, utils.BPRLoss, utils.world.config
    except (ImportError, AttributeError, SyntaxError, OSError, SystemExit) as problem:
        raise ConfigError(f"--public must be {expected}; {folder} cannot be imported: {problem}") from problem
    return utils


def measure(public: ModuleType, store: GraphStore, settings: TrainSettings, batches: list[Batch]) -> dict[str, float]:
    """Time the public step, and compare the first one with graphrec's from the same embeddings on the same batch.

    Args:
        public: from `load`.
        store: whose training edges are the graph.
        settings: learning rate, weight decay and seed of both.
        batches: BPR batches, used in this order, over again if there are few.

    Returns:
        `public_seconds_per_step`, the median over `public_steps`; `loss_difference` and `gradient_difference`, the largest
        absolute difference of the first loss (penalty included, the same in both: decay / 2B times the squared input rows)
        and gradient, relative to the public loss and to the largest entry of the public gradient.
    """
    model = LightGCN()
    model.prepare(store, seed=settings.seed)
    ours = model.network.inputs
    theirs, trainer = _public_model(public, store, model, settings)
    loss, _ = model.batch_loss(batches[0], settings.weight_decay)
    loss.backward()
    seconds = []
    for batch in itertools.islice(itertools.cycle(batches), WARMUP + STEPS):
        triples = _triples(batch)
        start = time.perf_counter()
        public_loss = trainer.stageOne(*triples)
        seconds.append(time.perf_counter() - start)
        if len(seconds) == 1:
            difference = abs(loss.item() - public_loss) / abs(public_loss)
            expected = torch.cat([theirs.embedding_user.weight.grad, theirs.embedding_item.weight.grad])
            error = (torch.cat([ours.user.grad, ours.item.grad]) - expected).abs().max() / expected.abs().max()
    return {
        "public_seconds_per_step": statistics.median(seconds[WARMUP:]),
        "public_steps": STEPS,
        "loss_difference": difference,
        "gradient_difference": error.item(),
    }


def _public_model(public, store, model, settings):  # type: ignore[no-untyped-def]
    """Make the public model with the hyper-parameters and start of `model`, and its trainer."""
    sizes = {"latent_dim_rec": model.settings.embedding_dim, "lightGCN_n_layers": model.settings.num_layers}
    config = {**public.world.config, **sizes, "lr": settings.learning_rate, "decay": settings.weight_decay}
    graph = normalised_graph(store)
    dataset = SimpleNamespace(n_users=store.num_users, m_items=store.num_items, getSparseGraph=lambda: graph)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = public.LightGCN(config, dataset)
    with torch.no_grad():
        theirs.embedding_user.weight.copy_(model.network.inputs.user)
        theirs.embedding_item.weight.copy_(model.network.inputs.item)
    return theirs, public.BPRLoss(theirs, config)


def normalised_graph(store: GraphStore) -> torch.Tensor:
    """Return D^-1/2 A D^-1/2 of the bipartite graph as a coalesced float32 COO tensor (U + I, U + I)."""
    matrix = store.train_matrix()
    matrix.data[:] = 1  # edges, not weights
    adjacency = scipy.sparse.bmat([[None, matrix], [matrix.T, None]], format="csr")
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    scale = scipy.sparse.diags(np.where(degree > 0, 1 / np.sqrt(np.maximum(degree, 1)), 0))
    normalised = (scale @ adjacency @ scale).tocoo().astype(np.float32)
    index = torch.from_numpy(np.stack([normalised.row, normalised.col]).astype(np.int64))
    values = torch.from_numpy(normalised.data)
    return torch.sparse_coo_tensor(index, values, normalised.shape, check_invariants=True).coalesce()


def _triples(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Users, positives and negatives (B,) as indices into the whole tables."""
    items = batch.item_rows
    return batch.user_rows[batch.users], items[batch.positives], items[batch.negatives.reshape(-1)]
