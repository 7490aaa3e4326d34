"""Image and sound files through tiny random models: same file same vector, missing file no vector, bad file a clear error."""

from __future__ import annotations

import wave

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from graphrec.errors import ConfigError
from graphrec.features.settings import FeaturesSettings
from graphrec.features.write import add_features
from graphrec.graph.build import build
from graphrec.graph.sides import NEW_ITEMS
from graphrec.logs.table import InteractionLog
from graphrec.settings import parse

FILES = ("red", "red", "blue", None)


@pytest.fixture
def vision(tmp_path) -> str:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    size = {
        "image_size": 16,
        "patch_size": 8,
        "hidden_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    folder = tmp_path / "vit"
    ViTModel(ViTConfig(**size), add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}, "do_resize": true, "do_rescale": true}'
    )
    return str(folder)


@pytest.fixture
def hearing(tmp_path) -> str:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,),
                            conv_stride=(160,), conv_kernel=(320,), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2)  # fmt: skip
    folder = tmp_path / "wav2vec"
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(sampling_rate=16000).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def store(tmp_path):
    """Four items with a file name each; the last has none, and one more is new."""
    for colour in ("red", "blue"):
        Image.new("RGB", (20, 20), colour).save(tmp_path / f"{colour}.png")
        pitch = 440 if colour == "red" else 1760
        samples = (8000 * np.sin(np.arange(16000) * 2 * np.pi * pitch / 16000)).astype("<i2")
        with wave.open(str(tmp_path / f"{colour}.wav"), "wb") as sound:
            sound.setparams((1, 2, 16000, 0, "NONE", ""))
            sound.writeframes(samples.tobytes())
    rows = [(user, item, "test" if item == user else "train") for user in range(4) for item in range(4)]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "split"], orient="row").with_columns(
        behavior=pl.lit("interaction"), timestamp=pl.lit(None, pl.Datetime("us", "UTC")), weight=pl.lit(1.0, pl.Float32)
    )
    names = [*FILES, "blue"]
    items = pl.DataFrame(
        {
            "item_id": range(5),
            "picture": [name and f"{name}.png" for name in names],
            "sound": [name and f"{name}.wav" for name in names],
        }
    )
    return build(InteractionLog(events.lazy(), items=items), tmp_path / "store", split="given")


def add(store, tmp_path, column, encoder):
    values = {
        "cache": str(tmp_path / "cache"),
        "media": {"look": {"column": column, "folder": str(tmp_path), "encoder": encoder}},
    }
    return add_features(store, parse(FeaturesSettings, values, "[features]"))


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_files_become_vectors_and_no_file_none(store, tmp_path, kind, request):
    model = request.getfixturevalue("vision" if kind == "image" else "hearing")
    column = {"image": "picture", "audio": "sound"}[kind]
    first = add(store, tmp_path, column, {"name": kind, "model": model})
    array, provenance = store.feature("item", "look")
    assert array.shape == (4, 12) and np.array_equal(array[0], array[1]) and not array[3].any()
    assert not np.allclose(array[0], array[2], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(array[:3], axis=1), 1, rtol=1e-5)
    assert provenance["rows_zero"] == 1 and provenance["encoder"]["name"] == kind
    np.testing.assert_allclose(store.feature(NEW_ITEMS, "look")[0][0], array[2], atol=1e-6)
    assert [one.computed for one in first] == [2, 0]
    assert [one.computed for one in add(store, tmp_path, column, {"name": kind, "model": model})] == [0, 0]


def test_of_models_with_two_sides_the_one_that_reads_the_files_is_used(store, tmp_path):
    import transformers

    torch.manual_seed(0)
    small = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {**small, "image_size": 16, "patch_size": 8}
    clip = transformers.CLIPConfig(text_config={**small, "vocab_size": 40}, vision_config=vision, projection_dim=6)
    transformers.CLIPModel(clip).save_pretrained(tmp_path / "clip")
    resnet = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(resnet).save_pretrained(tmp_path / "resnet")
    for name in ("clip", "resnet"):
        (tmp_path / name / "preprocessor_config.json").write_text(
            '{"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16}}'
        )
        add(store, tmp_path, "picture", {"name": "image", "model": str(tmp_path / name)})
        array, _ = store.feature("item", "look")
        assert array.shape == (4, 12) and np.array_equal(array[0], array[1]) and not np.allclose(array[0], array[2])
    whisper = transformers.WhisperConfig(
        d_model=12, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, vocab_size=40, num_mel_bins=8, max_source_positions=50, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    transformers.WhisperModel(whisper).save_pretrained(tmp_path / "whisper")
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(tmp_path / "whisper")
    add(store, tmp_path, "sound", {"name": "audio", "model": str(tmp_path / "whisper")})
    assert store.feature("item", "look")[0].shape == (4, 12)


def test_a_model_of_another_kind_is_refused(store, tmp_path, vision):
    import transformers

    config = transformers.BertConfig(hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=40)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')
    with pytest.raises(ConfigError, match="makes no vectors of image files"):
        add(store, tmp_path, "picture", {"name": "image", "model": str(tmp_path / "bert")})


def test_what_cannot_be_read_is_named(store, tmp_path, vision, hearing):
    (tmp_path / "blue.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"blue.png: cannot read it as an image"):
        add(store, tmp_path, "picture", {"name": "image", "model": vision})
    (tmp_path / "blue.png").unlink()
    with pytest.raises(ConfigError, match=r"blue.png: cannot read it"):
        add(store, tmp_path, "picture", {"name": "image", "model": vision})
    with wave.open(str(tmp_path / "red.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\0" * 100)
    with pytest.raises(ConfigError, match=r"takes 16-bit WAV of 16000 samples a second, got 16-bit of 8000"):
        add(store, tmp_path, "sound", {"name": "audio", "model": hearing})
    with pytest.raises(ConfigError, match=r"no column 'pictures'; did you mean 'picture'"):
        add(store, tmp_path, "pictures", {"name": "image", "model": vision})
