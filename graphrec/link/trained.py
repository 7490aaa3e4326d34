"""Link predictors that learn by gradient steps: inputs -> encoder -> decoder, full batch, stopped by the validation links."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor, nn
from torch.nn.functional import softplus

from graphrec.errors import ConfigError, RunError, nearest
from graphrec.link import LAYERS
from graphrec.link.base import LinkModel
from graphrec.link.evaluate import evaluate
from graphrec.link.metrics import check_metric
from graphrec.logs.link_graph import LinkGraph
from graphrec.nn.masking import undirected_edges
from graphrec.ops import Relation
from graphrec.progress import Reporter
from graphrec.settings import Settings

_PAIRS_AT_ONCE = 1 << 18
_DECODER = "decoder."  # before the names of the decoder's parameters in a saved predictor


class TrainedLinkSettings(Settings):
    """Settings of every trained link predictor."""

    inputs: Literal["auto", "id", "features", "both"] = "auto"
    """What nodes start from: a learned vector, their features, both side by side, or "auto": features where there are any."""
    embedding_dim: int = Field(default=64, ge=1)
    """Length of the learned input vectors."""
    out_dim: int = Field(default=64, ge=1)
    """D of the encoded vectors."""
    decoder: Literal["dot", "mlp"] = "dot"
    """Logit of a link: <z_u, z_v>, or an MLP with one hidden layer on the product z_u * z_v, coordinate by coordinate."""
    epochs: int = Field(default=300, ge=1)
    """Steps at most; each is one pass over the whole graph."""
    learning_rate: float = Field(default=0.01, gt=0)
    """Adam's rate; 0.01 is the choice of Kipf and Welling 2016."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Adam's L2 penalty on all parameters."""
    max_edges: int = Field(default=65_536, ge=1)
    """Training edges decoded in a step, drawn anew each time where there are more; as many non-edges are drawn."""
    eval_every: int = Field(default=5, ge=1)
    """Steps between two validations."""
    patience: int = Field(default=10, ge=0)
    """Stop after this many validations in a row without a better metric; 0 never stops."""
    metric: str = "auto"
    """The validation metric that picks the weights: "auc", "ap", "mrr", "hits@K", or "auto": the data set's own, else "ap"."""
    device: str = "cpu"
    """Where to train: "cpu" or "cuda"."""

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, value: str) -> str:
        try:
            return value if value == "auto" else check_metric(value)
        except ConfigError as problem:
            raise ValueError(str(problem)) from None


class EncoderSettings(TrainedLinkSettings):
    """Settings of the predictors with a graph encoder."""

    layer: str = "gcn"
    """Kind of the layers; see `graphrec.link.LAYERS`."""
    num_layers: int = Field(default=2, ge=1, le=8)
    """Layers; 2 is the choice of Kipf and Welling 2016."""
    hidden_dim: int = Field(default=64, ge=1)
    """Width between the layers."""
    activation: Literal["auto", "relu", "none"] = "auto"
    """Between the layers; "auto" is "relu", but "none" for those of `graphrec.link.PLAIN_BETWEEN`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the values in front of each layer that training sets to zero."""
    edge_weights: bool = True
    """Whether messages count the weights of the edges, where the graph has them, as in OGB's own GCN for ogbl-collab; the layers
    of `graphrec.link.WITHOUT_WEIGHTS` take none."""

    @field_validator("layer")
    @classmethod
    def _known_layer(cls, value: str) -> str:
        if value not in LAYERS:
            raise ValueError(f"choose one of {', '.join(LAYERS)}{nearest(value, LAYERS)}")
        return value


class NodeInputs(nn.Module):
    """x_v = [features_v, learned vector of v], or one of the two."""

    def __init__(self, graph: LinkGraph, kind: str, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        has = graph.features is not None
        kind = ("features" if has else "id") if kind == "auto" else kind
        if kind != "id" and not has:
            raise ConfigError(f'inputs = "{kind}" needs node features, and {graph.source} has none; set inputs = "id"')
        self.register_buffer("features", torch.from_numpy(graph.features) if kind != "id" else None, persistent=False)
        self.table = None
        if kind != "features":
            self.table = nn.Parameter(torch.empty(graph.num_nodes, dim))
            nn.init.normal_(self.table, std=0.1, generator=generator)
        self.out_dim = (0 if self.table is None else dim) + (0 if kind == "id" else graph.features.shape[1])

    def forward(self) -> Tensor:
        """Return (N, out_dim)."""
        return torch.cat([part for part in (self.features, self.table) if part is not None], dim=1)


class Decoder(nn.Module):
    """Logits of pairs from their vectors, the same for (u, v) and (v, u)."""

    def __init__(self, kind: str, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.mlp = small_mlp(dim, dim, generator) if kind == "mlp" else None

    def forward(self, z: Tensor, pairs: Tensor) -> Tensor:
        """Score pairs int64 (n, 2) of rows of z (N, D): (n,)."""
        product = z.index_select(0, pairs[:, 0]) * z.index_select(0, pairs[:, 1])  # its gradient is faster than z[...]
        return product.sum(-1) if self.mlp is None else self.mlp(product).squeeze(-1)


def small_mlp(in_dim: int, hidden_dim: int, generator: torch.Generator) -> nn.Sequential:
    """One hidden layer, one number out."""
    first, last = (nn.utils.skip_init(nn.Linear, *dims) for dims in ((in_dim, hidden_dim), (hidden_dim, 1)))
    mlp = nn.Sequential(first, nn.ReLU(), last)  # without torch's own start, which draws from the global stream
    for layer in (first, last):
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return mlp


class TrainedLinkModel(LinkModel):
    """Minimises the balanced cross-entropy of training edges against random non-edges, encoding the whole graph in each step.

    L = 1/2 mean over edges of softplus(-s) + 1/2 mean over non-edges of softplus(s), plus what a subclass adds.

    Messages pass over the training edges in both directions, and only there do weights of edges count. The weights of the best validation are kept. Decoders are
    symmetric, so a directed graph is learned as if undirected and only its non-edges tell directions apart.
    """

    Settings = TrainedLinkSettings

    def _fit(self, graph: LinkGraph, seed: int, progress: Reporter) -> None:
        at, generator = self.settings, torch.Generator().manual_seed(seed)
        device = torch.device(at.device)
        self._relation = self._relation_of(graph).to(device)
        self._edges, _ = undirected_edges(self._relation)
        self._keys = self._edges[:, 0] * graph.num_nodes + self._edges[:, 1]  # ascending
        inputs = NodeInputs(graph, at.inputs, at.embedding_dim, generator)
        modules = self._modules(inputs.out_dim, generator)
        decoder = Decoder(at.decoder, at.out_dim, generator)
        self.network = nn.ModuleDict({"inputs": inputs, **modules, "decoder": decoder}).to(device)
        self.metric = (graph.metric or "ap") if at.metric == "auto" else at.metric
        self.history: list[dict[str, float]] = []
        gpus = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(gpus), progress.task(f"Training {self.name}", total=at.epochs, unit="epochs") as task:
            self._train(graph, seed, task)

    def _relation_of(self, graph: LinkGraph) -> Relation:
        """The training edges in both directions, with their weights where these count."""
        weight = None
        if self.weighs(graph):
            weight = np.concatenate([graph.weight, graph.weight])
            if not (np.isfinite(weight).all() and weight.min() >= 0):
                rule = f"{graph.source}: weights of edges must be finite and at least 0, got {weight.min():g}..{weight.max():g}"
                raise ConfigError(f"{rule}; correct them, or set edge_weights = false")
        both = np.concatenate([graph.train, graph.train[:, ::-1]])
        return Relation.from_coo(both[:, 0], both[:, 1], graph.num_nodes, graph.num_nodes, weight)

    @torch.inference_mode()
    def _score(self, pairs: np.ndarray) -> np.ndarray:
        blocks = torch.from_numpy(np.ascontiguousarray(pairs)).to(self._z.device).split(_PAIRS_AT_ONCE)
        return torch.cat([self._decoder(self._z, block) for block in blocks]).float().cpu().numpy()

    def embeddings(self) -> np.ndarray:
        """Return a copy of float32 (N, D), what the decoder scores.

        Raises:
            RunError: the model has not been fitted or loaded yet.
        """
        _ = self.known
        return self._z.cpu().numpy().copy()

    def _modules(self, in_dim: int, generator: torch.Generator) -> dict[str, nn.Module]:
        """The parts between inputs and decoder, by name; `_encode` and `_loss` use them."""
        return {}

    @abstractmethod
    def _encode(self, relation: Relation, x: Tensor) -> Tensor:
        """Vectors (N, D) of all nodes."""

    def _loss(self, step: int) -> Tensor:
        """The loss of one step, a scalar."""
        z = self._encode(self._relation, self.network["inputs"]())
        positives = self._edges
        if len(positives) > self.settings.max_edges:
            positives = positives[torch.randint(len(positives), (self.settings.max_edges,), device=positives.device)]
        return self._reconstruction(z, positives)

    def _reconstruction(self, z: Tensor, positives: Tensor) -> Tensor:
        decoder = self.network["decoder"]
        parts = [softplus(-decoder(z, positives)), softplus(decoder(z, self._non_edges(len(positives))))]
        return sum(part.mean() for part in parts if part.numel()) / 2

    def _non_edges(self, count: int) -> Tensor:
        """Random pairs int64 (n, 2), n at most `count`: those drawn that are training edges or loops are left out."""
        drawn = torch.randint(self._relation.num_dst, (count, 2), device=self._keys.device).sort(dim=1).values
        keys = drawn[:, 0] * self._relation.num_dst + drawn[:, 1]
        place = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
        return drawn[(self._keys[place] != keys) & (drawn[:, 0] != drawn[:, 1])]

    def _train(self, graph: LinkGraph, seed: int, task: Any) -> None:
        at = self.settings
        optimizer = torch.optim.Adam(self.network.parameters(), lr=at.learning_rate, weight_decay=at.weight_decay)
        best, state, bad = -math.inf, None, 0
        for step in range(at.epochs):
            torch.manual_seed(seed * 1_000_003 + step)
            self.network.train()
            optimizer.zero_grad(set_to_none=True)
            loss = self._loss(step)
            if not torch.isfinite(loss):
                raise RunError(
                    f"the loss of {self.name} became {float(loss.detach())} at step {step + 1}; lower learning_rate (now "
                    f"{at.learning_rate:g})"
                )
            loss.backward()
            optimizer.step()
            task.advance()
            if (step + 1) % at.eval_every and step + 1 < at.epochs:
                continue
            self._finish()
            value = evaluate(self, graph, "valid", [self.metric])[self.metric]
            self.history.append({"step": step + 1, "loss": float(loss.detach()), self.metric: value})
            task.show(loss=float(loss.detach()), **{f"valid {self.metric}": value})
            if value > best:
                best, bad, self.best_step = value, 0, step + 1
                state = {key: tensor.detach().clone() for key, tensor in self.network.state_dict().items()}
            else:
                bad += 1
            if 0 < at.patience <= bad:
                break
        self.best_value = best
        self.network.load_state_dict(state)
        self._finish()

    @torch.no_grad()
    def _finish(self) -> None:
        self.network.eval()
        self._z = self._encode(self._relation, self.network["inputs"]()).clone()
        self._decoder = self.network["decoder"]

    def _state(self) -> dict[str, Tensor]:
        return {"z": self._z, **{_DECODER + name: value for name, value in self._decoder.state_dict().items()}}

    def _restore(self, state: dict[str, Tensor]) -> None:
        # Copied, for tensors of a file lie at odd addresses, and there sums may be rounded otherwise than after training.
        self._z = state["z"].clone()
        if self._z.shape != (self.known.num_nodes, self.settings.out_dim):
            raise ValueError(f"z has shape {tuple(self._z.shape)}, not ({self.known.num_nodes}, {self.settings.out_dim})")
        self._decoder = Decoder(self.settings.decoder, self.settings.out_dim, torch.Generator())
        own = {k.removeprefix(_DECODER): v.clone() for k, v in state.items() if k.startswith(_DECODER)}
        self._decoder.load_state_dict(own)
        self._decoder.eval()
