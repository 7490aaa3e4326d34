"""Layers, by role in a trained model: inputs -> encoder -> head. One line per registered part.

Every part is a `torch.nn.Module` made from its own settings. Inputs give the first embeddings of users and items, the
encoder mixes them over the graph, and the head turns a user's and an item's vector into a score.

Inputs are called without arguments and give (U, D) and (I, D); `rows(users, items)` gives the rows that a penalty is taken on.
Those that are made of features are made by `from_store(store, D, settings, generator, progress)`, which reads them.

An encoder is made as `Encoder(settings, dim, generator)`, D of the inputs and the source of its random start, and says with
`out_dim` how long its vectors are. `encoder(relation, user_x, item_x, users, items)` returns the encoded rows asked for.
Layers that draw (dropout, noise) draw from torch's own generator, which the training loop seeds by the step, and only in
training mode.
"""

from __future__ import annotations

INPUTS: dict[str, str] = {
    "id": "graphrec.nn.inputs:IdEmbeddings",
    "features": "graphrec.nn.inputs_features:FeatureInputs",
    "id+features": "graphrec.nn.inputs_features:IdFeatureInputs",
}

ENCODERS: dict[str, str] = {
    "none": "graphrec.nn.identity:IdentityEncoder",
    "lightgcn": "graphrec.nn.light:LightGCNEncoder",
}

HEADS: dict[str, str] = {
    "dot": "graphrec.nn.heads:DotHead",
    "cosine": "graphrec.nn.heads:CosineHead",
}
