"""BPR matrix factorisation: id embeddings, no encoder, dot product, BPR loss."""

from __future__ import annotations

from graphrec.models.trained import TrainedRecommender
from graphrec.models.trained_settings import TrainedSettings


class BPRMatrixFactorisation(TrainedRecommender):
    """s(u, i) = <x_u, x_i>, learned with the BPR loss.

    The graph-free baseline of trained models: whatever LightGCN gains over it comes from message passing.

    Source: Rendle et al. 2009, arXiv:1205.2618. Here mini-batches and Adam replace single stochastic steps, and there is
    no item bias, as in the comparison of He et al. 2020 (arXiv:2002.02126).
    """

    name = "bpr-mf"
    Settings = TrainedSettings
