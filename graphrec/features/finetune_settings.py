"""The `[features.finetune]` section of a run file: how a text encoder is fitted to the graph."""

from __future__ import annotations

from pydantic import Field

from graphrec.settings import Settings


class FinetuneSettings(Settings):
    """How `graphrec features --finetune NAME` trains the adapter of a `transformers` encoder."""

    rank: int = Field(default=8, ge=1)
    """r, the rank of each adapter's two matrices; 8 is the choice of Hu et al. (2021) for the attention projections."""
    alpha: float = Field(default=16.0, gt=0)
    """The adapters' product is scaled by alpha / rank."""
    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Share of an adapter's inputs that is dropped in training."""
    targets: list[str] = Field(default=[])
    """Names of the linear layers that get an adapter, as their last part stands in the model; empty: the projections to
    queries, keys and values, found by their usual names."""
    temperature: float = Field(default=0.05, gt=0)
    """Cosines are divided by it in the softmax; 0.05 is SimCSE's choice (Gao et al. 2021)."""
    batch_size: int = Field(default=64, ge=2)
    """Pairs of items in a step; each has the others' second items as negatives."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """AdamW's rate after a warm-up over a tenth of the steps; from there it falls to zero along a line."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's, on the adapters alone."""
    epochs: int = Field(default=5, ge=1)
    """Passes; each draws new pairs."""
    pairs: int = Field(default=20_000, ge=1)
    """Pairs in a pass at most; a pass over all histories uses every training event once."""
    min_pairs: int = Field(default=200, ge=1)
    """Below so many pairs nothing is trained: the adapter would learn the few texts by heart."""
    valid_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the items whose texts are kept from training, to validate on texts never seen."""
    valid_pairs: int = Field(default=1024, ge=1)
    """Pairs of one such item and another of the same user, at most."""
    patience: int = Field(default=2, ge=0)
    """Stop after this many passes in a row without a lower validation loss; 0 never stops."""
    checkpoint_every: float = Field(default=60.0, ge=0)
    """Seconds between two checkpoints; 0 writes one after every step. An interrupted fine-tuning goes on from the last."""
    seed: int = Field(default=0, ge=0)
    """Of the pairs, the adapters' start and dropout."""
