"""Layers, by role in a trained model: inputs -> encoder -> head. One line per registered part.

Every part is a `torch.nn.Module` made from its own settings. Inputs give the first embeddings of users and items, the
encoder mixes them over the graph, and the head turns a user's and an item's vector into a score.

An encoder is made as `Encoder(settings, dim, generator)`, D of the inputs and the source of its random start, and says with
`out_dim` how long its vectors are. `encoder(relation, user_x, item_x, users, items)` returns the encoded rows asked for.
Layers that draw (dropout, noise) draw from torch's own generator, which the training loop seeds by the step, and only in
training mode.

Plain layers (`gcn.py`, `gat.py`, `sage.py`, `ngcf.py`) work on any `Relation` or DGL graph, `layer.py` says how to call them,
and `stack.py` puts them one after the other; the encoders of their names are such stacks over users and items as one graph.
"""

from __future__ import annotations

INPUTS: dict[str, str] = {
    "id": "graphrec.nn.inputs:IdEmbeddings",
}

ENCODERS: dict[str, str] = {
    "none": "graphrec.nn.identity:IdentityEncoder",
    "lightgcn": "graphrec.nn.light:LightGCNEncoder",
    "gcn": "graphrec.nn.gcn:GCNEncoder",
    "gat": "graphrec.nn.gat:GATEncoder",
    "gatv2": "graphrec.nn.gat:GATv2Encoder",
    "sage": "graphrec.nn.sage:SAGEEncoder",
    "ngcf": "graphrec.nn.ngcf:NGCFEncoder",
}

HEADS: dict[str, str] = {
    "dot": "graphrec.nn.heads:DotHead",
    "cosine": "graphrec.nn.heads:CosineHead",
}
