"""Any encoder or decoder-only embedding model of the `transformers` library."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from graphrec.errors import ConfigError
from graphrec.features.adapters import read_adapter
from graphrec.features.pretrained import (
    choose_device,
    identify,
    import_transformers,
    load_model,
    load_pretrained,
    part_for,
    quietly,
    read_json,
)
from graphrec.progress import Task
from graphrec.settings import Settings

if TYPE_CHECKING:
    import torch

_POOLINGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "last"}


class TransformersSettings(Settings):
    """Settings of the `transformers` encoder."""

    model: str = Field(default="sentence-transformers/all-MiniLM-L6-v2", min_length=1)
    """A folder, or a name on the model hub."""
    adapter: str | None = None
    """Folder of a low-rank adapter for this model, as `graphrec features STORE --finetune NAME` trains it."""
    pooling: Literal["auto", "mean", "cls", "last"] = "auto"
    """What stands for the text: the mean of its tokens, its first token or its last. "auto": what the model itself says
    (1_Pooling/config.json), else the last token of a decoder-only model and the mean of an encoder."""
    prefix: str = ""
    """Put before every text, as some models want: "passage: ", or an instruction."""
    suffix: str = ""
    """Put behind every text; it stays where the text is cut."""
    max_tokens: int = Field(default=256, ge=8)
    """Longer texts are cut there, and counted; lowered to what the model takes. Memory grows with its square."""
    batch_size: int = Field(default=32, ge=1)
    """Texts at a time, of nearly the same length."""
    normalize: bool = True
    """Scale every vector to length one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """"auto": bf16 on a GPU, fp32 on a CPU."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1", or "auto": the GPU where there is one."""
    download: bool = True
    """Whether a name that is not on this machine may be downloaded."""


class TransformersEncoder:
    """v(text) = pool(last hidden states of prefix + text + suffix), normalised.

    Texts are encoded in the order of their length, so that a batch is padded little. Padding never enters a mean, and the
    last token is the last one that is no padding. Batches are padded on the right, so that positions count from the text's start
    and a text has the same vector alone and in a batch.

    Source: mean pooling by Reimers and Gurevych (2019), Sentence-BERT, arXiv:1908.10084; last-token pooling of decoder-only
    models by Wang et al. (2024), arXiv:2401.00368.

    Raises:
        ConfigError: the model cannot be had, or the adapter is not there or of another model.
        MissingExtraError: `transformers` is not installed, or `peft`, which an adapter needs.
    """

    Settings = TransformersSettings
    fitted = False

    @quietly()
    def __init__(self, settings: TransformersSettings | None = None) -> None:
        import torch

        self.settings = chosen = settings or TransformersSettings()
        transformers = import_transformers("text", "the text encoder transformers")
        self.device = choose_device(chosen.device)
        on_gpu = not self.device.startswith("cpu")
        self.precision = ("bf16" if on_gpu else "fp32") if chosen.precision == "auto" else chosen.precision
        what = "text encoder transformers"
        self._tokenizer = load_pretrained(
            transformers.AutoTokenizer.from_pretrained, chosen.model, chosen.download, what
        )
        model = load_model(transformers.AutoModel, chosen.model, chosen.download, what)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._tokenizer.padding_side = "right"
        self.pooling = _pooling(chosen, model) if chosen.pooling == "auto" else chosen.pooling
        self._identity = identify(chosen.model, model)
        model = part_for("text", model)
        limits = [chosen.max_tokens, int(min(self._tokenizer.model_max_length, 1 << 20))]
        limits.append(getattr(model.config, "max_position_embeddings", None) or chosen.max_tokens)
        self.max_tokens = min(limits)
        self.truncated = 0
        if chosen.suffix and self._length(chosen.prefix + chosen.suffix) > self.max_tokens:
            raise ConfigError(f"{what}: prefix and suffix alone are longer than max_tokens = {self.max_tokens}; shorten them")
        if chosen.adapter is not None:
            model, digest = read_adapter(model, chosen.adapter, self.identity())
            self._identity["adapter"] = digest
        self.model = model.to(device=self.device, dtype=dtype).eval()

    def identity(self) -> dict[str, Any]:
        """Return the model's identity and every setting that changes a vector."""
        chosen = self.settings
        texts = {"prefix": chosen.prefix, "suffix": chosen.suffix, "max_tokens": self.max_tokens}
        numbers = {"pooling": self.pooling, "normalize": chosen.normalize, "precision": self.precision}
        return {"name": "transformers", **self._identity, **texts, **numbers}

    @quietly()
    def encode(self, texts: Sequence[str], task: Task | None = None) -> np.ndarray:
        """Return float32 (n, F); counts in `truncated` the texts that were cut."""
        import torch

        chosen = self.settings
        tokens = self._tokenizer([self._joined(text) for text in texts], truncation=False)["input_ids"]
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int64)
        self.truncated += int((lengths > self.max_tokens).sum())
        order = np.argsort(-lengths, kind="stable")  # the longest first: what does not fit in memory shows at once
        vectors: np.ndarray | None = None
        for start in range(0, len(texts), chosen.batch_size):
            rows = order[start : start + chosen.batch_size]
            with torch.inference_mode():
                pooled = self.vectors([texts[row] for row in rows])
                if chosen.normalize:
                    pooled = torch.nn.functional.normalize(pooled, dim=1)
            if vectors is None:
                vectors = np.empty((len(texts), pooled.shape[1]), dtype=np.float32)
            vectors[rows] = pooled.cpu().numpy()
            if task is not None:
                task.advance(len(rows))
        return np.zeros((0, self.model.config.hidden_size), np.float32) if vectors is None else vectors

    @quietly()
    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the pooled vectors (n, F) of texts in one pass, as long as they come, with their gradient where there is one."""
        batch = self._tokenizer(
            [self._whole(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.device)
        return pool(self.model(**batch).last_hidden_state, batch["attention_mask"], self.pooling)

    def _joined(self, text: str) -> str:
        return f"{self.settings.prefix}{text}{self.settings.suffix}"

    def _length(self, text: str) -> int:
        return len(self._tokenizer(text, truncation=False)["input_ids"])

    def _whole(self, text: str) -> str:
        """The text between prefix and suffix, cut itself where they would not fit behind it."""
        whole = self._joined(text)
        if not self.settings.suffix or self._length(whole) <= self.max_tokens:
            return whole  # without a suffix the tokenizer cuts
        longer = bisect.bisect_right(range(len(text)), self.max_tokens, key=lambda kept: self._length(self._joined(text[:kept])))
        return self._joined(text[: max(longer - 1, 0)])


def pool(hidden: Any, mask: Any, pooling: str) -> Any:
    """Reduce hidden states (B, T, F) to one vector per text, float32 (B, F).

    Args:
        hidden: the last layer's states.
        mask: int64 (B, T), 1 for a token and 0 for padding, which may stand on either side.
        pooling: "mean", "cls" (the first token) or "last".
    """
    import torch

    hidden = hidden.float()
    if pooling == "mean":
        weight = mask.unsqueeze(-1).to(hidden.dtype)  # (B, T, 1)
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
    length = mask.shape[1]
    place = mask.argmax(1) if pooling == "cls" else length - 1 - mask.flip(1).argmax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), place]


def _pooling(settings: TransformersSettings, model: Any) -> str:
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    own = read_json(settings.model, "1_Pooling/config.json", settings.download)  # as sentence-transformers writes it
    if own is not None:
        return next((name for key, name in _POOLINGS.items() if own.get(key)), "mean")
    kind = model.config.model_type
    causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "last" if causal or getattr(model.config, "is_decoder", False) else "mean"
