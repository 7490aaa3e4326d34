"""Id embeddings: the starts they promise, and rows whose sparse gradient adds up to the dense one."""

from __future__ import annotations

import pytest
import torch

from graphrec.nn.inputs import IdEmbeddings, IdSettings


def make(init: str, scale: float = 0.1, start=None, seed: int = 0) -> IdEmbeddings:
    generator = torch.Generator().manual_seed(seed)
    return IdEmbeddings(300, 200, 16, IdSettings(init=init, scale=scale), generator, start)


def test_normal_start_has_the_spread_asked_for():
    user, item = make("normal", 0.3)()
    for table in (user.detach(), item.detach()):
        assert float(table.mean()) == pytest.approx(0, abs=0.02)
        assert float(table.std()) == pytest.approx(0.3, rel=0.05)


def test_xavier_start_has_its_bound():
    user, item = make("xavier")()
    user, item = user.detach(), item.detach()
    assert float(user.abs().max()) <= (6 / 316) ** 0.5 and float(item.abs().max()) <= (6 / 216) ** 0.5
    assert float(user.std()) == pytest.approx((2 / 316) ** 0.5, rel=0.05)


def test_spectral_start_keeps_directions_and_order():
    start = torch.randn(300, 16), 5 * torch.randn(200, 16)
    user, item = make("spectral", 0.1, start)()
    both = torch.cat([user, item]).detach()
    assert float(both.square().mean().sqrt()) == pytest.approx(0.1, rel=1e-4)
    factor = float(user.detach()[0, 0]) / float(start[0][0, 0])
    torch.testing.assert_close(user.detach(), start[0] * factor)
    torch.testing.assert_close(item.detach(), start[1] * factor)


@pytest.mark.parametrize("start", [None, (torch.zeros(300, 8), torch.zeros(200, 16))])
def test_a_spectral_start_of_another_shape_is_refused(start):
    with pytest.raises(ValueError, match=r"needs start arrays of shapes \(\(300, 16\), \(200, 16\)\)"):
        make("spectral", start=start)


def test_same_generator_same_start():
    assert torch.equal(make("normal").user, make("normal").user)
    assert not torch.equal(make("normal").user, make("normal", seed=1).user)


def test_sparse_rows_add_up_to_the_dense_gradient():
    users, items = torch.tensor([4, 2]), torch.tensor([0, 199, 7])
    model, oracle = make("normal"), make("normal")
    user, item = model()
    rows = model.rows(users, items)
    (user.sin().sum() + item.sum() + rows[0].square().sum() + rows[1].exp().sum()).backward()
    user, item = oracle()
    (user.sin().sum() + item.sum() + user[users].square().sum() + item[items].exp().sum()).backward()
    assert not model.user.grad.is_sparse and not model.item.grad.is_sparse
    torch.testing.assert_close(model.user.grad, oracle.user.grad)
    torch.testing.assert_close(model.item.grad, oracle.item.grad)
