"""Losses of trained models: one line per loss, imported only when it is asked for.

A ranking loss is a class with `Settings`, a subclass of `graphrec.settings.Settings`, and is made with an instance of them. It
says which negatives it wants by its attribute `negatives`, a `graphrec.losses.batch.Negatives`, and turns scores into one number,
a tensor without dimensions: `loss(positive (B,), negative (B, n) or (B, M), batch)`. It has no parameters, for only inputs,
encoder and head are trained. Three things are optional:

- `of_rows(user, item, batch)`: the same loss on prepared rows whose inner products are the scores, in one operator. A loss
  without negatives (`Negatives("none")`) has only this one, and then needs a head whose scores are inner products.
- `prepare(train)`: called once with the training matrix (U, I) before the first step, for constants of the graph.
- `needs_cosine = True`: it compares cosines, and any other head than the cosine with temperature 1 is refused.

An auxiliary loss is added to the ranking loss with a weight of its own: `auxiliary(step)` turns a
`graphrec.losses.step.Step`, all that a training step has at hand, into one number. It may have `prepare` too, and with
`needs_whole_graph = True` it is not taken on sampled neighbourhoods, with `counts_edges = True` not on those of edges with weights.
With `check_encoder(encoder, negatives)` it refuses, before the first step and by a `ConfigError`, encoders and `Negatives` of the
ranking loss that it cannot be taken on. It has `Settings` and no parameters either.
"""

from __future__ import annotations

LOSSES: dict[str, str] = {
    "bpr": "graphrec.losses.pairwise:BPR",
    "bce": "graphrec.losses.pairwise:BCE",
    "ccl": "graphrec.losses.pairwise:CCL",
    "max-margin": "graphrec.losses.margin:MaxMargin",
    "sampled-softmax": "graphrec.losses.softmax:SampledSoftmax",
    "adaptive-softmax": "graphrec.losses.adaptive:AdaptiveSoftmax",
    "directau": "graphrec.losses.alignment:DirectAU",
    "ultragcn": "graphrec.losses.constraint:UltraGCN",
}

AUXILIARY: dict[str, str] = {
    "sgl": "graphrec.losses.contrastive:SGL",
    "simgcl": "graphrec.losses.contrastive:SimGCL",
    "xsimgcl": "graphrec.losses.contrastive:XSimGCL",
    "item-graph": "graphrec.losses.constraint:ItemGraph",
    "kl": "graphrec.losses.autoencoder:KL",
    "edge-reconstruction": "graphrec.losses.autoencoder:EdgeReconstruction",
    "hierarchical-mi": "graphrec.losses.mutual:HierarchicalMutualInformation",
    "transr": "graphrec.losses.triples:TransR",
    "modality-bpr": "graphrec.losses.modality:ModalityBPR",
}

LIST_LOSSES: dict[str, str] = {
    "bce": "graphrec.losses.listwise:bce",
    "pairwise": "graphrec.losses.listwise:pairwise",
    "softmax": "graphrec.losses.listwise:softmax",
    "lambdarank": "graphrec.losses.listwise:lambdarank",
}
"""Losses of a second-stage ranker: functions of a list's scores (B, N), labels (B, N) and known places (B, N)."""
