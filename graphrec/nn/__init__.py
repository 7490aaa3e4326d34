"""Layers, by role in a trained model: inputs -> encoder -> head. One line per registered part.

Every part is a `torch.nn.Module` made from its own settings. Inputs give the first embeddings of users and items, the
encoder mixes them over the graph, and the head turns a user's and an item's vector into a score.

An encoder is made as `Encoder(settings, dim, generator)`, D of the inputs and the source of its random start, and says with
`out_dim` how long its vectors are. `encoder(relation, user_x, item_x, users, items)` returns the encoded rows asked for. One that reads more than the target
behaviour has `prepare(relations, generator)` and `relation_weights` too: see `graphrec.nn.hetero`.
Layers that draw (dropout, noise) draw from torch's own generator, which the training loop seeds by the step, and only in
training mode.
"""

from __future__ import annotations

INPUTS: dict[str, str] = {
    "id": "graphrec.nn.inputs:IdEmbeddings",
}

ENCODERS: dict[str, str] = {
    "none": "graphrec.nn.identity:IdentityEncoder",
    "lightgcn": "graphrec.nn.light:LightGCNEncoder",
    "joint-lightgcn": "graphrec.nn.hetero:JointLightGCN",
    "rgcn": "graphrec.nn.rgcn:RGCNEncoder",
    "fused": "graphrec.nn.fusion:FusedEncoder",
    "diffnet": "graphrec.nn.social:DiffNetEncoder",
    "cascade": "graphrec.nn.behaviors:CascadeEncoder",
    "mbgcn": "graphrec.nn.behaviors:MBGCNEncoder",
    "mhcn": "graphrec.nn.hypergraph:HypergraphEncoder",
}

HEADS: dict[str, str] = {
    "dot": "graphrec.nn.heads:DotHead",
    "cosine": "graphrec.nn.heads:CosineHead",
}
