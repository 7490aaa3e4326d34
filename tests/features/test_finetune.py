"""Fine-tuning a text encoder: it learns which texts go together, on texts it never trained on, and its adapter is its own."""

from __future__ import annotations

import builtins
import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from safetensors.torch import load_file, save_file

from graphrec.errors import ConfigError, MissingExtraError, RunError
from graphrec.features.finetune import finetune
from graphrec.features.finetune_loop import contrastive_loss
from graphrec.features.finetune_pairs import PairSource
from graphrec.features.finetune_settings import FinetuneSettings
from graphrec.features.settings import FeaturesSettings, TextFeature
from graphrec.features.text import make_encoder
from graphrec.features.write import add_features, encode_new
from tests.features.conftest import NUM_ITEMS, tiny

QUICK = FinetuneSettings(
    epochs=4, batch_size=16, min_pairs=50, valid_share=0.25, learning_rate=0.02, temperature=0.1, patience=0
)


def feature(model, adapter, **more):
    spec = {
        "name": "transformers",
        "model": model,
        "device": "cpu",
        "adapter": None if adapter is None else str(adapter),
        **more,
    }
    return TextFeature(columns=["text"], encoder=spec)


@pytest.fixture
def model(tmp_path, minilm):
    return tiny(tmp_path / "bert", minilm)


@pytest.fixture
def trained(store, tmp_path, model):
    return finetune(store, "text", feature(model, tmp_path / "adapter"), QUICK)


def gap(store, text_feature):
    """Mean cosine within a topic less that across topics, over all items of the shop."""
    encoder = make_encoder(text_feature.encoder)
    vectors = encoder.encode(store.table("item")["text"].to_list())
    topic = np.arange(NUM_ITEMS) % 2
    cosines = (vectors @ vectors.T)[np.triu_indices(NUM_ITEMS, 1)]
    same = (topic[:, None] == topic[None])[np.triu_indices(NUM_ITEMS, 1)]
    return cosines[same].mean() - cosines[~same].mean()


def test_it_brings_together_what_users_choose_together(store, tmp_path, model, trained):
    assert (
        trained.losses[trained.best_epoch] == min(trained.losses) < trained.losses[0] - 0.1 and trained.best_epoch > 0
    )
    assert trained.parameters == 3 * 8 * (32 + 32) and trained.pairs > 50
    assert gap(store, feature(model, tmp_path / "adapter")) > gap(store, feature(model, None)) + 0.2


def test_decoders_are_adapted_too(store, tmp_path, minilm):
    decoder = tiny(tmp_path / "llama", minilm, kind="llama")
    found = finetune(store, "text", feature(decoder, tmp_path / "adapter"), QUICK)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {"q_proj", "k_proj", "v_proj"} and found.losses[-1] < found.losses[0]


def test_the_same_seed_gives_the_same_adapter_and_leaves_the_global_stream_alone(store, tmp_path, model):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    settings = QUICK.model_copy(update={"epochs": 1})
    for name in ("one", "two"):
        finetune(store, "text", feature(model, tmp_path / name), settings)
    finetune(store, "text", feature(model, tmp_path / "other"), settings.model_copy(update={"seed": 1}))
    one, two, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two", "other"))
    assert all(torch.equal(one[name], two[name]) for name in one) and any(
        not torch.equal(one[n], other[n]) for n in one
    )
    assert torch.equal(torch.get_rng_state(), before)


def test_the_cache_knows_adapters_apart_and_features_say_which(store, tmp_path, model, trained):
    cache = str(tmp_path / "cache")
    plain = FeaturesSettings(item={"text": feature(model, None)}, cache=cache)
    tuned = FeaturesSettings(item={"text": feature(model, tmp_path / "adapter")}, cache=cache)
    assert add_features(store, plain)[0].computed > 0
    unadapted, provenance = store.feature("item", "text")
    assert "adapter" not in provenance["encoder"]
    assert add_features(store, tuned)[0].computed > 0  # none of the plain encoder's vectors
    adapted, provenance = store.feature("item", "text")
    assert len(provenance["encoder"]["adapter"]) == 64 and not np.allclose(adapted, unadapted, atol=1e-3)
    assert add_features(store, tuned)[0].computed == 0
    assert len(encode_new(store, "item", "text", store.table("item").head(2))) == 2
    finetune(store, "text", feature(model, tmp_path / "adapter"), QUICK.model_copy(update={"seed": 1}), overwrite=True)
    with pytest.raises(ConfigError, match="adapter was trained again after the feature item.text was written"):
        encode_new(store, "item", "text", store.table("item").head(2))
    assert add_features(store, tuned)[0].computed > 0


def test_the_record_says_where_the_adapter_comes_from(store, tmp_path, model, trained):
    record = json.loads((tmp_path / "adapter" / "finetune.json").read_text())
    assert record["encoder"] == make_encoder(feature(model, None).encoder).identity()
    assert record["train_sha256"] == store.manifest.files["splits/train.parquet"].sha256
    assert record["settings"] == QUICK.model_dump() and record["valid_losses"] == trained.losses
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {"adapter_model.safetensors", "adapter_config.json",
                                                                       "finetune.json"}  # fmt: skip


def test_a_fine_tuning_that_does_not_help_changes_nothing(store, tmp_path, model):
    destructive = QUICK.model_copy(update={"learning_rate": 50.0, "epochs": 1, "temperature": 1.0})
    found = finetune(store, "text", feature(model, tmp_path / "adapter"), destructive)
    assert found.best_epoch == 0 and found.losses[1] > found.losses[0]
    texts = store.table("item")["text"].to_list()
    plain, tuned = (
        make_encoder(feature(model, adapter).encoder).encode(texts) for adapter in (None, tmp_path / "adapter")
    )
    assert np.array_equal(plain, tuned)


def test_an_adapter_of_another_model_is_refused(tmp_path, minilm, model, trained):
    for other in (tiny(tmp_path / "same-shape", minilm, seed=1), tiny(tmp_path / "wider", minilm, width=64)):
        with pytest.raises(ConfigError, match="adapter was trained on bert with files = .*give the same model"):
            make_encoder(feature(other, tmp_path / "adapter").encoder)
    with pytest.raises(ConfigError, match="pooling = 'mean', and the encoder is bert with 'cls'"):
        make_encoder(feature(model, tmp_path / "adapter", pooling="cls").encoder)
    (tmp_path / "adapter" / "finetune.json").unlink()  # as an adapter from elsewhere
    with pytest.raises(ConfigError, match="does not fit the model"):
        make_encoder(feature(str(tmp_path / "wider"), tmp_path / "adapter").encoder)
    decoder = tiny(tmp_path / "llama", minilm, kind="llama")
    with pytest.raises(ConfigError, match="does not fit the model"):
        make_encoder(feature(decoder, tmp_path / "adapter").encoder)
    make_encoder(feature(model, tmp_path / "adapter").encoder)


def test_damaged_and_missing_adapters_are_named(tmp_path, model, trained):
    with pytest.raises(ConfigError, match="nowhere holds no adapter_config.json.*--finetune NAME"):
        make_encoder(feature(model, tmp_path / "nowhere").encoder)
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    with pytest.raises(RunError, match="is not the file that finetune.json tells of; train the adapter again"):
        make_encoder(feature(model, tmp_path / "adapter").encoder)


def test_what_cannot_be_trained_says_why(store, tmp_path, model, trained):
    with pytest.raises(ConfigError, match="at least 10,000 pairs.*got 1[0-9][0-9]; .*min_pairs"):
        finetune(store, "text", feature(model, tmp_path / "new"), QUICK.model_copy(update={"min_pairs": 10_000}))
    with pytest.raises(ConfigError, match="no linear layer 'quary'; it has query, .*did you mean 'query'"):
        finetune(store, "text", feature(model, tmp_path / "new"), QUICK.model_copy(update={"targets": ["quary"]}))
    with pytest.raises(ConfigError, match="only the encoder \"transformers\" can be fine-tuned, got 'tfidf'"):
        finetune(store, "text", TextFeature(columns=["text"], encoder="tfidf"), QUICK)
    with pytest.raises(ConfigError, match="names no folder for the adapter"):
        finetune(store, "text", feature(model, None), QUICK)
    with pytest.raises(RunError, match="adapter already exists"):
        finetune(store, "text", feature(model, tmp_path / "adapter"), QUICK)
    assert not (tmp_path / "new").exists()


def test_without_peft_the_extra_is_named(store, tmp_path, model, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "peft":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'graphrec\[finetune\]'"):
        finetune(store, "text", feature(model, tmp_path / "adapter"), QUICK)


def test_pairs_are_of_one_history_and_held_out_items_are_in_none():
    generator = np.random.default_rng(0)
    train = sp.random(40, 30, 0.4, format="csr", random_state=1, dtype=np.float32)
    usable = np.ones(30, bool)
    usable[[3, 7]] = False
    source = PairSource(train, usable, 0.2, generator)
    drawn, valid = source.draw(10_000), source.validation(10_000)
    kept = usable.copy()
    kept[source.held_out] = False
    assert (
        len(drawn)
        == source.per_pass
        == sum(train[user].toarray()[0][kept].astype(bool).sum() // 2 for user in range(40))
    )
    assert len(source.held_out) == 6 and not set(source.held_out) & {3, 7}
    for pairs in (drawn, valid):
        assert np.all(train[pairs.users, pairs.first] > 0) and np.all(train[pairs.users, pairs.second] > 0)
        assert kept[pairs.second].all()
    assert kept[drawn.first].all() and set(valid.first.tolist()) <= set(source.held_out.tolist())
    both = np.concatenate([drawn.users * 30 + drawn.first, drawn.users * 30 + drawn.second])
    assert len(np.unique(both)) == len(both)  # an event is in one pair of a pass
    again = source.draw(10_000)
    assert {*zip(again.users, again.first, strict=True)} != {*zip(drawn.users, drawn.first, strict=True)}
    assert len(source.draw(5)) == 5


def test_the_loss_is_the_softmax_and_leaves_known_positives_out():
    vectors = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    other = vectors.flip(0).contiguous()
    scores = (vectors @ other.T / 0.5).exp()
    none = torch.zeros(3, 3, dtype=torch.bool)
    by_hand = -torch.stack([(scores[k, k] / scores[k].sum()).log() for k in range(3)]).mean()
    torch.testing.assert_close(contrastive_loss(vectors, other, none, 0.5), by_hand)
    mask = none.clone()
    mask[0, 0] = mask[0, 1] = True  # the pair itself counts all the same
    first = -(scores[0, 0] / (scores[0, 0] + scores[0, 2])).log()
    rest = [-(scores[k, k] / scores[k].sum()).log() for k in (1, 2)]
    torch.testing.assert_close(contrastive_loss(vectors, other, mask, 0.5), torch.stack([first, *rest]).mean())
