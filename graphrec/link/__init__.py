"""Link prediction on one homogeneous graph: one line per model, and per layer that their encoders can be made of.

A model is a `graphrec.link.base.LinkModel` over a `graphrec.logs.link_graph.LinkGraph`. A layer is a
`graphrec.nn.layer.RelationLayer`, made as `Layer(in_dim, out_dim, generator=...)`.
"""

from __future__ import annotations

LINK_MODELS: dict[str, str] = {
    "common-neighbours": "graphrec.link.heuristics:CommonNeighbours",
    "adamic-adar": "graphrec.link.heuristics:AdamicAdar",
    "resource-allocation": "graphrec.link.heuristics:ResourceAllocation",
    "mf": "graphrec.link.autoencoders:LinkMF",
    "gae": "graphrec.link.autoencoders:LinkGAE",
    "vgae": "graphrec.link.autoencoders:LinkVGAE",
    "masked-gae": "graphrec.link.autoencoders:LinkMaskedGAE",
}

LAYERS: dict[str, str] = {
    "gcn": "graphrec.nn.autoencoder:convolution",
    "sage": "graphrec.nn.sage:SAGELayer",
    "gat": "graphrec.nn.gat:GATLayer",
    "gatv2": "graphrec.nn.gat:GATv2Layer",
    "lightgcn": "graphrec.link.light:light_convolution",
    "ngcf": "graphrec.nn.ngcf:NGCFLayer",
}

PLAIN_BETWEEN = ("lightgcn", "ngcf")
"""Layers that want no activation between them: one has none by design, the other its own."""

WITHOUT_WEIGHTS = ("sage", "gat", "gatv2")
"""Layers that take no weights of edges: a mean over neighbours, as in OGB's own baselines, and attention, which finds its own."""
