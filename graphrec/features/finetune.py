"""Fit a text encoder to the graph: texts of items that one user has chosen are brought together, by low-rank adapters."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from graphrec.atomic import atomic_folder, check_free, locked
from graphrec.errors import ConfigError, RunError
from graphrec.features.adapters import RECORD, add_adapter, import_peft, save_adapter
from graphrec.features.finetune_pairs import PairSource
from graphrec.features.finetune_settings import FinetuneSettings
from graphrec.features.pretrained import quietly
from graphrec.features.text_transformers import TransformersEncoder, TransformersSettings
from graphrec.features.write import node_texts
from graphrec.progress import SILENT, Reporter
from graphrec.settings import parse

if TYPE_CHECKING:
    from graphrec.features.finetune_loop import Finetuned
    from graphrec.features.settings import TextFeature
    from graphrec.graph.store import GraphStore

UNFINISHED = ".unfinished"  # after the name of the adapter's folder: the folder of its checkpoint


@quietly()
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

    Until the adapter is written, a checkpoint stands beside its folder, in FOLDER.unfinished: the same call after a process that
    died goes on there, to the same weights bit for bit on CPU. With other texts, training events or settings it begins anew.

    Args:
        store: the store.
        name: of the feature, for messages.
        feature: its encoder is `transformers`, with `adapter` naming the folder to write.
        settings: see `FinetuneSettings`.
        overwrite: replace an adapter that is there.
        progress: receives steps, loss and the validation of each pass.

    Raises:
        ConfigError: the encoder has no adapter to train, or there are too few pairs, or no layers to adapt were found.
        RunError: the folder cannot be written, another process is at it, the checkpoint is damaged, or the loss is not finite.
        MissingExtraError: `peft` or `transformers` is not installed.

    Source: the loss is InfoNCE with in-batch negatives (van den Oord et al. 2018, arXiv:1807.03748), symmetric as in Radford et
        al. (2021), CLIP; known positives leave the denominator as in Chuang et al. (2020), here by the training data. LoRA by
        Hu et al. (2021), arXiv:2106.09685.
    """
    import torch

    from graphrec.features.finetune_loop import FinetuneLoop  # it imports torch

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
    encoder = TransformersEncoder(encoder_settings)
    record = {
        "encoder": encoder.identity(),
        "feature": name,
        "template": template,
        "texts_sha256": hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest(),
        "train_sha256": store.manifest.files["splits/train.parquet"].sha256,
        "settings": chosen.model_dump(mode="json"),
    }
    unfinished = folder.with_name(folder.name + UNFINISHED)
    devices = [torch.device(encoder.device)] if encoder.device.startswith("cuda") else []
    with locked(unfinished / ".lock", RunError, wait=False) as held:
        if not held:
            raise RunError(f"another process is fine-tuning into {folder}; wait for it or name another folder")
        with torch.random.fork_rng(devices):  # adapters and dropout draw from torch's own stream
            torch.manual_seed(chosen.seed)
            encoder.model = add_adapter(encoder.model, chosen)
            loop = FinetuneLoop(encoder, texts, source, valid, chosen, unfinished, record, progress)
            result = loop.run()
        result.folder = str(folder)
        loop.load_best()
        found = {"pairs": result.pairs, "valid_losses": result.losses, "best_epoch": result.best_epoch}
        with atomic_folder(folder, RunError, overwrite=overwrite, marker=RECORD) as temporary:
            save_adapter(encoder.model, temporary, record | found)
        shutil.rmtree(unfinished, ignore_errors=True)
    return result


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
