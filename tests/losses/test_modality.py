"""Losses on modalities against their formulas, with items that lack one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cosine_similarity, softplus

from graphrec.errors import ConfigError
from graphrec.losses.batch import Batch, Negatives
from graphrec.losses.modality import Bootstrap, BootstrapSettings, ModalityBPR
from graphrec.losses.step import Step
from graphrec.losses.triples import TransR
from graphrec.nn.identity import IdentityEncoder

BATCH = Batch.from_indices(torch.tensor([0, 1, 1]), torch.tensor([0, 2, 3]), torch.tensor([[1], [0], [1]]))
GENERATOR = torch.Generator().manual_seed(0)
USER, ITEM, VALUES, TARGET_U, TARGET_I = (
    torch.randn(n, 3, dtype=torch.float64, generator=GENERATOR) for n in (2, 4, 4, 2, 4)
)
MASK = torch.tensor([True, True, True, False])  # item 3 lacks the modality


def encoder(mask: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(
        modalities=lambda items: [(VALUES[items], mask[items])],
        predictor=lambda x: 2 * x + 1,
        target=lambda x: x.detach(),
        targets=(TARGET_U, TARGET_I),
    )


def step(of: object) -> Step:
    return Step(of, None, USER, ITEM, BATCH, USER, ITEM)


def test_modality_bpr_is_the_mean_over_pairs_that_have_it():
    pairs = [(0, 0, 1), (1, 2, 0)]  # the third has item 3
    expected = sum(softplus(USER[u] @ VALUES[j] - USER[u] @ VALUES[i]) for u, i, j in pairs) / 2
    torch.testing.assert_close(ModalityBPR()(step(encoder(MASK))), expected)
    assert float(ModalityBPR()(step(encoder(torch.zeros(4, dtype=torch.bool))))) == 0


def test_bootstrap_equals_the_formula():
    def distance(x, y):
        return 1 - cosine_similarity(x, y, dim=0)

    expected = torch.zeros((), dtype=torch.float64)
    for u, i in ((0, 0), (1, 2), (1, 3)):
        expected += (distance(USER[u], TARGET_I[i]) + distance(ITEM[i], TARGET_U[u])) / 3
    for i in (0, 2):
        predicted = 2 * VALUES[i] + 1
        expected += 0.5 * (distance(predicted, TARGET_I[i]) + distance(predicted, VALUES[i])) / 2
    loss = Bootstrap(BootstrapSettings(modality_weight=0.5)).of_step(USER, ITEM, encoder(MASK), BATCH)
    torch.testing.assert_close(loss, expected)


def test_transr_pulls_true_triples_nearer():
    near, far = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 1.0])
    of = SimpleNamespace(triples=lambda user_x, item_x, count: (near, far))
    torch.testing.assert_close(TransR()(step(of)), (softplus(torch.tensor(-2.0)) + softplus(torch.tensor(0.0))) / 2)


@pytest.mark.parametrize(("loss", "message"), [(ModalityBPR(), 'encoder = "freedom"'), (TransR(), 'encoder = "kgat"')])
def test_another_encoder_is_refused_with_the_mend(loss, message):
    with pytest.raises(ConfigError, match=message):
        loss.check_encoder(IdentityEncoder(), Negatives("rows"))
