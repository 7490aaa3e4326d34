"""What every plain layer must do, whatever its family."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

import graphrec.nn
from graphrec._dgl import import_dgl
from graphrec.errors import ConfigError
from graphrec.nn.gat import GATLayer, GATv2Layer
from graphrec.nn.gcn import GCNLayer
from graphrec.nn.layer import RelationLayer, relation_of
from graphrec.nn.light import LightGCNLayer
from graphrec.nn.ngcf import NGCFLayer
from graphrec.nn.sage import SAGELayer
from graphrec.nn.stack import Stack
from graphrec.ops import Relation, spmm

ROOT = Path(__file__).parents[2]
D, OUT = 5, 6
LAYERS = {
    "gcn": lambda g: GCNLayer(D, OUT, generator=g),
    "gcn to fewer": lambda g: GCNLayer(D, 2, generator=g),
    "gat": lambda g: GATLayer(D, 3, 2, generator=g),
    "gat mean of heads": lambda g: GATLayer(D, 4, 3, heads="mean", generator=g),
    "gat two projections": lambda g: GATLayer(D, 3, 2, dst_dim=D, generator=g),
    "gatv2": lambda g: GATv2Layer(D, 3, 2, generator=g),
    "sage mean": lambda g: SAGELayer(D, OUT, generator=g),
    "sage mean to fewer": lambda g: SAGELayer(D, 3, generator=g),
    "sage pool": lambda g: SAGELayer(D, OUT, aggregate="pool", generator=g),
    "ngcf": lambda g: NGCFLayer(D, OUT, generator=g),
    "lightgcn": lambda g: LightGCNLayer(D),
}


@pytest.fixture(params=LAYERS)
def layer(request):
    made = LAYERS[request.param](torch.Generator().manual_seed(3)).double()
    with torch.no_grad():  # a bias of zero would hide a missing one
        for name, parameter in made.named_parameters():
            if "bias" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(4))
    return made


def test_a_dgl_graph_gives_what_its_relation_gives(layer, sample, draw):
    src_x, dst_x = draw(sample.num_src, D), draw(sample.num_dst, D)
    got = layer(sample.graph, src_x, dst_x)
    assert got.shape == (sample.num_dst, layer.out_dim)
    torch.testing.assert_close(got, layer(sample.relation, src_x, dst_x), rtol=0, atol=0)


def test_a_sampled_block_gives_the_rows_of_the_full_graph(layer, homogeneous, draw):
    x, seeds = draw(homogeneous.num_src, D), torch.tensor([3, 0, 10])
    dgl = import_dgl()
    block = dgl.to_block(dgl.in_subgraph(homogeneous.graph, seeds), seeds)
    if isinstance(layer, GCNLayer | NGCFLayer | LightGCNLayer):  # their weights need degrees of sources, which a block does not have
        assert relation_of(block).num_dst == 3
        return
    got = layer(block, x[block.srcdata[dgl.NID]], x[seeds])
    torch.testing.assert_close(got, layer(homogeneous.relation, x, x)[seeds])


def test_restricted_rows_equal_those_of_the_full_result(layer, sample, draw):
    src_x, dst_x = draw(sample.num_src, D), draw(sample.num_dst, D)
    rows = torch.tensor([sample.num_dst - 1, 4, 0, 7])  # the first has no edges
    full, part = layer(sample.relation, src_x, dst_x), layer(sample.relation, src_x, dst_x, rows)
    torch.testing.assert_close(part, full[rows])
    inputs = [src_x, dst_x, *layer.parameters()]
    for left, right in zip(
        torch.autograd.grad(part.square().sum(), inputs, allow_unused=True),
        torch.autograd.grad(full[rows].square().sum(), inputs, allow_unused=True),
        strict=True,
    ):
        assert (left is None) == (right is None)
        if left is not None:
            torch.testing.assert_close(left, right)


@pytest.mark.parametrize("rows", [None, torch.tensor([2, 0])])
def test_gradcheck(layer, rows, draw):
    relation = Relation.from_coo([0, 0, 1, 2, 2], [1, 3, 0, 2, 3], 4, 5)  # destination 3 and source 4 have no edges
    src_x, dst_x = draw(5, D), draw(4, D)
    parameters = list(layer.parameters())
    names = [name for name, _ in layer.named_parameters()]

    def run(src, dst, *values):
        named = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, named, (relation, src, dst, rows))

    assert torch.autograd.gradcheck(run, (src_x, dst_x, *parameters))


def test_without_targets_the_sources_are_the_targets(layer, homogeneous, bipartite, draw):
    x = draw(homogeneous.num_src, D)
    if layer.dst_dim is None:
        torch.testing.assert_close(layer(homogeneous.relation, x), layer(homogeneous.relation, x, x))
    if layer.needs_targets:
        with pytest.raises(ValueError, match="dst_x is needed where destinations are not the sources, got None for 12"):
            layer(bipartite.relation, draw(9, D))
    else:
        assert layer(bipartite.relation, draw(9, D)).shape == (12, layer.out_dim)


def test_zero_edges_give_finite_results_and_gradients(layer, draw):
    nothing = Relation.from_coo([], [], 4, 5)
    src_x, dst_x = draw(5, D), draw(4, D)
    y = layer(nothing, src_x, dst_x)
    y.sum().backward()
    assert y.shape == (4, layer.out_dim) and bool(torch.isfinite(y).all())
    assert src_x.grad is None or not src_x.grad.any()
    torch.testing.assert_close(layer(nothing, 7 * src_x, dst_x), y)  # there is nothing to hear from


def test_a_node_without_edges_does_not_depend_on_the_others(layer, sample, draw):
    src_x, dst_x = draw(sample.num_src, D), draw(sample.num_dst, D)
    last = sample.num_dst - 1
    torch.testing.assert_close(
        layer(sample.relation, src_x, dst_x)[last], layer(sample.relation, src_x + 1, dst_x)[last]
    )


def test_the_generator_alone_decides_the_start():
    for make in LAYERS.values():
        torch.manual_seed(1)
        first = make(torch.Generator().manual_seed(9)).state_dict()
        untouched = torch.rand(1)
        torch.manual_seed(1)
        assert torch.rand(1) == untouched, "the global stream was used"
        torch.manual_seed(2)
        second, third = (make(torch.Generator().manual_seed(seed)).state_dict() for seed in (9, 8))
        assert all(torch.equal(value, second[name]) for name, value in first.items())
        assert not first or any(not torch.equal(value, third[name]) for name, value in first.items())


def test_wrong_row_counts_widths_and_dtypes_are_refused(layer, bipartite, draw):
    name = type(layer).__name__
    for bad in (draw(8, D), draw(9, D + 1), torch.ones(9, D, dtype=torch.int64)):
        got = re.escape(f"got {bad.dtype} {tuple(bad.shape)}")
        with pytest.raises(ValueError, match=rf"{name}: src_x must be floating point \(9, 5\), a row for each.*{got}"):
            layer(bipartite.graph, bad, draw(12, D))
    if layer.needs_targets:
        with pytest.raises(ValueError, match=rf"{name}: dst_x must be .*\(12, 5\).*\(9, 5\)"):
            layer(bipartite.relation, draw(9, D), draw(9, D))


def test_features_of_both_sides_in_one_argument_are_told_where_they_go(layer, sample, draw):
    with pytest.raises(TypeError, match=r"src_x must be a tensor, .* got a tuple of 2; give those of the destinations apart, as dst_x="):
        layer(sample.graph, (draw(sample.num_src, D), draw(sample.num_dst, D)))


def test_sizes_that_are_no_whole_numbers_are_refused():
    for make, message in (
        (lambda: GCNLayer("8", 6), "GCNLayer: src_dim must be an integer, got '8'"),
        (lambda: SAGELayer(8, 6.5), "SAGELayer: out_dim must be an integer, got 6.5"),
        (lambda: GATLayer(8, "6"), "GATLayer: head_dim must be an integer, got '6'"),
    ):
        with pytest.raises(TypeError, match=message):
            make()
    with pytest.raises(ValueError, match="GCNLayer: out_dim must be at least 1, got 0"):
        GCNLayer(8, 0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(layer, bipartite, draw, value):
    src_x, dst_x = draw(9, D).detach(), draw(12, D).detach()
    src_x[4, 1] = value
    with pytest.raises(
        ValueError, match="src_x must be finite, got NaN or infinity in 1 of 9 rows.*row 4; fill missing"
    ):
        layer(bipartite.relation, src_x, dst_x)


def test_large_finite_features_are_not_mistaken_for_infinite(homogeneous):
    layer = SAGELayer(2, 2)
    assert layer(homogeneous.relation, torch.full((11, 2), 3e38)).shape == (11, 2)  # their sum overflows


def test_graphs_of_several_edge_types_or_parallel_edges_are_refused(layer, draw):
    dgl = import_dgl()
    two = dgl.heterograph({("user", "buys", "item"): ([0], [1]), ("user", "sees", "item"): ([1], [0])})
    with pytest.raises(ConfigError, match=r"must have one edge type, got 2 \(.*buys.*sees.*; pass the slice of one"):
        layer(two, draw(2, D), draw(2, D))
    assert layer(two["buys"], draw(2, D), draw(2, D)).shape == (2, layer.out_dim)
    with pytest.raises(ConfigError, match="no parallel edges, got 1 of 3 that repeat another; pass dgl.to_simple"):
        layer(dgl.graph(([0, 0, 1], [1, 1, 0])), draw(2, D), draw(2, D))
    with pytest.raises(TypeError, match="must be a Relation or a DGL graph, got dict"):
        layer({}, draw(2, D), draw(2, D))


def test_features_of_another_dtype_or_type_are_named(layer, bipartite, draw):
    name, others = type(layer).__name__, draw(12, D)
    if list(layer.parameters()):
        with pytest.raises(ValueError, match=f"{name}: src_x must be torch.float64, as the weights, got torch.float32; cast it"):
            layer(bipartite.relation, draw(9, D).float(), others)
    if layer.needs_targets:
        with pytest.raises(ValueError, match="dst_x must be torch.float64, as the weights"):
            layer(bipartite.relation, draw(9, D), others.float())
    bad = draw(9, D).detach().numpy()
    with pytest.raises(TypeError, match=f"{name}: src_x must be a tensor, got ndarray; make one with"):
        layer(bipartite.relation, bad, others)


@pytest.mark.parametrize(
    ("rows", "message"),
    [([0, 12], r"rows must be in 0\.\.11, got 0\.\.12"), ([-1, 3], r"rows must be in 0\.\.11, got -1\.\.3"), ([3, 3], "rows must be distinct, got 3 2 times")],
)
def test_rows_that_are_none_are_refused(layer, bipartite, draw, rows, message):
    with pytest.raises(ValueError, match=f"{type(layer).__name__}: {message}"):
        layer(bipartite.relation, draw(9, D), draw(12, D), torch.tensor(rows))


class Mine(RelationLayer):
    """A sum of neighbours that takes only the rows asked for where it is told so, and cuts off what it does not announce."""

    def __init__(self, minds_rows: bool, gives: int) -> None:
        super().__init__(D, None, D)
        self.minds_rows, self.gives = minds_rows, gives

    def propagate(self, relation, src_x, dst_x, rows=None):
        return spmm(relation, src_x, rows=rows if self.minds_rows else None)[:, : self.gives]


def test_a_layer_of_ones_own_that_gives_other_rows_is_refused(homogeneous, draw):
    relation, x, rows = homogeneous.relation, draw(11, D), torch.tensor([2])
    good = Mine(True, D)
    assert good(relation, x, rows=rows).shape == Stack([good])(relation, x, rows).shape == (1, D)
    for made, name in ((lambda *how: Mine(*how), "Mine"), (lambda *how: Stack([Mine(*how)]), "Stack")):
        with pytest.raises(ValueError, match=rf"{name}: asked for 1 rows of 5 values each, gave 11 of 5; take only `rows`"):
            made(False, D)(relation, x, rows=rows)
        with pytest.raises(ValueError, match=rf"{name}: asked for 11 rows of 5 values each, gave 11 of 2; .*let out_dim say"):
            made(True, 2)(relation, x)


def test_as_many_users_as_items_are_no_homogeneous_graph(layer, draw):
    graph = import_dgl().heterograph({("user", "sees", "item"): ([0, 1, 2], [1, 1, 0])}, num_nodes_dict={"user": 4, "item": 4})
    if layer.needs_targets:
        with pytest.raises(ValueError, match="dst_x is needed where destinations are not the sources, got None for 4"):
            layer(graph, draw(4, D))
    assert layer(graph, draw(4, D), draw(4, D)).shape == (4, layer.out_dim)


def test_bfloat16_layers_take_bfloat16(layer, bipartite, draw):
    src_x, dst_x = draw(9, D).detach(), draw(12, D).detach()
    got = layer.bfloat16()(bipartite.relation, src_x.bfloat16(), dst_x.bfloat16())
    wanted = layer.double()(bipartite.relation, src_x.bfloat16().double(), dst_x.bfloat16().double())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.double(), wanted, rtol=0.05, atol=0.05)


def test_weights_of_a_dgl_graph_come_along_in_its_order(homogeneous, draw):
    graph, x = homogeneous.graph, draw(11, 4)
    weight = torch.rand(graph.num_edges(), generator=torch.Generator().manual_seed(5))
    source, target = graph.edges()
    expected = torch.zeros(11, 4, dtype=torch.float64).index_add_(0, target, weight.double()[:, None] * x[source])
    torch.testing.assert_close(spmm(relation_of(graph, weight=weight), x), expected)
    with pytest.raises(ValueError, match=r"weight must be \(\d+,\), one an edge, got \(2,\)"):
        relation_of(graph, weight=weight[:2])
    with pytest.raises(ValueError, match="use relation.with_weight"):
        relation_of(homogeneous.relation, weight=weight)


def test_layers_can_be_imported_from_the_package():
    for name in graphrec.nn.LAYERS:
        assert getattr(graphrec.nn, name).__name__ == name and name in dir(graphrec.nn)
    with pytest.raises(AttributeError, match=r"'graphrec\.nn' has no attribute 'GCNLayr'"):
        graphrec.nn.GCNLayr  # noqa: B018


def test_the_block_of_the_readme_runs(homogeneous, tmp_path):
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Layers in code of your own")[1]
    (tmp_path / "block.py").write_text(section.split("```python")[1].split("```")[0])
    found = runpy.run_path(str(tmp_path / "block.py"), {"graph": homogeneous.graph, "x": torch.randn(11, 64)})
    assert found["h"].shape == (11, 64)


def test_the_example_of_layers_learns(capsys):
    runpy.run_path(str(ROOT / "examples" / "layers.py"), run_name="__main__")
    *steps, last = capsys.readouterr().out.splitlines()
    share = [int(re.search(r"(\d+)% of links", line)[1]) for line in steps]
    assert share[-1] > 70 and last == "mean of neighbours: (80, 16)"
