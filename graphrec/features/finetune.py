"""Fit a text encoder to the graph: texts of items that one user has chosen are brought together, by low-rank adapters."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrec.atomic import atomic_folder, check_free
from graphrec.errors import ConfigError, RunError
from graphrec.features.adapters import RECORD, add_adapter, import_peft, save_adapter
from graphrec.features.finetune_pairs import Pairs, PairSource
from graphrec.features.finetune_settings import FinetuneSettings
from graphrec.features.text_transformers import TransformersEncoder, TransformersSettings
from graphrec.features.write import node_texts
from graphrec.progress import SILENT, Reporter
from graphrec.settings import parse

if TYPE_CHECKING:
    from torch import Tensor

    from graphrec.features.settings import TextFeature
    from graphrec.graph.store import GraphStore

_AT_ONCE = 64  # texts of nearly the same length in one pass, so that little is padded


@dataclass
class Finetuned:
    """What a fine-tuning came to.

    Attributes:
        folder: of the adapter.
        pairs, valid_pairs: in a pass, and held out.
        parameters: numbers that were trained.
        losses: validation loss before training and after each pass.
        accuracies: share of the validation pairs whose second item is the nearest of the batch, likewise.
        best_epoch: the pass whose adapter was kept; 0 where none was better than the plain encoder.
        seconds: of training and validation.
    """

    folder: str
    pairs: int
    valid_pairs: int
    parameters: int
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0


def finetune(
    store: GraphStore,
    name: str,
    feature: TextFeature,
    settings: FinetuneSettings | None = None,
    *,
    overwrite: bool = False,
    progress: Reporter = SILENT,
) -> Finetuned:
    """Train the adapter that a text feature of items names, on pairs of items of one training history, and write it.

    For a batch of pairs (i_k, j_k) of users u_k, with v the normalised vectors of the encoder and t the temperature:

        loss = -1/2 mean_k [ log softmax_l(v(i_k) . v(j_l) / t)_k + log softmax_l(v(j_k) . v(i_l) / t)_k ]

    where l leaves out what u_k has in training too. A share of the items is in no training pair; pairs of one of these and
    another item tell when to stop. Nothing of the held-out events is read.

    Args:
        store: the store.
        name: of the feature, for messages.
        feature: its encoder is `transformers`, with `adapter` naming the folder to write.
        settings: see `FinetuneSettings`.
        overwrite: replace an adapter that is there.
        progress: receives steps, loss and the validation of each pass.

    Raises:
        ConfigError: the encoder has no adapter to train, or there are too few pairs, or no layers to adapt were found.
        RunError: the folder cannot be written, or the loss is not finite.
        MissingExtraError: `peft` or `transformers` is not installed.

    Source: the loss is InfoNCE with in-batch negatives (van den Oord et al. 2018, arXiv:1807.03748), symmetric as in Radford et
        al. (2021), CLIP; known positives leave the denominator as in Chuang et al. (2020), here by the training data. LoRA by
        Hu et al. (2021), arXiv:2106.09685.
    """
    import torch

    chosen = settings or FinetuneSettings()
    where = f"[features.item.{name}]"
    encoder_settings, folder = _encoder_settings(feature, where)
    import_peft("fine-tuning a text encoder")  # before anything that takes long
    check_free(folder, RunError, overwrite, RECORD)
    texts, template = node_texts(store, "item", feature, where)
    usable = np.array([bool(text.strip()) for text in texts])
    generator = np.random.default_rng(chosen.seed)
    source = PairSource(store.train_matrix(), usable, chosen.valid_share, generator, chosen.min_pairs)
    valid = source.validation(chosen.valid_pairs)
    start = time.monotonic()
    encoder = TransformersEncoder(encoder_settings)
    identity = encoder.identity()
    devices = [torch.device(encoder.device)] if encoder.device.startswith("cuda") else []
    with torch.random.fork_rng(devices):  # adapters and dropout draw from torch's own stream
        torch.manual_seed(chosen.seed)
        encoder.model = add_adapter(encoder.model, chosen)
        result, best = _train(encoder, texts, source, valid, chosen, progress)
    result.folder, result.seconds = str(folder), round(time.monotonic() - start, 3)
    _load(encoder.model, best)
    record = {
        "encoder": identity,
        "feature": name,
        "template": template,
        "texts_sha256": hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest(),
        "train_sha256": store.manifest.files["splits/train.parquet"].sha256,
        "settings": chosen.model_dump(mode="json"),
        "pairs": result.pairs,
        "valid_losses": result.losses,
        "best_epoch": result.best_epoch,
    }
    with atomic_folder(folder, RunError, overwrite=overwrite, marker=RECORD) as temporary:
        save_adapter(encoder.model, temporary, record)
    return result


def contrastive_loss(first: Tensor, second: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return -mean_k log softmax_l(first_k . second_l / temperature)_k.

    Args:
        first, second: float (n, F), of length one.
        mask: bool (n, n), pairs that are no negatives; the diagonal counts in any case.
        temperature: t.
    """
    import torch

    scores = first @ second.T / temperature
    own = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(mask & ~own, -torch.inf)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def _encoder_settings(feature: TextFeature, where: str) -> tuple[TransformersSettings, Path]:
    """The encoder without its adapter, in full precision, and the folder of the adapter."""
    values = dict(feature.encoder)
    if values.pop("name") != "transformers":
        raise ConfigError(
            f'{where}: only the encoder "transformers" can be fine-tuned, got {feature.encoder["name"]!r}; set encoder = '
            '{name = "transformers", model = ..., adapter = "FOLDER"}'
        )
    folder = values.pop("adapter", None)
    if folder is None:
        raise ConfigError(
            f'{where}: the encoder names no folder for the adapter; set encoder = {{name = "transformers", ..., adapter = '
            '"FOLDER"}'
        )
    return parse(TransformersSettings, {**values, "precision": "fp32"}, f"{where} encoder"), Path(folder).expanduser()


def _train(
    encoder: TransformersEncoder,
    texts: Sequence[str],
    source: PairSource,
    valid: Pairs,
    settings: FinetuneSettings,
    progress: Reporter,
) -> tuple[Finetuned, dict[str, Tensor]]:
    """Train, and return what came of it with the best adapter's tensors."""
    import torch

    parameters = [parameter for parameter in encoder.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    pairs = min(source.per_pass, settings.pairs)
    steps = settings.epochs * max(1, pairs // settings.batch_size)
    result = Finetuned("", pairs, len(valid), sum(parameter.numel() for parameter in parameters))
    best = _validate(encoder, texts, source, valid, settings, result)
    progress.note(f"before training: validation loss {result.losses[0]:.4f}, {result.accuracies[0]:.1%} found first")
    with progress.task("Fine-tuning", total=steps, unit="steps") as task:
        step = 0
        for epoch in range(1, settings.epochs + 1):
            drawn = source.draw(pairs)
            for at in range(max(1, pairs // settings.batch_size)):
                batch = drawn[at * settings.batch_size : (at + 1) * settings.batch_size]
                done = (step + 1) / max(1.0, 0.1 * steps), (steps - step) / (0.9 * steps)
                optimizer.param_groups[0]["lr"] = settings.learning_rate * min(1.0, *done)
                loss = _step(encoder, texts, source, batch, settings, optimizer)
                step += 1
                task.advance()
                task.show(epoch=f"{epoch}/{settings.epochs}", loss=loss)
            lowest = min(result.losses)
            state = _validate(encoder, texts, source, valid, settings, result)
            if result.losses[-1] < lowest:
                best, result.best_epoch = state, epoch
            progress.note(
                f"pass {epoch}: validation loss {result.losses[-1]:.4f} (best {min(result.losses):.4f} after pass "
                f"{result.best_epoch}), {result.accuracies[-1]:.1%} found first"
            )
            if 0 < settings.patience <= epoch - result.best_epoch:
                break
    if result.best_epoch == 0:
        progress.note("no pass was better than the plain encoder: the adapter that is written changes nothing")
    return result, best


def _step(
    encoder: TransformersEncoder,
    texts: Sequence[str],
    source: PairSource,
    batch: Pairs,
    settings: FinetuneSettings,
    optimizer: Any,
) -> float:
    """Make one step and return its loss."""
    import torch

    encoder.model.train()
    loss = _batch_loss(encoder, texts, source, batch, settings.temperature)[0]
    if not torch.isfinite(loss):
        raise RunError(
            f"fine-tuning: the loss became {float(loss.detach())}; lower features.finetune.learning_rate (now "
            f"{settings.learning_rate:g}) or raise its temperature"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
    optimizer.step()
    return float(loss.detach())


def _batch_loss(
    encoder: TransformersEncoder, texts: Sequence[str], source: PairSource, batch: Pairs, temperature: float
) -> tuple[Tensor, Tensor]:
    """The symmetric loss of a batch, and how many of its pairs find the second item first."""
    import torch

    items, places = np.unique(np.concatenate([batch.first, batch.second]), return_inverse=True)
    vectors = _embed(encoder, [texts[item] for item in items])
    first, second = vectors[places[: len(batch)]], vectors[places[len(batch) :]]
    loss, found = 0.0, None
    for left, right, candidates in ((first, second, batch.second), (second, first, batch.first)):
        mask = torch.from_numpy(source.known_positives(batch.users, candidates)).to(left.device)
        loss = loss + contrastive_loss(left, right, mask, temperature) / 2
        if found is None:
            own = torch.eye(len(batch), dtype=torch.bool, device=left.device)
            scores = (left @ right.T).masked_fill(mask & ~own, -torch.inf)
            found = (scores.argmax(1) == torch.arange(len(batch), device=left.device)).sum()
    return loss, found


def _embed(encoder: TransformersEncoder, texts: list[str]) -> Tensor:
    """Normalised vectors (n, F) with their gradient, computed in the order of length."""
    import torch

    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = [
        encoder.vectors([texts[row] for row in order[at : at + _AT_ONCE]]) for at in range(0, len(order), _AT_ONCE)
    ]
    back = torch.empty(len(order), dtype=torch.int64)
    back[torch.tensor(order)] = torch.arange(len(order))
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)[back.to(parts[0].device)]


def _validate(
    encoder: TransformersEncoder,
    texts: Sequence[str],
    source: PairSource,
    valid: Pairs,
    settings: FinetuneSettings,
    result: Finetuned,
) -> dict[str, Tensor]:
    """Add loss and accuracy of the validation pairs to the result, and return a copy of the adapters."""
    import torch

    encoder.model.eval()
    total, hits = 0.0, 0
    with torch.no_grad():
        for at in range(0, len(valid), settings.batch_size):
            batch = valid[at : at + settings.batch_size]
            loss, found = _batch_loss(encoder, texts, source, batch, settings.temperature)
            total, hits = total + float(loss) * len(batch), hits + int(found)
    result.losses.append(round(total / len(valid), 6))
    result.accuracies.append(round(hits / len(valid), 6))
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in encoder.model.named_parameters()
        if parameter.requires_grad
    }


def _load(model: Any, state: dict[str, Tensor]) -> None:
    import torch

    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(value)
