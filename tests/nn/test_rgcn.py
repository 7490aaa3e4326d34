"""R-GCN and the fusions against DGL and against their formulas, with gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.errors import ConfigError
from graphrec.nn.fusion import FusedEncoder, FusedSettings, Fusion
from graphrec.nn.hetero import propagate
from graphrec.nn.relations import Message
from graphrec.nn.rgcn import RelationalConv, RGCNEncoder, RGCNSettings
from tests.nn.test_relation_encoders import (  # noqa: F401
    BUY,
    NODES,
    dense,
    inputs,
    random_relation,
    relations,
    same_values_and_gradients,
)

DIM = 6


def start() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {n: torch.randn(size, DIM, dtype=torch.float64, generator=generator).requires_grad_() for n, size in NODES.items()}


def dgl_graph(messages: list[Message]):
    """A DGL heterograph with an edge type for every message."""
    edges = {
        (m.source, str(r), m.target): (m.relation.indices.long(), m.relation.rows) for r, m in enumerate(messages)
    }
    return import_dgl().heterograph(edges, num_nodes_dict=NODES)


@pytest.mark.parametrize(("decomposition", "regularizer"), [("basis", "basis"), ("block", "bdd"), ("none", None)])
def test_the_layer_equals_dgls_relgraphconv(decomposition, regularizer, relations):  # noqa: F811
    from dgl.nn import RelGraphConv

    messages = relations.messages(None, "here")
    layer = RelationalConv(len(messages), DIM, decomposition, 3, torch.Generator().manual_seed(0)).double()
    graph = import_dgl().to_homogeneous(dgl_graph(messages))
    oracle = RelGraphConv(DIM, DIM, len(messages), regularizer, 3).double()
    with torch.no_grad():
        oracle.linear_r.W.copy_(layer.weight.reshape(oracle.linear_r.W.shape))
        oracle.loop_weight.copy_(layer.loop)
        oracle.h_bias.copy_(layer.bias.uniform_(-1, 1))
        if decomposition == "basis":
            oracle.linear_r.coeff.copy_(layer.coefficient)
    x = start()
    got = layer(messages, x)
    ntypes = dgl_graph(messages).ntypes
    # DGL numbers the types by name; the edges keep the order of their names, which are the messages' numbers
    kind = torch.tensor([int(etype) for etype in dgl_graph(messages).etypes])[graph.edata["_TYPE"].long()]
    pairs = torch.stack([graph.edges()[1], kind])
    _, inverse, counts = torch.unique(pairs, dim=1, return_inverse=True, return_counts=True)
    norm = (1.0 / counts[inverse].double())[:, None]
    y = oracle(graph, torch.cat([x[ntype] for ntype in ntypes]), kind, norm)
    expected = dict(zip(ntypes, y.split([NODES[ntype] for ntype in ntypes]), strict=True))
    own, other = [layer.weight, layer.loop, layer.bias], [oracle.linear_r.W, oracle.loop_weight, oracle.h_bias]
    if decomposition == "basis":
        own, other = [*own, layer.coefficient], [*other, oracle.linear_r.coeff]
    for ntype in ntypes:
        torch.testing.assert_close(got[ntype], expected[ntype])
    losses = [sum(side[ntype].square().sum() for ntype in ntypes) for side in (got, expected)]
    ours, theirs = (torch.autograd.grad(loss, [*x.values(), *p]) for loss, p in zip(losses, (own, other), strict=True))
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right.reshape(left.shape))


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_a_hop_and_the_fusions_equal_dgls_heterographconv(aggregate, relations):  # noqa: F811
    from dgl.nn import GraphConv, HeteroGraphConv

    messages = relations.messages(None, "here")
    scales = [[getattr(m.relation, side)(-0.5, torch.float64) for m in messages] for side in ("scale_dst", "scale_src")]
    x = start()
    convolutions = {str(r): GraphConv(DIM, DIM, "both", False, False, allow_zero_in_degree=True) for r in range(len(messages))}
    expected = HeteroGraphConv(convolutions, aggregate)(dgl_graph(messages), x)
    stacked = propagate(messages, x, *scales, combine="stack")
    got = {ntype: Fusion(aggregate, z.shape[1], DIM)(z) for ntype, z in stacked.items()}
    # An isolated source or target counts as degree one in DGL and as zero here, and has no edges, so both give zero.
    same_values_and_gradients([got[n] for n in NODES], [expected[n] for n in NODES], list(x.values()))
    if aggregate == "sum":
        summed, expected = propagate(messages, x, *scales), HeteroGraphConv(convolutions, aggregate)(dgl_graph(messages), x)
        same_values_and_gradients([summed[n] for n in NODES], [expected[n] for n in NODES], list(x.values()))


def test_semantic_attention_equals_its_formula_and_weighs_relations():
    fusion = Fusion("attention", 3, DIM, 8, torch.Generator().manual_seed(0)).double()
    z = torch.randn(7, 3, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    w = torch.stack([torch.stack([fusion.query @ torch.tanh(fusion.project.T @ z[u, r]) for u in range(7)]).mean()
                     for r in range(3)])  # fmt: skip
    b = torch.exp(w) / torch.exp(w).sum()
    torch.testing.assert_close(fusion(z), b[0] * z[:, 0] + b[1] * z[:, 1] + b[2] * z[:, 2])
    with torch.no_grad():
        fusion.query.mul_(0)
    torch.testing.assert_close(fusion(z), z.mean(1))


def test_a_gate_weighs_relations_for_each_node():
    fusion = Fusion("gate", 2, 1)
    z = torch.tensor([[[3.0], [1.0]], [[1.0], [3.0]]])
    torch.testing.assert_close(fusion(z)[:, 0], torch.tensor([2.0, 2.0]))
    with torch.no_grad():
        fusion.gate.fill_(20.0)
    torch.testing.assert_close(fusion(z)[:, 0], torch.tensor([3.0, 3.0]))


@pytest.mark.parametrize("encoder", [RGCNEncoder(RGCNSettings(), 5), FusedEncoder(FusedSettings(), 5),
                                     FusedEncoder(FusedSettings(fusion="gate"), 5)])  # fmt: skip
def test_encoders_reach_all_node_types_and_report_shares(encoder, relations):  # noqa: F811
    encoder.prepare(relations, torch.Generator().manual_seed(0))
    user, item = inputs()
    every = encoder(relations.edges[BUY], user, item)
    users, items = torch.tensor([8, 2]), torch.tensor([5])
    rows = encoder(relations.edges[BUY], user, item, users, items)
    for left, right, index in zip(rows, every, (users, items), strict=True):
        torch.testing.assert_close(left, right[index])
    entity = torch.autograd.grad(every[1].square().sum(), encoder.nodes["entity"])[0]
    assert entity.abs().sum() > 0
    weights = encoder.relation_weights(relations.edges[BUY], user, item)
    assert sum(value for name, value in weights.items() if name.endswith("to user")) == pytest.approx(1)
    assert {"buy to user", "view to item", "follows to user", "made_by to item"} <= set(weights)


@pytest.mark.parametrize("encoder", [RGCNEncoder(RGCNSettings(), 5), FusedEncoder(FusedSettings(), 5),
                                     FusedEncoder(FusedSettings(fusion="mean"), 5)])  # fmt: skip
def test_the_share_of_a_relation_between_several_pairs_of_types_is_their_sum(encoder, relations):  # noqa: F811
    about = {("item", "about", "entity"): random_relation(5, 7, 4), ("entity", "about", "entity"): random_relation(6, 4, 4)}
    encoder.prepare(replace(relations, edges={**relations.edges, **about}), torch.Generator().manual_seed(0))
    weights = encoder.relation_weights(relations.edges[BUY], *inputs())
    for ntype in ("user", "item", "entity"):
        assert sum(value for name, value in weights.items() if name.endswith(f"to {ntype}")) == pytest.approx(1)
    if isinstance(encoder, FusedEncoder) and encoder.settings.fusion == "mean":
        assert weights["about to entity"] == pytest.approx(2 / 3) and weights["about to item"] == pytest.approx(1 / 4)


def test_a_fused_encoder_runs_its_inner_one_on_each_relation(relations):  # noqa: F811
    encoder = FusedEncoder(FusedSettings(relations=["buy", "follows"], fusion="sum", encoder={"num_layers": 1}), 5)
    encoder.prepare(relations, torch.Generator())
    user, item = inputs()

    def hop(relation):
        left, right = relation.scale_dst(-0.5, torch.float64), relation.scale_src(-0.5, torch.float64)
        return left[:, None] * dense(relation) * right

    buy, follows = (hop(relations.edges[etype]) for etype in (BUY, ("user", "follows", "user")))
    both = ((user + follows @ user) / 2 + (user + follows.T @ user) / 2) / 2
    expected = (user + buy @ item) / 2 + both, (item + buy.T @ user) / 2
    same_values_and_gradients(encoder(relations.edges[BUY], user, item), expected, (user, item))


def test_settings_that_cannot_be_are_refused(relations):  # noqa: F811
    with pytest.raises(ConfigError, match=r"num_bases must divide embedding_dim = 5 for blocks, got 4"):
        RGCNEncoder(RGCNSettings(decomposition="block"), 5).prepare(relations, torch.Generator())
    with pytest.raises(ConfigError, match=r"must read one relation, and 'rgcn' reads more"):
        FusedEncoder(FusedSettings(encoder="rgcn"), 5).prepare(relations, torch.Generator())
