"""The `[train]` section of a run file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from graphrec.errors import nearest
from graphrec.settings import Settings
from graphrec.training import SAMPLERS


class TrainSettings(Settings):
    """How a model is trained. Defaults follow LightGCN's public code (He et al. 2020) where it has an opinion."""

    search: ClassVar[Mapping[str, Any]] = {
        "learning_rate": {"low": 3e-4, "high": 1e-2, "log": True},
        "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    }

    epochs: int = Field(default=100, ge=1)
    """Passes; one epoch draws as many training pairs as there are training edges. A loss with negatives for each pair leaves out
    the pairs of users who have every item."""
    batch_size: int = Field(default=2048, ge=1)
    """Training pairs in a step."""
    batching: Literal["full", "sampled"] = "full"
    """What a step works on: "full", the whole graph; "sampled", neighbours drawn anew for each batch, so that time and
    memory of a step do not grow with the graph. There Adam's steps on the tables' other rows are made up for when these are
    read (`graphrec.ops.RowAdam`)."""
    fanouts: list[Annotated[int, Field(ge=1)]] | None = None
    """With "sampled": neighbours drawn of each node in each hop, the batch's own rows first, one number for each hop of the
    encoder; left out: 10 in each, PinSAGE's and GraphSAGE's second hop (Hamilton et al. 2017)."""
    history_every: int | None = Field(default=None, ge=1)
    """With "sampled", of LightGCN's propagation: steps between two passes over the whole graph, whose vectors of every hop are kept;
    a step then draws only for what has changed since (control variates, Chen et al. 2018), which with few neighbours comes much nearer
    to the whole graph. Left out: none. They take as much room as the embeddings, once and for each hop: in files beside the run, or on the GPU."""
    inference_block: int | None = Field(default=None, ge=0)
    """Rows computed at a time in the pass over the whole graph after training and before each validation, layer by layer
    through scratch files, so that its memory is bounded; 0: the whole graph at once. Left out: 16384 with "sampled", the whole
    graph with "full". Refused where the encoder cannot: those that read several relations."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Adam's rate, before the schedule."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Weight of the L2 penalty on the batch's input embeddings; LightGCN's `decay`."""
    sampler: str = "uniform-user"
    """How training pairs are drawn: "uniform-user" (a user, then one of its items) or "uniform-edge" (every edge once)."""
    half_life_days: float | None = Field(default=None, gt=0)
    """Days after which an interaction is drawn half as often as a training pair: among its user's, or with "uniform-edge" among
    all, then with replacement. Left out: the half-life of the store ([build] half_life_days); without one all count alike. A
    model fitted in closed form draws none, and takes [build] half_life_days."""
    negative_distribution: Literal["uniform", "popularity"] = "uniform"
    """How negatives are drawn; "popularity": with probability proportional to training popularity ** negative_exponent."""
    negative_exponent: float = Field(default=0.75, ge=0, le=2)
    """Used with "popularity"; 0.75 is word2vec's choice (Mikolov et al. 2013)."""
    schedule: Literal["constant", "cosine", "linear", "step"] = "constant"
    """Course of the learning rate after the warm-up: kept, to zero along a cosine or a line, or cut every so often."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """Epochs over which the rate rises linearly from zero; fractions are fine."""
    decay_epochs: float = Field(default=30.0, gt=0)
    """With "step": epochs between two cuts."""
    decay_factor: float = Field(default=0.1, gt=0, lt=1)
    """With "step": what the rate is multiplied by at a cut."""
    metric: str = "ndcg@20"
    """The validation metric that picks the best weights; higher is better."""
    valid_users: int | None = Field(default=None, ge=1)
    """Users of the validation split that each validation ranks, the same random ones every time; left out: all of them. The
    metric of fewer users is less exact."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between two validations, where the store has a validation split."""
    patience: int = Field(default=5, ge=0)
    """Stop after this many validations in a row without a better metric; 0 never stops."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """"bf16" runs dense matrix products in bfloat16; parameters, optimiser and losses stay float32."""
    start_from: str | None = Field(default=None, min_length=1)
    """A finished run of the same model, such as yesterday's: training starts from its parameters, those of users and items by
    original id; what it does not know starts as it would without. The run's folder keeps its `checkpoints` for that."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1", or "auto": the GPU where there is one."""
    checkpoint_every: float = Field(default=60.0, ge=0)
    """Seconds between two checkpoints, or twenty times as long as the last one took to write, where that is more; 0 writes one
    after every step. One is always written at the end."""
    seed: int = Field(default=0, ge=0)
    """Of the start values and of every draw; the same seed gives the same weights bit for bit on CPU."""

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, value: str) -> str:
        if value not in SAMPLERS:
            raise ValueError(f"choose one of {', '.join(SAMPLERS)}{nearest(value, SAMPLERS)}")
        return value

    @model_validator(mode="after")
    def _fanouts_need_sampling(self) -> TrainSettings:
        if self.fanouts is not None and self.batching != "sampled":
            raise ValueError(f'fanouts are of sampled batches, got fanouts = {self.fanouts} with batching = "full"; set batching = "sampled"')
        if self.history_every is not None and self.batching != "sampled":
            raise ValueError(
                f'history_every is of sampled batches, got history_every = {self.history_every} with batching = "full"; set batching = '
                '"sampled"'
            )
        return self
