from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from graphrec._dgl import import_dgl
from graphrec.errors import ConfigError
from graphrec.nn.gcmc import GCMCEncoder, GCMCEncoderSettings, RatingHead, RatingHeadSettings
from graphrec.nn.layerwise import encode_in_blocks
from graphrec.nn.rating_graph import RatingGraph
from graphrec.ops import Relation

NUM_USERS, NUM_ITEMS, D, LEVELS = 9, 7, 4, 3


@pytest.fixture(scope="module")
def ratings() -> np.ndarray:
    """Level of each pair, -1 where there is none; the last user and item have no ratings."""
    rng = np.random.default_rng(0)
    table = rng.integers(0, LEVELS, (NUM_USERS, NUM_ITEMS))
    table[rng.random(table.shape) < 0.5] = -1
    table[-1], table[:, -1] = -1, -1
    return table


@pytest.fixture(scope="module")
def graph(ratings) -> RatingGraph:
    user, item = np.nonzero(ratings >= 0)
    indptr = np.append(0, np.bincount(user, minlength=NUM_USERS).cumsum())
    return RatingGraph.from_levels(sp.csr_matrix((ratings[user, item], item, indptr), shape=ratings.shape), LEVELS)


def make(accumulate="sum", normalization="left", **others) -> GCMCEncoder:
    others = {"dropout": 0.0, "node_dropout": 0.0} | others
    settings = GCMCEncoderSettings(
        hidden_dim=6, out_dim=5, accumulate=accumulate, normalization=normalization, **others
    )
    return GCMCEncoder(settings, D, torch.Generator().manual_seed(0), num_levels=LEVELS).double()


@pytest.mark.parametrize("accumulate", ["sum", "stack"])
@pytest.mark.parametrize("normalization", ["left", "symmetric"])
def test_encoder_is_the_sum_of_the_papers_messages(accumulate, normalization, ratings, graph, draw):
    encoder, user_x, item_x = make(accumulate, normalization), draw(NUM_USERS, D), draw(NUM_ITEMS, D)
    weights = encoder.weight.cumsum(0) if accumulate == "sum" else encoder.weight
    expected = []
    for table, x in ((ratings, item_x), (ratings.T, user_x)):
        degree, other = (table >= 0).sum(1), (table >= 0).sum(0)
        rows = []
        for row in range(len(table)):
            parts = [torch.zeros(weights.shape[2], dtype=torch.float64) for _ in range(LEVELS)]
            for column in np.flatnonzero(table[row] >= 0):
                c = degree[row] if normalization == "left" else (degree[row] * other[column]) ** 0.5
                level = table[row, column]
                parts[level] = parts[level] + weights[level].T @ x[column] / c
            rows.append(sum(parts) if accumulate == "sum" else torch.cat(parts))
        expected.append(torch.relu(torch.stack(rows)) @ encoder.dense.weight.T)
    got = encoder(graph, user_x, item_x)
    for left, right in zip(got, expected, strict=True):
        torch.testing.assert_close(left, right)
    users, items = torch.tensor([8, 2]), torch.tensor([0, 6, 3])
    some = encoder(graph, user_x, item_x, users, items)
    torch.testing.assert_close(some[0], got[0][users])
    torch.testing.assert_close(some[1], got[1][items])


@pytest.mark.parametrize("settings", [{}, {"accumulate": "stack", "normalization": "left"}])
def test_a_sample_with_every_edge_is_the_graph_itself(settings, graph, draw):
    encoder, inputs = make(**settings), (draw(NUM_USERS, D), draw(NUM_ITEMS, D))
    users, items = torch.tensor([3, 0]), torch.tensor([2])
    hood = graph.neighbourhoods([NUM_USERS]).draw(users, items, seed=1)
    local = inputs[0][hood.users], inputs[1][hood.items]
    sides = encoder(hood.relation, *local, torch.arange(2), torch.arange(1)), encoder(graph, *inputs, users, items)
    weights = [torch.randn_like(side) for side in sides[0]]
    gradients = [
        torch.autograd.grad(sum((one * w).sum() for one, w in zip(side, weights, strict=True)), [*inputs, *encoder.parameters()])
        for side in sides
    ]
    for left, right in (*zip(*sides, strict=True), *zip(*gradients, strict=True)):
        torch.testing.assert_close(left, right)


def test_drawn_edges_keep_their_levels(graph, ratings):
    hood = graph.neighbourhoods([1]).draw(torch.arange(NUM_USERS), torch.arange(NUM_ITEMS), seed=2)
    assert sum(level.num_edges for level in hood.relation.levels) == hood.relation.pattern.num_edges
    for number, level in enumerate(hood.relation.levels):
        assert (ratings[hood.users[level.rows], hood.items[level.indices]] == number).all()
        other = level.transpose()
        assert (ratings[hood.users[other.indices], hood.items[other.rows]] == number).all()


def test_blocks_of_rows_are_those_of_the_whole_pass(graph):
    encoder, inputs = make(accumulate="stack").float(), (torch.randn(NUM_USERS, D), torch.randn(NUM_ITEMS, D))
    with torch.no_grad():
        blocks = encode_in_blocks(encoder, graph, *inputs, 2, lambda *rows: rows)
        for left, right in zip(blocks, encoder(graph, *inputs), strict=True):
            torch.testing.assert_close(left, right)


def test_gradcheck(graph, draw):
    encoder = make()

    def run(user, item):
        return torch.cat(encoder(graph, user, item))

    assert torch.autograd.gradcheck(run, (draw(NUM_USERS, D), draw(NUM_ITEMS, D)))


@pytest.mark.parametrize("which", ["dropout", "node_dropout"])
def test_dropout_only_in_training(which, graph, draw):
    encoder, inputs = make(**{which: 0.5}), (draw(NUM_USERS, D), draw(NUM_ITEMS, D))
    torch.manual_seed(0)
    assert not torch.equal(encoder(graph, *inputs)[0], encoder(graph, *inputs)[0])
    encoder.eval()
    torch.testing.assert_close(encoder(graph, *inputs)[0], make()(graph, *inputs)[0])


def test_a_graph_of_other_levels_is_refused(graph, draw):
    encoder = GCMCEncoder(None, D, torch.Generator(), num_levels=2).double()
    with pytest.raises(ValueError, match="must have 2 levels, got 3; make the encoder with num_levels"):
        encoder(graph, draw(NUM_USERS, D), draw(NUM_ITEMS, D))


def test_features_that_do_not_fit_are_refused(graph, draw):
    encoder, user, item = make(), draw(NUM_USERS, D), draw(NUM_ITEMS, D)
    for inputs, message in (
        ((user[1:], item), r"user_x must be floating point \(9, 4\), .* got torch.float64 \(8, 4\)"),
        ((user, item[:, 1:]), r"item_x must be floating point \(7, 4\), .* got torch.float64 \(7, 3\)"),
        ((user, item.float()), "must agree in dtype"),
        ((user, item.detach() * torch.nan), "item_x must be finite, got NaN or infinity in 7 of 7 rows"),
    ):
        with pytest.raises(ValueError, match=f"GCMCEncoder: .*{message}"):
            encoder(graph, *inputs)


def by_type(ratings, names=("1", "2", "10"), flip=False):
    """A DGL graph with an edge type for each level."""
    ends = {level: np.nonzero(ratings == number) for number, level in enumerate(names)}
    etypes = {("item", level, "user") if flip else ("user", level, "item"): ends[level][::-1] if flip else ends[level] for level in ends}
    return import_dgl().heterograph(etypes, num_nodes_dict={"user": NUM_USERS, "item": NUM_ITEMS})


def by_feature(ratings, name="rating"):
    """A DGL graph of one edge type, whose edges have the ratings 0.5, 1.5 and 2.5."""
    user, item = np.nonzero(ratings >= 0)
    graph = import_dgl().heterograph({("user", "rates", "item"): (user, item)}, {"user": NUM_USERS, "item": NUM_ITEMS})
    graph.edata[name] = torch.from_numpy(ratings[user, item] + 0.5)
    return graph


def assert_same_graph(got, expected):
    for left, right in zip((*got.levels, got.pattern), (*expected.levels, expected.pattern), strict=True):
        assert torch.equal(left.indptr, right.indptr) and torch.equal(left.indices, right.indices)


def test_dgl_graphs_are_rating_graphs(ratings, graph, draw):
    assert_same_graph(RatingGraph.from_dgl(by_type(ratings)), graph)  # "10" after "2"
    assert_same_graph(RatingGraph.from_dgl(by_type(ratings, flip=True)), graph)
    assert_same_graph(RatingGraph.from_dgl(by_feature(ratings)), graph)
    assert_same_graph(RatingGraph.from_dgl(by_feature(ratings, "stars"), "stars"), graph)
    named = by_type(ratings, ("poor", "fair", "good"))
    assert_same_graph(RatingGraph.from_dgl(named, ["poor", ("user", "fair", "item"), "good"]), graph)
    encoder, inputs = make(), (draw(NUM_USERS, D), draw(NUM_ITEMS, D))
    for other in (by_type(ratings), by_feature(ratings)):
        for left, right in zip(encoder(other, *inputs), encoder(graph, *inputs), strict=True):
            assert torch.equal(left, right)


def test_a_graph_without_ratings_has_one_level(ratings, draw):
    encoder, inputs = GCMCEncoder(None, D, torch.Generator().manual_seed(0)).double(), (draw(NUM_USERS, D), draw(NUM_ITEMS, D))
    relation = Relation.from_coo(*np.nonzero(ratings >= 0), NUM_USERS, NUM_ITEMS)
    plain = by_feature(ratings)
    del plain.edata["rating"]
    for left, right in zip(encoder(relation, *inputs), encoder(plain, *inputs), strict=True):
        assert torch.equal(left, right)
    nothing = import_dgl().heterograph({("user", "rates", "item"): ([], [])}, {"user": 2, "item": 2})
    nothing.edata["rating"] = torch.empty(0)
    assert RatingGraph.from_dgl(nothing).pattern.num_edges == 0


def test_dgl_graphs_that_are_no_rating_graphs_are_refused(ratings):
    named = by_type(ratings, ("poor", "fair", "good"))
    with pytest.raises(ConfigError, match="must have numbers as names to be in order, got .*'fair'.*name those of the levels"):
        RatingGraph.from_dgl(named)
    with pytest.raises(ConfigError, match="one edge type, got 3; pass graph"):
        RatingGraph.from_dgl(named, "rating")
    with pytest.raises(ConfigError, match=r"one finite number for each of \d+ edges, got 'stars'; the edges have rating \(\d+,\)"):
        RatingGraph.from_dgl(by_feature(ratings), "stars")
    broken = by_feature(ratings)
    broken.edata["rating"][0] = torch.nan
    with pytest.raises(ConfigError, match="must be finite, got 'rating' with NaN or infinity at 1 of .* the first being edge 0"):
        RatingGraph.from_dgl(broken)
    two = import_dgl().heterograph({("user", "1", "item"): ([0], [0]), ("item", "2", "user"): ([0], [0])})
    with pytest.raises(ConfigError, match="must join the same nodes, got .*'2'"):
        RatingGraph.from_dgl(two)
    twice = import_dgl().heterograph({("user", "1", "item"): ([0], [0]), ("user", "2", "item"): ([0], [0])})
    with pytest.raises(ConfigError, match="must have one rating, got 1 of 2 edges that repeat a pair of another level"):
        RatingGraph.from_dgl(twice)
    with pytest.raises(TypeError, match="graph must be a DGL graph, got dict"):
        RatingGraph.from_dgl({})


@pytest.mark.parametrize("accumulate", ["sum", "stack"])
@pytest.mark.parametrize("normalization", ["left", "symmetric"])
def test_encoder_equals_dgl(accumulate, normalization, ratings, draw, same):
    """DGL scales by the degrees of one level, the paper by those of all, so that its norm is "none" and ours beside it."""
    dgl, names = import_dgl(), ("1", "2", "3")
    encoder, user_x, item_x = make(accumulate, normalization), draw(NUM_USERS, D), draw(NUM_ITEMS, D)
    convolve = dgl.nn.HeteroGraphConv(
        {level: dgl.nn.GraphConv(D, encoder.weight.shape[2], norm="none", weight=False, bias=False) for level in names},
        aggregate=accumulate,
    )  # fmt: skip
    for conv in convolve.mods.values():
        conv.set_allow_zero_in_degree(True)
    for side, (table, x) in enumerate(((ratings, item_x), (ratings.T, user_x))):
        weight = encoder.weight.detach().requires_grad_()
        by_level = weight.cumsum(0) if accumulate == "sum" else weight
        degree, other = (torch.from_numpy((table >= 0).sum(axis)).double().clamp(min=1)[:, None] for axis in (1, 0))
        left, right = (1 / degree, 1.0) if normalization == "left" else (degree.rsqrt(), other.rsqrt())
        source, target = ("item", "user") if side == 0 else ("user", "item")
        graph = by_type(ratings, names, flip=side == 0)
        external = {level: {"weight": by_level[number]} for number, level in enumerate(names)}
        h = convolve(graph, ({source: x * right}, {target: x.new_zeros(len(table), D)}), mod_kwargs=external)[target]
        h = left * h if accumulate == "sum" else (left[:, None] * h).flatten(1)  # (U, R, H) -> (U, R * H)
        expected = torch.relu(h) @ encoder.dense.weight.T
        got = encoder(by_type(ratings, names), user_x, item_x)[side]
        same(got, expected, [[x, encoder.weight], [x, weight]])


def head(levels=(1.0, 2.5, 4.0)) -> RatingHead:
    return RatingHead(RatingHeadSettings(num_bases=2, levels=levels), D, torch.Generator().manual_seed(1)).double()


def test_head_is_the_bilinear_decoder(draw):
    made, user, item = head(), draw(5, D), draw(6, D)
    q = torch.einsum("rs,sde->rde", made.mix, made.bases)
    logits = torch.einsum("ud,rde,ie->uir", user, q, item)
    expected = logits.softmax(-1) @ torch.tensor([1.0, 2.5, 4.0], dtype=torch.float64)
    prepared = made.prepare(user, item)
    torch.testing.assert_close(made.matrix(*prepared), expected)
    torch.testing.assert_close(made.logits(prepared[0], item[:5]), logits[range(5), range(5)])
    torch.testing.assert_close(made.pairs(prepared[0], item[:5]), expected.diagonal())
    of_user = torch.arange(5)[:, None], torch.tensor([[0, 1], [2, 3], [4, 5], [0, 5], [1, 2]])
    several = item[of_user[1]]  # (5, 2, D)
    torch.testing.assert_close(made.logits(prepared[0], several), logits[of_user])
    torch.testing.assert_close(made.pairs(prepared[0], several), expected[of_user])


def test_large_logits_do_not_overflow():
    made, far = head(), torch.full((1, D), 1e4, dtype=torch.float64)
    scores = made.matrix(*made.prepare(far, torch.cat([far, -far])))
    torch.testing.assert_close(scores, made.pairs(*made.prepare(far.expand(2, D), torch.cat([far, -far]))).view(1, 2))
    assert bool(torch.isfinite(scores).all())


def test_rows_that_do_not_fit_the_head_are_refused(draw):
    made = head()
    with pytest.raises(ValueError, match=r"RatingHead.prepare: users must be \(u, 4\) and items \(i, 4\), got \(2, 4\) and \(3, 5\)"):
        made.prepare(draw(2, D), draw(3, D + 1))
    for method, rows in (("pairs", 2), ("pairs", 3), ("matrix", 3), ("logits", 2)):
        with pytest.raises(ValueError, match=rf"RatingHead.{method}: users must be \(u, 8\) and items .*got \(2, 4\)"):
            getattr(made, method)(draw(2, D), draw(rows, D))
