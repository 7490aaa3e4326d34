"""Graph autoencoders: dense formulas, the KL term in closed form, gradients, and what training mode draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.errors import ConfigError
from graphrec.losses.autoencoder import KL, EdgeReconstruction, annealed, block
from graphrec.losses.batch import Batch, Negatives
from graphrec.losses.step import Step
from graphrec.nn.autoencoder import (
    GAE,
    VGAE,
    GAEEncoder,
    GAESettings,
    Posterior,
    VGAEEncoder,
    VGAESettings,
    convolution,
)
from graphrec.nn.identity import IdentityEncoder
from graphrec.ops import NeighbourhoodSampler, Relation

U, I, D = 6, 5, 4
PAIRS = np.array([(0, 0), (0, 1), (1, 1), (2, 1), (2, 3), (3, 3), (4, 0), (4, 3)])  # user 5 and items 2, 4 are isolated
RELATION = Relation.from_coo(PAIRS[:, 0], PAIRS[:, 1], U, I)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tables(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(n, D, generator=seeded(n), dtype=dtype).requires_grad_() for n in (U, I))


def joint_matrix() -> torch.Tensor:
    """D~^-1/2 (A + I) D~^-1/2 over users and items together, dense."""
    a = torch.eye(U + I, dtype=torch.float64)
    a[PAIRS[:, 0], U + PAIRS[:, 1]] = a[U + PAIRS[:, 1], PAIRS[:, 0]] = 1
    scale = a.sum(1).rsqrt()
    return scale[:, None] * a * scale


def batch() -> Batch:
    return Batch.from_indices(torch.tensor([0, 2, 4]), torch.tensor([1, 3, 0]), torch.tensor([[2], [4], [1]]))


def step(encoder: torch.nn.Module, number: int = 0, seed: int = 3) -> Step:
    user_x, item_x = tables()
    b = batch()
    torch.manual_seed(seed)
    user, item = encoder(RELATION, user_x, item_x, b.user_rows, b.item_rows)
    return Step(encoder, RELATION, user_x, item_x, b, user, item, number)


@pytest.mark.parametrize("activation", ["relu", "none"])
def test_two_tables_equal_the_dense_convolution_of_the_joint_graph(activation):
    net = GAE([D, 3, 2], seeded(), activation).double()
    got = torch.cat(net(RELATION, tables(torch.float64)))
    x, a = torch.cat(tables(torch.float64)), joint_matrix()
    hidden = a @ x @ net.layers[0].weight.weight.T + net.layers[0].bias
    hidden = hidden.relu() if activation == "relu" else hidden
    torch.testing.assert_close(got, a @ hidden @ net.layers[1].weight.weight.T + net.layers[1].bias)


def test_one_table_over_the_symmetric_relation_is_the_same_graph():
    net = GAE([D, 3, 2], seeded()).double()
    both = np.concatenate([PAIRS[:, 0], U + PAIRS[:, 1]]), np.concatenate([U + PAIRS[:, 1], PAIRS[:, 0]])
    (joint,) = net(Relation.from_coo(*both, U + I, U + I), (torch.cat(tables(torch.float64)),))
    torch.testing.assert_close(joint, torch.cat(net(RELATION, tables(torch.float64))))


def test_restricted_rows_are_those_rows():
    encoder = GAEEncoder(GAESettings(num_layers=3, hidden_dim=7), D, seeded())
    users, items = torch.tensor([5, 0, 3]), torch.tensor([4, 1])
    some, every = encoder(RELATION, *tables(), users, items), encoder(RELATION, *tables())
    torch.testing.assert_close(some[0], every[0][users])
    torch.testing.assert_close(some[1], every[1][items])
    assert every[0].shape == (U, D) and every[1].shape == (I, D)


@pytest.mark.parametrize("kind", [GAEEncoder, VGAEEncoder])
def test_in_a_sample_every_convolution_has_the_draws_of_its_own_layer(kind):
    hood = NeighbourhoodSampler(RELATION, [1, 2]).draw(torch.tensor([2, 0]), torch.tensor([1]), seed=3)
    encoder = kind(dim=D, generator=seeded()).double().eval()
    user, item = (x[rows] for x, rows in zip(tables(torch.float64), (hood.users, hood.items), strict=True))
    got = encoder(hood.relation, user, item, torch.arange(2), torch.arange(1))
    for index, layer in enumerate(encoder.net.layers):
        part = hood.relation.at_layer(index)
        sides = layer.propagate(part, item, user), layer.propagate(part.transpose(), user, item)
        user, item = sides if index else (side.relu() for side in sides)
    assert hood.relation.at_layer(0).num_edges != hood.relation.at_layer(1).num_edges
    torch.testing.assert_close(got[0], user[:2, :D])
    torch.testing.assert_close(got[1], item[:1, :D])


def test_gradients_are_right():
    layer = convolution(D, 3, seeded()).double()
    rows = torch.tensor([4, 0])
    user_x, item_x = tables(torch.float64)
    assert torch.autograd.gradcheck(lambda src, dst, w: _with(layer, w)(RELATION, src, dst, rows),
                                    (item_x, user_x, layer.weight.weight.detach().requires_grad_()))  # fmt: skip
    mean, log_std = (torch.randn(3, 2, dtype=torch.float64, generator=seeded(k)).requires_grad_() for k in (1, 2))
    assert torch.autograd.gradcheck(lambda m, s: Posterior(m, s).divergence(), (mean, log_std))


def _with(layer: torch.nn.Module, weight: torch.Tensor):
    return lambda *arguments: torch.func.functional_call(layer, {"weight.weight": weight}, arguments)


def test_the_divergence_equals_torch_and_is_zero_at_the_prior():
    mean, log_std = torch.randn(5, 3, generator=seeded()), torch.randn(5, 3, generator=seeded(1))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, log_std.exp()), normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(Posterior(mean, log_std).divergence(), expected)
    assert not Posterior(torch.zeros(2, 3), torch.zeros(2, 3)).divergence().any()
    assert float(Posterior(torch.tensor([[2.0]]), torch.zeros(1, 1)).divergence()) == 2.0  # mean^2 / 2


def test_training_draws_and_evaluation_takes_the_mean():
    net = VGAE([D, 3, 2], seeded(), start_log_std=-1.0)
    torch.manual_seed(0)
    first, second = net(RELATION, tables()), net(RELATION, tables())
    assert not torch.equal(first[0], second[0])
    torch.manual_seed(0)
    assert torch.equal(net(RELATION, tables())[0], first[0])
    net.eval()
    means = net(RELATION, tables())
    assert torch.equal(means[0], net(RELATION, tables())[0])
    assert torch.equal(means[0], net.posteriors[0].mean)


def test_draws_have_the_mean_and_the_spread_of_the_posterior():
    posterior = Posterior(torch.full((20_000, 1), 3.0), torch.full((20_000, 1), 0.5).log())
    torch.manual_seed(1)
    drawn = posterior.draw()
    assert float(drawn.mean()) == pytest.approx(3, abs=0.02) and float(drawn.std()) == pytest.approx(0.5, abs=0.02)


def test_the_reparameterised_draw_carries_gradients_to_both_halves():
    mean, log_std = torch.zeros(4, 2, requires_grad=True), torch.zeros(4, 2, requires_grad=True)
    torch.manual_seed(0)
    drawn = Posterior(mean, log_std).draw()
    drawn.sum().backward()
    assert torch.equal(mean.grad, torch.ones(4, 2))
    torch.testing.assert_close(log_std.grad, drawn.detach())  # d z / d log std = std * e = z - mean


def test_the_kl_loss_is_the_mean_over_rows_and_rises_over_the_steps():
    assert [annealed(n, 10) for n in (0, 5, 10, 99)] == [0.0, 0.5, 1.0, 1.0] and annealed(0, 0) == 1.0
    encoder = VGAEEncoder(VGAESettings(), D, seeded())
    at = step(encoder)
    nats = torch.cat([one.divergence() for one in encoder.net.posteriors]).mean().detach() / D
    assert float(KL(KL.Settings(anneal_steps=0))(at).detach()) == pytest.approx(float(nats))
    half = KL(KL.Settings(anneal_steps=10))(step(encoder, number=5)).detach()
    assert float(half) == pytest.approx(float(nats) / 2)
    assert float(KL()(step(encoder, number=0)).detach()) == 0


def test_the_kl_loss_survives_another_pass_of_the_encoder():
    encoder = VGAEEncoder(VGAESettings(), D, seeded())
    at = step(encoder)
    expected = float(KL(KL.Settings(anneal_steps=0))(at).detach())
    encoder(Relation.from_coo([0], [0], U, I), *tables())  # another graph altogether
    assert float(KL(KL.Settings(anneal_steps=0))(at).detach()) == pytest.approx(expected)


def test_the_kl_loss_refuses_an_encoder_without_distributions():
    with pytest.raises(ConfigError, match='got IdentityEncoder; set encoder = "vgae"'):
        KL().check_encoder(IdentityEncoder(dim=D), Negatives("none"))


def test_the_block_of_the_adjacency_is_the_dense_one():
    dense = torch.zeros(U, I, dtype=torch.bool)
    dense[PAIRS[:, 0], PAIRS[:, 1]] = True
    rows, columns = torch.tensor([2, 5, 0]), torch.tensor([3, 2, 1])
    assert torch.equal(block(RELATION, rows, columns), dense[rows][:, columns])


def test_edge_reconstruction_weighs_edges_and_non_edges_alike():
    at = step(IdentityEncoder(dim=D))
    logits = (at.user @ at.item.T).detach()
    labels = block(RELATION, at.batch.user_rows, at.batch.item_rows).float()
    weight = torch.where(labels > 0, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, weight, reduction="sum")
    torch.testing.assert_close(EdgeReconstruction()(at).detach(), expected)
    torch.manual_seed(0)
    some = EdgeReconstruction(EdgeReconstruction.Settings(max_users=1))(at)
    assert torch.isfinite(some) and float(some.detach()) != pytest.approx(float(expected))


def test_dgl_graphs_give_what_their_relations_give():
    dgl, (user, item) = import_dgl(), (torch.from_numpy(side) for side in PAIRS.T)
    bought = dgl.heterograph({("user", "buys", "item"): (user, item)}, {"user": U, "item": I})
    square = dgl.graph((torch.cat([user, U + item]), torch.cat([U + item, user])), num_nodes=U + I)
    for kind in (GAE, VGAE):
        net = kind([D, 3, 2], seeded()).eval()
        expected = net(RELATION, tables())
        assert all(map(torch.equal, net(bought, tables()), expected))
        (joint,) = net(square, (torch.cat(tables()),))
        torch.testing.assert_close(joint, torch.cat(expected))
    assert torch.equal(net.encode(bought, tables())[1].mean, net(bought, tables())[1])
    both = dgl.heterograph({("user", "buys", "item"): ([0], [0]), ("item", "of", "user"): ([0], [0])})
    with pytest.raises(ConfigError, match="VGAE: a DGL graph must have one edge type, got 2"):
        net(both, tables())


@pytest.mark.parametrize("kind", [GAE, VGAE])
def test_tables_that_do_not_fit_are_refused(kind):
    net, (user, item), square = kind([D, 3, 2], seeded()), tables(), Relation.from_coo([0, 1], [1, 0], 3, 3)
    for graph, bad, message in (
        (square, (torch.ones(2, D),), r"x must be floating point \(3, 4\), a row for each node of the graph, got .*\(2, 4\)"),
        (square, (torch.ones(3, D + 1),), r"x must be floating point \(3, 4\), .* got .*\(3, 5\)"),
        (square, (torch.full((3, D), torch.nan),), "x must be finite, got NaN or infinity in 3 of 3 rows"),
        (RELATION, (user,), r"destinations and sources must be the same nodes, got 6 .* and 5"),
        (RELATION, (user[1:], item), r"user_x must be floating point \(6, 4\), .* got .*\(5, 4\)"),
        (RELATION, (user, item[:, 1:]), r"item_x must be floating point \(5, 4\), .* got .*\(5, 3\)"),
        (RELATION, (user, item.detach() / 0), "item_x must be finite"),
        (RELATION, (user, item, item), r"tables must be \(x,\) .* or \(user_x, item_x\) .*, got 3 of them"),
        (square, torch.ones(3, D), r"tables must be \(x,\) of one node type .*, got Tensor"),
    ):
        for call in (net, net.encode) if kind is VGAE else (net,):
            with pytest.raises(ValueError, match=f"{kind.__name__}: {message}"):
                call(graph, bad)


@pytest.mark.parametrize("kind", [GAE, VGAE])
def test_sizes_and_shares_out_of_range_are_refused_as_they_were_given(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: dims must be .* two at least, got \[3\]"):
        kind([3])
    with pytest.raises(ValueError, match=rf"{kind.__name__}: dims must be a list of .*, got 8; give them together, such as"):
        kind(8, [6, 4])
    for dropout in (1.5, -0.1):
        with pytest.raises(ValueError, match=rf"{kind.__name__}: dropout must be in \[0, 1\), .* got {dropout}"):
            kind([3, 2], dropout=dropout)


def test_rows_come_for_each_table():
    relation, x = Relation.from_coo([0, 1], [1, 0], 3, 3), torch.eye(3)
    for rows in (torch.tensor([0]), (None, torch.tensor([0]))):
        with pytest.raises(ValueError, match="rows must be None or as many as there are tables, 1, got (Tensor|2 of them)"):
            GAE([3, 2])(relation, (x,), rows)
    assert GAE([3, 2])(relation, (x,), (torch.tensor([0]),))[0].shape == (1, 2)
