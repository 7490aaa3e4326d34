"""The cosine head with a popularity prior: cosine in training, cosine plus log popularity to rank."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from graphrec.nn.prior import CosinePriorHead, CosinePriorSettings

USER = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
ITEM = torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, 1.0]])
TRAIN = sp.csr_matrix(np.array([[0, 1, 0], [0, 1, 1], [0, 1, 0]], dtype=np.float32))


def test_ranking_adds_the_logarithm_of_popularity():
    head = CosinePriorHead(CosinePriorSettings(popularity=0.5))
    head.observe(TRAIN)
    user, item = head.ranking_vectors(USER, ITEM)
    prior = 0.5 * torch.tensor([0.0, 3.0, 1.0]).log1p()
    half = 0.5**0.5
    torch.testing.assert_close(user @ item.T, torch.tensor([[1.0, 0, 0], [half, half, half]]) + prior)


def test_training_scores_are_the_cosines():
    head = CosinePriorHead(CosinePriorSettings(popularity=0.5, temperature=0.1))
    head.observe(TRAIN)
    scores = head.matrix(*head.prepare(USER, ITEM))
    torch.testing.assert_close(scores[0], torch.tensor([10.0, 0, 0]))
