"""Measure every plain layer, forward and backward, against DGL's layer with the same weights and input.

    python examples/benchmarks/layers.py --data DIR [--dim 64] [--heads 4] [--repeats 9] [--json]

DIR holds `train.txt` and `test.txt` adjacency lists (`user item item ...`), plain or .gz. A layer carries item features
(I, dim) to users (U, dim) over all training edges and ends in dim features; gradients are those by weights and features.
Ours and DGL's take turns in one process, and `seconds` are medians over the turns. `difference` is the largest difference
of outputs and gradients, relative to the largest value of each. NGCF is not there, for DGL has no such layer.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from attention import Step, measure, step
from torch import Tensor, nn

from graphrec._dgl import import_dgl
from graphrec.nn.gat import GATLayer, GATv2Layer
from graphrec.nn.gcn import GCNLayer
from graphrec.nn.layer import RelationLayer
from graphrec.nn.sage import SAGELayer
from graphrec.ops import Relation, backend

# ours, DGL's, and the pairs of parameter names: ours, theirs
Pair = tuple[RelationLayer, nn.Module, dict[str, str]]


def make_gcn(dim: int, heads: int) -> Pair:
    """GCN with both degrees against GraphConv."""
    theirs = import_dgl().nn.GraphConv(dim, dim, norm="both", allow_zero_in_degree=True)
    return GCNLayer(dim, dim), theirs, {"weight.weight": "weight", "bias": "bias"}


def make_gat(dim: int, heads: int) -> Pair:
    """GAT with a projection for each side against GATConv."""
    theirs = import_dgl().nn.GATConv((dim, dim), dim // heads, heads, allow_zero_in_degree=True)
    names = {"src_weight.weight": "fc_src.weight", "dst_weight.weight": "fc_dst.weight", "bias": "bias"}
    names |= {"src_attention": "attn_l", "dst_attention": "attn_r"}
    return GATLayer(dim, dim // heads, heads, dst_dim=dim), theirs, names


def make_gatv2(dim: int, heads: int) -> Pair:
    """GATv2 against GATv2Conv."""
    theirs = import_dgl().nn.GATv2Conv((dim, dim), dim // heads, heads, allow_zero_in_degree=True)
    names = {f"{side}_weight.{part}": f"fc_{side}.{part}" for side in ("src", "dst") for part in ("weight", "bias")}
    return GATv2Layer(dim, dim // heads, heads, dst_dim=dim), theirs, names | {"attention": "attn"}


def make_sage(aggregate: str, dim: int, heads: int) -> Pair:
    """GraphSAGE against SAGEConv."""
    theirs = import_dgl().nn.SAGEConv((dim, dim), dim, aggregate)
    names = {"self_weight.weight": "fc_self.weight", "self_weight.bias": "fc_self.bias"}
    names["neighbor_weight.weight"] = "fc_neigh.weight"
    if aggregate == "pool":
        names |= {"pool_weight.weight": "fc_pool.weight", "pool_weight.bias": "fc_pool.bias"}
    return SAGELayer(dim, dim, aggregate=aggregate), theirs, names


LAYERS: dict[str, Callable[[int, int], Pair]] = {
    "gcn": make_gcn,
    "gat": make_gat,
    "gatv2": make_gatv2,
    "sage mean": partial(make_sage, "mean"),
    "sage pool": partial(make_sage, "pool"),
}


def make_steps(name: str, relation: Relation, graph: Any, dim: int, heads: int) -> dict[str, Step]:
    """Forward and backward of both sides: {"ours": step, "dgl": step}."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator)
    ours, theirs, names = LAYERS[name](dim, heads)
    left, right = dict(ours.named_parameters()), dict(theirs.named_parameters())
    with torch.no_grad():
        for mine, other in names.items():
            value = 0.1 * draw(left[mine].shape)
            left[mine].copy_(value)
            right[other].copy_(value.T if name == "gcn" and value.ndim == 2 else value.view(right[other].shape))
    item_x, user_x, gradient = (draw(size, dim) for size in (relation.num_src, relation.num_dst, relation.num_dst))
    inputs = [item_x.requires_grad_()] + ([] if name == "gcn" else [user_x.requires_grad_()])
    mine, other = [left[key] for key in names], [right[key] for key in names.values()]

    def results(run: Step, turned: bool) -> list[Tensor]:
        values = run()
        if turned:  # DGL keeps GraphConv's weight the other way round
            values[1 + len(inputs)] = values[1 + len(inputs)].T
        return [value.flatten() for value in values]

    ours_step = partial(step, lambda: ours(relation, item_x, user_x), [*inputs, *mine], gradient)
    dgl_step = partial(step, lambda: theirs(graph, (item_x, user_x)).flatten(1), [*inputs, *other], gradient)
    return {"ours": partial(results, ours_step, False), "dgl": partial(results, dgl_step, name == "gcn")}


def benchmark(data: str | Path, dim: int = 64, heads: int = 4, repeats: int = 9) -> list[dict[str, object]]:
    """Measure all layers on the data set in folder `data`; one table row for each."""
    from graphrec.graph.build import build
    from graphrec.logs.read import read_split_folder

    with tempfile.TemporaryDirectory() as folder:
        matrix = build(read_split_folder(data), Path(folder) / "store").train_matrix().tocoo()
    relation = Relation.from_scipy(matrix)
    relation.t_edges  # noqa: B018  (kept from here on, as DGL keeps its formats)
    user, item = (torch.from_numpy(index).long() for index in (matrix.row, matrix.col))
    sizes = {"item": matrix.shape[1], "user": matrix.shape[0]}
    graph = import_dgl().heterograph({("item", "chosen by", "user"): (item, user)}, sizes)
    graph.create_formats_()
    rows = []
    for name in LAYERS:
        row = measure(name, make_steps(name, relation, graph, dim, heads), repeats)
        rows.append(row | {"edges": matrix.nnz, "threads": torch.get_num_threads(), "backend": backend()})
    return rows


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.txt and test.txt, plain or .gz")
    parser.add_argument("--dim", type=int, default=64, help="features of both sides and of the result (default 64)")
    parser.add_argument("--heads", type=int, default=4, help="heads of gat and gatv2, a divisor of dim (default 4)")
    parser.add_argument("--repeats", type=int, default=9, help="turns of each side (default 9)")
    parser.add_argument("--json", action="store_true", help="print one JSON list as the last line")
    arguments = parser.parse_args()
    rows = benchmark(arguments.data, arguments.dim, arguments.heads, arguments.repeats)
    if arguments.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(
            "  ".join(
                f"{name} {format(value, '.4g') if isinstance(value, float) else value}" for name, value in row.items()
            )
        )


if __name__ == "__main__":
    main()
