"""Layers and operators in a training loop of your own, over a DGL graph of your own: link prediction on two communities.

    python examples/layers.py
"""

import torch

from graphrec._dgl import import_dgl
from graphrec.nn import GATLayer, GCNLayer, Stack, relation_of
from graphrec.ops import sample_negatives, spmm

dgl = import_dgl()  # `import dgl`, without what it prints and writes, and with what its newer versions need
generator = torch.Generator().manual_seed(0)

# 2 x 40 people who mostly know people of their own half.
side = torch.arange(80) >= 40
chance = torch.where(side[:, None] == side, 0.2, 0.01)
source, target = torch.nonzero(torch.rand(80, 80, generator=generator) < chance, as_tuple=True)
graph = dgl.remove_self_loop(dgl.to_bidirected(dgl.graph((source, target), num_nodes=80)))

relation = relation_of(graph)  # once: layers take the DGL graph too, and convert it at every call
x = torch.nn.Embedding.from_pretrained(torch.randn(80, 16, generator=generator), freeze=False)
model = Stack(
    [GCNLayer(16, 16, self_loops=True, generator=generator), GATLayer(16, 8, 2, self_loops=True, generator=generator)],
    activation="relu",
)
optimizer = torch.optim.Adam([*x.parameters(), *model.parameters()], lr=0.01)
heads, tails = relation.rows, relation.indices.long()
for step in range(60):
    others = sample_negatives(relation, heads, seed=step)  # never a neighbour, (E,)
    h = model(relation, x.weight)
    wins = (h[heads] * h[tails]).sum(1) - (h[heads] * h[others]).sum(1)
    loss = torch.nn.functional.softplus(-wins).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 19:
        print(f"step {step + 1}: loss {loss.item():.3f}, {(wins > 0).float().mean().item():.0%} of links above a random pair")

# Operators alone: the mean of the neighbours' vectors, weighted by a feature of the DGL graph's edges.
graph.edata["w"] = torch.rand(graph.num_edges(), generator=generator)
weighted = relation_of(graph, weight=graph.edata["w"])
mean = spmm(weighted, h.detach(), left=weighted.scale_dst(-1.0))
print(f"mean of neighbours: {tuple(mean.shape)}")
