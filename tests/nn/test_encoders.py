"""What every registered encoder must do."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from graphrec._dgl import import_dgl
from graphrec.errors import ConfigError
from graphrec.nn import ENCODERS
from graphrec.nn.component import parse_component
from graphrec.nn.stack import StackEncoder
from graphrec.ops import Relation
from graphrec.registry import resolve

D = 8


def reads_one_relation(name: str) -> bool:
    """Whether the encoder needs nothing but the relation of each call; the others have tests of their own."""
    return not {"observe", "prepare", "read"} & set(dir(resolve("encoder", ENCODERS, name)))


NAMES = sorted(filter(reads_one_relation, ENCODERS))
STACKED = [name for name in NAMES if issubclass(resolve("encoder", ENCODERS, name), StackEncoder)]


def make(name: str, seed: int = 0) -> torch.nn.Module:
    kind, settings = parse_component("encoder", ENCODERS, {"name": name}, "test")
    return kind(settings, D, torch.Generator().manual_seed(seed)).double().eval()


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_finite_values(name, bipartite, draw):
    encoder = make(name)
    user, item = encoder(bipartite.relation, draw(12, D), draw(9, D))
    assert user.shape == (12, encoder.out_dim) and item.shape == (9, encoder.out_dim)
    assert bool(torch.isfinite(user).all()) and bool(torch.isfinite(item).all())


@pytest.mark.parametrize("name", NAMES)
def test_restricted_rows_equal_those_of_all_with_their_gradients(name, bipartite, draw):
    encoder, inputs = make(name), [draw(12, D), draw(9, D)]
    users, items = torch.tensor([11, 3, 0]), torch.tensor([8, 2])
    some = encoder(bipartite.relation, *inputs, users, items)
    full = [side[rows] for side, rows in zip(encoder(bipartite.relation, *inputs), (users, items), strict=True)]
    weights = [torch.randn(side.shape, dtype=side.dtype) for side in full]
    wanted = [*inputs, *encoder.parameters()]
    gradients = []
    for sides in (some, full):
        total = sum((side * weight).sum() for side, weight in zip(sides, weights, strict=True))
        gradients.append(torch.autograd.grad(total, wanted))
    for left, right in (*zip(some, full, strict=True), *zip(*gradients, strict=True)):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name, draw):
    relation = Relation.from_coo([0, 0, 1], [0, 1, 1], 3, 3)  # user 2 and item 2 have no edges
    encoder = make(name)

    def run(user, item):
        return torch.cat(encoder(relation, user, item))

    assert torch.autograd.gradcheck(run, (draw(3, D), draw(3, D)))


@pytest.mark.parametrize("name", NAMES)
def test_relabelling_permutes_the_result(name, bipartite, draw):
    encoder, user, item = make(name), draw(12, D), draw(9, D)
    new_user, new_item = torch.randperm(12), torch.randperm(9)  # row new_user[u] of the other graph is user u
    relation = bipartite.relation
    other = Relation.from_coo(new_user[relation.rows], new_item[relation.indices.long()], 12, 9)
    moved = encoder(other, user[new_user.argsort()], item[new_item.argsort()])
    for left, right, at in zip(encoder(relation, user, item), moved, (new_user, new_item), strict=True):
        torch.testing.assert_close(left, right[at])


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_without_edges_works(name, draw):
    user, item = draw(4, D), draw(3, D)
    sides = make(name)(Relation.from_coo([], [], 4, 3), user, item)
    sum(side.sum() for side in sides).backward()
    assert all(bool(torch.isfinite(value).all()) for value in (*sides, user.grad, item.grad))


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides_the_start_and_evaluation_draws_nothing(name, bipartite, draw):
    first, second = make(name).state_dict(), make(name).state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    if first:
        assert any(not torch.equal(value, make(name, 1).state_dict()[key]) for key, value in first.items())
    encoder, inputs = make(name), (draw(12, D), draw(9, D))
    torch.manual_seed(1)
    before = encoder(bipartite.relation, *inputs)
    assert all(map(torch.equal, before, encoder(bipartite.relation, *inputs)))


@pytest.mark.parametrize("name", NAMES)
def test_unknown_settings_are_refused(name):
    with pytest.raises(ConfigError, match="no_such_setting: unknown key"):
        parse_component("encoder", ENCODERS, {"name": name, "no_such_setting": 1}, "test")


@pytest.mark.parametrize("name", STACKED)
def test_the_stack_on_the_homogeneous_graph_is_the_encoder(name, bipartite, draw):
    encoder, user, item = make(name), draw(12, D), draw(9, D)
    relation = bipartite.relation
    dst, src = relation.rows, relation.indices.long() + 12
    square = Relation.from_coo(torch.cat([dst, src]), torch.cat([src, dst]), 21, 21)
    expected = encoder.stack(square, torch.cat([user, item]))
    torch.testing.assert_close(torch.cat(encoder(relation, user, item)), expected)


@pytest.mark.parametrize("name", STACKED)
def test_rows_of_one_side_alone_are_refused(name, bipartite, draw):
    encoder = make(name)
    with pytest.raises(ValueError, match="give both users and items, or neither"):
        encoder(bipartite.relation, draw(12, D), draw(9, D), users=torch.tensor([0]))


@pytest.mark.parametrize("name", sorted(ENCODERS))  # the others look before they miss what they have not been given
@pytest.mark.parametrize("side", ["user_x", "item_x"])
def test_features_that_do_not_fit_are_refused(name, side, bipartite, draw):
    encoder, good = make(name), {"user_x": draw(12, D), "item_x": draw(9, D)}
    size, kind = len(good[side]), type(encoder).__name__
    rows, columns = "add or take away rows, or make the graph with {} nodes", "map them to {} columns, or make the module for {}"
    for shape, mend in (
        ((size - 1, D), rows.format(size - 1)),
        ((size + 1, D), rows.format(size + 1)),
        ((size, D - 1), columns.format(D, D - 1)),
        ((size, D + 1), columns.format(D, D + 1)),
        ((size,), "bring them to two dimensions"),
    ):
        wanted = re.escape(f"{kind}: {side} must be floating point ({size}, {D}), a row for each node of the graph, got")
        with pytest.raises(ValueError, match=rf"{wanted} torch.float64 {re.escape(str(shape))}; {mend}"):
            encoder(bipartite.relation, **good | {side: draw(*shape)})
    with pytest.raises(ValueError, match=rf"{kind}: {side} must be floating point .*got torch.int64 .*; cast them with .float"):
        encoder(bipartite.relation, **good | {side: torch.ones(size, D, dtype=torch.int64)})
    with pytest.raises(ValueError, match=f"{kind}: user_x and item_x must agree in dtype and device"):
        encoder(bipartite.relation, **good | {side: draw(size, D).float()})


@pytest.mark.parametrize("name", sorted(ENCODERS))
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_refused(name, value, bipartite, draw):
    encoder = make(name)
    for side, rows in (("user_x", 12), ("item_x", 9)):
        inputs = {"user_x": draw(12, D), "item_x": draw(9, D)}
        inputs[side] = inputs[side].detach()
        inputs[side][4, 1] = value
        with pytest.raises(ValueError, match=f"{side} must be finite, got NaN or infinity in 1 of {rows} rows.*row 4; fill"):
            encoder(bipartite.relation, **inputs)


@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_learned_are_not_looked_at(name, bipartite, draw, monkeypatch):
    """A pass over all of them in every step is what training need not pay."""
    encoder, inputs = make(name), (draw(12, D), draw(9, D))
    looked = []
    monkeypatch.setattr("graphrec.nn.layer.torch.isfinite", lambda x: looked.append(x) or torch.ones((), dtype=torch.bool))
    encoder(bipartite.relation, *inputs)
    assert not looked
    encoder(bipartite.relation, *(side.detach() for side in inputs))
    assert len(looked) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_dgl_graph_gives_what_its_relation_gives(name, bipartite, draw):
    encoder, inputs = make(name), (draw(12, D), draw(9, D))
    expected = encoder(bipartite.relation, *inputs)
    source, target = bipartite.graph.edges()
    for ends in (("item", "liked by", "user"), ("user", "likes", "item"), ("reader", "reads", "book")):
        edges = (source, target) if ends[0] == "item" else (target, source)
        graph = import_dgl().heterograph({ends: edges}, dict(zip(ends[::2], (9, 12) if ends[0] == "item" else (12, 9), strict=True)))
        for left, right in zip(encoder(graph, *inputs), expected, strict=True):
            torch.testing.assert_close(left, right, rtol=0, atol=0)
    both = {("user", "likes", "item"): (target, source), ("item", "liked by", "user"): (source, target)}
    with pytest.raises(ConfigError, match=f"{type(encoder).__name__}: a DGL graph must have one edge type, got 2"):
        encoder(import_dgl().heterograph(both, {"user": 12, "item": 9}), *inputs)
    with pytest.raises(TypeError, match=f"{type(encoder).__name__}: graph must be a Relation or a DGL graph, got dict"):
        encoder({}, *inputs)


@pytest.mark.parametrize("name", STACKED)
def test_bfloat16_products_leave_float32_results(name, bipartite):
    encoder = make(name).float()
    inputs = torch.randn(12, D), torch.randn(9, D)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = encoder(bipartite.relation, *inputs)
    for left, right in zip(rounded, encoder(bipartite.relation, *inputs), strict=True):
        assert left.dtype == torch.float32
        torch.testing.assert_close(left, right, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_rows_beyond_a_side_are_refused(name, bipartite, draw):
    encoder, inputs = make(name), [draw(12, D), draw(9, D)]
    good = torch.tensor([0])
    for users, items, message in (
        (torch.tensor([12]), good, r"users must be in 0\.\.11, got 12\.\.12"),
        (good, torch.tensor([-1]), r"items must be in 0\.\.8, got -1\.\.-1"),
        (torch.tensor([4, 4]), good, "users must be distinct, got 4 2 times"),
    ):
        with pytest.raises(ValueError, match=message):
            encoder(bipartite.relation, *inputs, users, items)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_can_be_copied_after_a_training_pass(name, bipartite, draw):
    encoder = make(name).train()
    sides = encoder(bipartite.relation, draw(12, D), draw(9, D))
    sum(side.sum() for side in sides).backward()
    inputs = draw(12, D), draw(9, D)
    twin = copy.deepcopy(encoder).eval()
    for ours, theirs in zip(encoder.eval()(bipartite.relation, *inputs), twin(bipartite.relation, *inputs), strict=True):
        assert torch.equal(ours, theirs)
