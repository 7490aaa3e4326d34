"""Low-rank adapters of text encoders: made, written with where they come from, and read back onto the model they fit."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphrec.errors import ConfigError, MissingExtraError, RunError, nearest

RECORD = "finetune.json"
_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_FORMAT = 1
# How model families call the projections to queries, keys and values: BERT, Llama and its kin, DistilBERT, T5, ModernBERT, Phi, NeoX, GPT-2.
_PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
    ("Wqkv",),
    ("qkv_proj",),
    ("query_key_value",),
    ("c_attn",),
)


def import_peft(needed_for: str) -> Any:
    """Import `peft`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import peft
    except ImportError:
        raise MissingExtraError("peft", "finetune", needed_for) from None
    return peft


def find_targets(model: Any, wanted: list[str]) -> list[str]:
    """Return the last parts of the names of the linear layers that get adapters.

    Args:
        model: the encoder, a torch module.
        wanted: names to take; empty for the attention projections by their usual names.

    Raises:
        ConfigError: a wanted name is no linear layer of the model, or none of the usual names is.
    """
    linear = {
        name.rpartition(".")[2]: None
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and "." in name
    }
    for name in wanted:
        if name not in linear:
            raise ConfigError(
                f"features.finetune.targets: the model has no linear layer {name!r}; it has {', '.join(linear) or 'none'}"
                f"{nearest(name, linear)}"
            )
    if wanted:
        return list(dict.fromkeys(wanted))
    for family in _PROJECTIONS:
        if all(name in linear for name in family):
            return list(family)
    raise ConfigError(
        f"fine-tuning found no attention projections by their usual names in a {type(model).__name__}; name the layers with "
        f"features.finetune.targets, from {', '.join(linear) or 'none'}"
    )


def add_adapter(model: Any, settings: Any) -> Any:
    """Freeze a model and put new adapters onto its attention projections: W x + (alpha / r) B A x, with B = 0 at the start.

    Args:
        model: the encoder, a torch module.
        settings: `FinetuneSettings`.

    Returns:
        The model with adapters, whose only trainable parameters they are; A is drawn from torch's own generator.

    Raises:
        ConfigError: as in `find_targets`.
        MissingExtraError: `peft` is not installed.

    Source: Hu et al. (2021), LoRA, arXiv:2106.09685, eq. 3.
    """
    peft = import_peft("fine-tuning a text encoder")
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=find_targets(model, settings.targets),
        bias="none",
        task_type="FEATURE_EXTRACTION",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers in a way that it will drop
        return peft.get_peft_model(model, config)


def save_adapter(model: Any, folder: Path, record: Mapping[str, Any]) -> None:
    """Write the adapters of a model into a folder that is there, as `peft` lays it out, and beside them where they come from."""
    model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty form to fill in
    weights = hashlib.sha256((folder / _WEIGHTS).read_bytes()).hexdigest()
    text = json.dumps({"format": _FORMAT, "weights_sha256": weights, **record}, indent=2)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def read_adapter(model: Any, folder: str, encoder: Mapping[str, Any]) -> tuple[Any, str]:
    """Add a folder's adapters to the weights of the model they were made for.

    Args:
        model: the encoder, a torch module.
        folder: what `save_adapter` wrote, or any LoRA adapter in the layout of `peft`.
        encoder: what the encoder is: its identity with pooling, prefix and suffix.

    Returns:
        The model with other weights, as fast as before; and a digest of the adapter, for the encoder's identity.

    Raises:
        ConfigError: there is no adapter, or it is of another model or another way to use it.
        RunError: its files are damaged.
        MissingExtraError: `peft` is not installed.
    """
    path = Path(folder).expanduser()
    if not (path / _CONFIG).is_file() or not (path / _WEIGHTS).is_file():
        raise ConfigError(
            f"adapter: {folder} holds no {_CONFIG} and {_WEIGHTS}; train it with `graphrec features STORE --finetune NAME`, or "
            "leave adapter out"
        )
    peft = import_peft("an encoder with an adapter")
    weights = (path / _WEIGHTS).read_bytes()
    if (path / RECORD).is_file():
        _check_record(path, hashlib.sha256(weights).hexdigest(), encoder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing tensors, which are an error below
            adapted = peft.PeftModel.from_pretrained(model, str(path))
        expected = set(peft.get_peft_model_state_dict(adapted))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as problem:
        first = (str(problem).strip().splitlines() or [repr(problem)])[0]
        raise ConfigError(
            f"adapter: {folder} does not fit the model: {first}; give the model it was trained on"
        ) from None
    found = _tensor_names(path)
    if found != expected:
        raise ConfigError(
            f"adapter: {folder} does not fit the model: {len(found - expected)} of its tensors have no place there and "
            f"{len(expected - found)} are missing; give the model it was trained on"
        )
    config = (path / _CONFIG).read_bytes()
    return adapted.merge_and_unload(), hashlib.sha256(weights + config).hexdigest()


def _check_record(path: Path, weights: str, encoder: Mapping[str, Any]) -> None:
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        trained = dict(record["encoder"])
    except (ValueError, KeyError, TypeError) as problem:
        raise RunError(f"{path / RECORD} is damaged ({problem}); train the adapter again") from None
    if record.get("weights_sha256") != weights:
        raise RunError(f"{path / _WEIGHTS} is not the file that {RECORD} tells of; train the adapter again")
    # A folder and a hub name cannot be compared; what both name can.
    for key in ("files", "commit", "pooling", "prefix", "suffix"):
        if key in trained and key in encoder and trained[key] != encoder[key]:
            raise ConfigError(
                f"adapter: {path} was trained on {trained['model']} with {key} = {_short(trained[key])}, and the encoder is "
                f"{encoder['model']} with {_short(encoder[key])}; give the same model and settings, or train another adapter"
            )


def _short(value: Any) -> str:
    return repr(value if value is None or len(value) <= 16 else value[:12] + "...")


def _tensor_names(path: Path) -> set[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path / _WEIGHTS), framework="pt") as file:
            return set(file.keys())
    except SafetensorError as problem:
        raise RunError(f"{path / _WEIGHTS} is damaged ({problem}); train the adapter again") from None
