"""Losses against hand-computed values, torch's own, and what every registered loss must do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec.losses import LOSSES
from graphrec.losses.batch import Batch, Negatives
from graphrec.losses.pairwise import BCE, BPR, CCL
from graphrec.losses.softmax import SampledSoftmax, SampledSoftmaxSettings
from graphrec.registry import resolve

POSITIVE = torch.tensor([0.5, -0.2])
ROWS = torch.tensor([[0.1, 0.9, -0.3], [0.0, -0.5, 0.4]])


def shared(hits=((), ()), counts=(1.0, 1.0, 1.0), q=(0.25, 0.5, 0.25)) -> Batch:
    """A batch of two rows and three shared negatives; only what the softmax looks at is real."""
    nothing = torch.zeros(2, dtype=torch.int64)
    hits = torch.tensor(hits, dtype=torch.int64)
    return Batch(nothing, nothing, nothing, nothing, nothing, torch.tensor(counts), hits, torch.tensor(q).log())


def test_bpr_by_hand():
    gaps = [0.1 - 0.5, 0.9 - 0.5, -0.3 - 0.5, 0.0 + 0.2, -0.5 + 0.2, 0.4 + 0.2]
    expected = sum(-math.log(1 / (1 + math.exp(gap))) for gap in gaps) / 6
    assert float(BPR()(POSITIVE, ROWS, None)) == pytest.approx(expected)


def test_bce_equals_torch():
    scores = torch.cat([POSITIVE[:, None], ROWS], 1)
    labels = torch.tensor([[1.0, 0, 0, 0]] * 2)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels)
    torch.testing.assert_close(BCE()(POSITIVE, ROWS, None), expected)


def test_ccl_by_hand():
    loss = CCL(CCL.Settings(margin=0.2, negative_weight=3.0))
    expected = ((1 - 0.5) + 3 * (0.7 / 3) + (1 + 0.2) + 3 * (0.2 / 3)) / 2
    assert float(loss(POSITIVE, ROWS, None)) == pytest.approx(expected)


def test_softmax_equals_cross_entropy():
    loss = SampledSoftmax(SampledSoftmaxSettings(temperature=0.5))
    scores = torch.cat([POSITIVE[:, None], ROWS], 1) / 0.5
    expected = torch.nn.functional.cross_entropy(scores, torch.zeros(2, dtype=torch.int64))
    torch.testing.assert_close(loss(POSITIVE, ROWS, shared()), expected)


def test_softmax_counts_repeated_draws_and_leaves_out_known_positives():
    loss = SampledSoftmax(SampledSoftmaxSettings(temperature=1.0))
    batch = shared(hits=((0, 1, 1), (1, 0, 2)), counts=(2.0, 1.0, 1.0))
    first = math.log(math.exp(0.5) + 2 * math.exp(0.1) + math.exp(-0.3)) - 0.5
    second = math.log(math.exp(-0.2) + math.exp(-0.5)) + 0.2
    assert float(loss(POSITIVE, ROWS, batch)) == pytest.approx((first + second) / 2)


def test_corrected_softmax_estimates_the_full_sum_without_bias():
    """Over many draws, the mean of the weighted sum over negatives is the sum over all items."""
    rng = np.random.default_rng(0)
    scores, q, draws = rng.normal(size=6), np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05]), 50
    loss = SampledSoftmax(SampledSoftmaxSettings(temperature=1.0, popularity_correction=True))
    sums = []
    for _ in range(400):
        items, counts = np.unique(rng.choice(6, size=draws, p=q), return_counts=True)
        batch = shared(counts=counts.astype(np.float32), q=q[items])
        value = loss(torch.tensor([0.0]), torch.from_numpy(scores[items])[None].float(), batch)
        sums.append(math.exp(float(value)) - 1)  # exp(loss) = 1 + weighted sum, as the positive scores 0
    assert np.mean(sums) == pytest.approx(np.exp(scores).sum(), rel=0.03)


def test_a_row_without_negatives_has_loss_and_gradient_zero():
    positive, negative = POSITIVE.clone().requires_grad_(), ROWS.clone().requires_grad_()
    batch = shared(hits=((0, 0, 0, 1, 1, 1), (0, 1, 2, 0, 1, 2)))
    loss = SampledSoftmax()(positive, negative, batch)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not positive.grad.any() and not negative.grad.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("row", 8), "kind must be one of rows, shared, in-batch, none, got 'row'; did you mean 'rows'"),
        (("rows", 0), 'count must be at least 1 with "rows", got 0'),
        (("shared", -1), 'count must be at least 1 with "shared", got -1'),
    ],
)
def test_negatives_that_cannot_be_drawn_are_refused(arguments, message):
    with pytest.raises(ValueError, match=f"Negatives: {message}"):
        Negatives(*arguments)
    assert Negatives("none", 0).count == 0


OF_SCORES = [name for name in LOSSES if "__call__" in dir(resolve("loss", LOSSES, name)())]


def ready(name: str):
    """The loss with a batch that fits it; user 0 has seen item 0 alone, and user 1 item 1."""
    loss = resolve("loss", LOSSES, name)()
    if hasattr(loss, "prepare"):
        loss.prepare(sp.csr_matrix(np.eye(2, 4, dtype=np.float32)))
    if loss.negatives.kind != "rows":
        return loss, shared()
    negatives = torch.tensor([[1, 2, 3], [0, 2, 3]])
    return loss, Batch.from_indices(torch.tensor([0, 1]), torch.tensor([0, 1]), negatives)


def test_only_losses_without_negatives_do_without_scores():
    without = [name for name in LOSSES if name not in OF_SCORES]
    assert {resolve("loss", LOSSES, name)().negatives.kind for name in without} == {"none"}


@pytest.mark.parametrize("name", OF_SCORES)
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_every_loss_pulls_positives_up_and_negatives_down(name, scale):
    loss, batch = ready(name)
    positive = torch.tensor([0.1, -0.2], dtype=torch.float64) * scale
    negative = torch.tensor([[0.9, 0.5, 0.6], [0.5, 0.8, 0.9]], dtype=torch.float64) * scale
    positive.requires_grad_(), negative.requires_grad_()
    value = loss(positive, negative, batch)
    value.backward()
    assert torch.isfinite(value)
    assert (positive.grad <= 0).all() and positive.grad[1] < 0  # a positive far up may be left alone
    assert (negative.grad >= 0).all() and (negative.grad > 0).any()


# The adaptive temperatures are constants to the gradient, which finite differences cannot know: see losses/test_adaptive.py.
@pytest.mark.parametrize("name", [name for name in OF_SCORES if name != "adaptive-softmax"])
def test_every_loss_has_the_right_gradient(name):
    loss, batch = ready(name)
    positive = torch.randn(2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    negative = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    batch = shared(hits=((0,), (1,))) if name == "sampled-softmax" else batch
    assert torch.autograd.gradcheck(lambda left, right: loss(left, right, batch), (positive, negative))


def test_a_batch_from_indices_keeps_duplicates_in_place():
    users, positives = torch.tensor([7, 3, 7]), torch.tensor([5, 5, 1])
    negatives = torch.tensor([[9, 5], [1, 1], [2, 9]])
    batch = Batch.from_indices(users, positives, negatives)
    assert batch.user_rows.tolist() == [3, 7] and batch.item_rows.tolist() == [1, 2, 5, 9]
    assert torch.equal(batch.user_rows[batch.users], users)
    assert torch.equal(batch.item_rows[batch.positives], positives)
    assert torch.equal(batch.item_rows[batch.negatives], negatives)
    assert len(batch) == 3
