"""Layers, by role in a trained model: inputs -> encoder -> head. One line per registered part.

Every part is a `torch.nn.Module` made from its own settings. Inputs give the first embeddings of users and items, the
encoder mixes them over the graph, and the head turns a user's and an item's vector into a score.

Inputs are called without arguments and give (U, D) and (I, D); `rows(users, items)` gives some of these rows, with sparse
gradients of tables: for a penalty, and all that a sampled neighbourhood reads.
Those that are made of features are made by `from_store(store, D, settings, generator, progress)`, which reads them.

An encoder is made as `Encoder(settings, dim, generator)` (`graphrec.nn.encoder`), D of the inputs and the source of its random
start, and says with `out_dim` how long its vectors are. `encoder(relation, user_x, item_x, users, items)` returns the encoded
rows asked for; the relation may be a DGL graph of one edge type too, and what does not fit it is refused (`layer.sides_of`).
A head may have `observe(train)`, called once with the training matrix (U, I) before the first step.
An encoder that keeps the rules in `graphrec.ops.relation.Relation` says with `hops` how many of its layers read the relation,
and is then trained on sampled neighbourhoods too (`train.batching = "sampled"`); one without `hops` only on the whole graph.
A graph that is no single relation draws with `neighbourhoods(fanouts)` of its own (`graphrec.nn.gcmc.RatingGraph`).
An encoder that finds neighbours of its own has `observe(relation)`, called once with the training graph, and
`neighbourhoods()`, which makes those of a batch (`graphrec.nn.pinsage`).
One that reads features of items has `read(store, generator)`, called once before them (`graphrec.nn.multimodal`).
An encoder that reads more than the target behaviour has `prepare(relations, generator)`, `optional(relations)`, which names those
that it can do without, and `relation_weights` too: see `graphrec.nn.hetero`.
With `hops` and a method `layer` it computes the vectors of all nodes in bounded memory (`graphrec.nn.layerwise`), as
`train.inference_block` asks; a stack (`stack.py`) has both.
Layers that draw (dropout, noise) draw from torch's own generator, which the training loop seeds by the step, and only in
training mode.

Plain layers (`gcn.py`, `gat.py`, `sage.py`, `ngcf.py`, `light.py`) work on any `Relation` or DGL graph, `layer.py` says how to call them,
and `stack.py` puts them one after the other; the encoders of their names are such stacks over users and items as one graph.
They can be imported from here (`LAYERS`), for code of your own: `examples/layers.py`.
"""

from __future__ import annotations

from typing import Any

from graphrec.registry import resolve

LAYERS: dict[str, str] = {
    "GCNLayer": "graphrec.nn.gcn:GCNLayer",
    "GATLayer": "graphrec.nn.gat:GATLayer",
    "GATv2Layer": "graphrec.nn.gat:GATv2Layer",
    "SAGELayer": "graphrec.nn.sage:SAGELayer",
    "NGCFLayer": "graphrec.nn.ngcf:NGCFLayer",
    "LightGCNLayer": "graphrec.nn.light:LightGCNLayer",
    "Stack": "graphrec.nn.stack:Stack",
    "GAE": "graphrec.nn.autoencoder:GAE",
    "VGAE": "graphrec.nn.autoencoder:VGAE",
    "MaskedGAE": "graphrec.nn.masked_autoencoder:MaskedGAE",
    "GCMCEncoder": "graphrec.nn.gcmc:GCMCEncoder",
    "relation_of": "graphrec.nn.layer:relation_of",
}
"""What can be imported from here, loaded when it is asked for."""

INPUTS: dict[str, str] = {
    "id": "graphrec.nn.inputs:IdEmbeddings",
    "features": "graphrec.nn.inputs_features:FeatureInputs",
    "id+features": "graphrec.nn.inputs_features:IdFeatureInputs",
    "vbpr": "graphrec.nn.vbpr:VBPRInputs",
}

ENCODERS: dict[str, str] = {
    "none": "graphrec.nn.identity:IdentityEncoder",
    "lightgcn": "graphrec.nn.light:LightGCNEncoder",
    "gcn": "graphrec.nn.gcn:GCNEncoder",
    "gat": "graphrec.nn.gat:GATEncoder",
    "gatv2": "graphrec.nn.gat:GATv2Encoder",
    "sage": "graphrec.nn.sage:SAGEEncoder",
    "ngcf": "graphrec.nn.ngcf:NGCFEncoder",
    "lightgcn-noise": "graphrec.nn.noise:NoisyLightGCNEncoder",
    "gae": "graphrec.nn.autoencoder:GAEEncoder",
    "vgae": "graphrec.nn.autoencoder:VGAEEncoder",
    "pinsage": "graphrec.nn.pinsage:PinSAGEEncoder",
    "joint-lightgcn": "graphrec.nn.hetero:JointLightGCN",
    "rgcn": "graphrec.nn.rgcn:RGCNEncoder",
    "fused": "graphrec.nn.fusion:FusedEncoder",
    "diffnet": "graphrec.nn.social:DiffNetEncoder",
    "cascade": "graphrec.nn.behaviors:CascadeEncoder",
    "mbgcn": "graphrec.nn.behaviors:MBGCNEncoder",
    "mhcn": "graphrec.nn.hypergraph:HypergraphEncoder",
    "kgat": "graphrec.nn.knowledge:KGATEncoder",
    "knowledge-lightgcn": "graphrec.nn.knowledge_light:KnowledgeLightEncoder",
    "freedom": "graphrec.nn.multimodal:FreedomEncoder",
}

HEADS: dict[str, str] = {
    "dot": "graphrec.nn.heads:DotHead",
    "cosine": "graphrec.nn.heads:CosineHead",
    "cosine-prior": "graphrec.nn.prior:CosinePriorHead",
    "bilinear": "graphrec.nn.heads:BilinearHead",
    "mlp": "graphrec.nn.mlp_head:MLPHead",
}


def __getattr__(name: str) -> Any:
    if name in LAYERS:
        return resolve("layer", LAYERS, name)
    raise AttributeError(f"module 'graphrec.nn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *LAYERS])
