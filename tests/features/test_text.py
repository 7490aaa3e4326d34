"""Text encoders: near texts are near, pooling never sees padding, and a model that cannot be had says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from sklearn.feature_extraction.text import TfidfVectorizer

from graphrec.errors import ConfigError
from graphrec.features import TEXT_ENCODERS
from graphrec.features.keywords import keywords
from graphrec.features.text import encode_texts, make_encoder, parse_encoder
from graphrec.features.text_tfidf import Tfidf, TfidfSettings
from graphrec.features.text_transformers import pool

PETS = [
    "a kitten and a cat purring",
    "the cat with a kitten",
    "bonds and shares fell on the exchange",
    "shares rose on the exchange",
]


@pytest.fixture(params=list(TEXT_ENCODERS))
def spec(request, minilm, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return {
        "transformers": {"name": "transformers", "model": minilm},
        "tfidf": {"name": "tfidf", "max_share": 1.0},
    }.get(request.param, {"name": request.param})


@pytest.fixture
def talkative():
    """transformers that say everything, and how they are afterwards."""
    logging = transformers.utils.logging
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_info()
    logging.enable_progress_bar()
    yield lambda: (logging.get_verbosity(), logging.is_progress_bar_enabled())
    logging.set_verbosity(before[0])
    logging.enable_progress_bar() if before[1] else logging.disable_progress_bar()


def test_transformers_say_nothing_meanwhile_and_are_left_as_they_were(talkative, minilm, monkeypatch, capfd):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    loud = talkative()
    encoder = make_encoder({"name": "transformers", "model": minilm, "max_tokens": 16})
    assert talkative() == loud
    monkeypatch.setattr(encoder._tokenizer, "model_max_length", 8)  # a longer text is what a tokenizer warns of
    monkeypatch.setattr("graphrec.features.text_transformers.pool", lambda *parts: seen.append(talkative()) or pool(*parts))
    seen: list = []
    encoder.encode([PETS[0] * 20])
    assert talkative() == loud and seen == [(transformers.logging.ERROR, False)]
    with pytest.raises(ConfigError):
        make_encoder({"name": "transformers", "model": "/nowhere"})
    assert talkative() == loud
    assert capfd.readouterr() == ("", "")


def test_near_texts_are_near_and_a_batch_equals_its_singles(spec):
    encoder = make_encoder(spec)
    if encoder.fitted:
        encoder.fit(PETS)
    vectors = encoder.encode(PETS)
    assert vectors.dtype == np.float32 and len(vectors) == 4
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.2 and near[2, 3] > near[1, 3] + 0.2
    np.testing.assert_allclose(np.concatenate([encoder.encode([text]) for text in PETS]), vectors, atol=1e-5)
    assert np.array_equal(encode_texts(encoder, ["", PETS[0]]).vectors[0], np.zeros(vectors.shape[1]))


def test_same_texts_same_vectors():
    twice = [make_encoder("tfidf").fit(PETS * 2).encode(PETS) for _ in range(2)]
    assert np.array_equal(*twice)


def test_tfidf_weights_are_those_of_scikit_learn():
    texts = ["red fish blue fish", "one fish two fish", "red sky", "green eggs and sky"]
    oracle = TfidfVectorizer(sublinear_tf=True, min_df=1, token_pattern=r"[a-z]{2,}").fit(texts)
    ours = Tfidf(texts, TfidfSettings(min_texts=1, max_share=1.0))
    assert ours.words.tolist() == oracle.get_feature_names_out().tolist()
    np.testing.assert_allclose(ours.matrix(texts).toarray(), oracle.transform(texts).toarray(), rtol=1e-5)


def test_pooling_ignores_padding_on_either_side():
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    right, left = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert pool(hidden, right, "mean")[0].tolist() == hidden[0, :2].mean(0).tolist()
    assert pool(hidden, right, "cls")[0].tolist() == hidden[0, 0].tolist()
    assert pool(hidden, left, "cls")[0].tolist() == hidden[0, 2].tolist()
    assert pool(hidden, right, "last")[0].tolist() == hidden[0, 1].tolist()
    assert pool(hidden, left, "last")[:, 0].tolist() == [9, 21]


def test_a_decoder_takes_its_last_token_and_counts_what_it_cuts(tmp_path, minilm):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
                         vocab_size=30522, max_position_embeddings=64)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    encoder = make_encoder({"name": "transformers", "model": str(tmp_path), "max_tokens": 16, "prefix": "query: "})
    assert encoder.pooling == "last" and encoder.max_tokens == 16
    vectors = encoder.encode(["short", "many words " * 30, "short"])
    assert encoder.truncated == 1 and vectors.shape == (3, 16)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-6)
    other = make_encoder({"name": "transformers", "model": str(tmp_path), "max_tokens": 16})
    assert other.identity() != encoder.identity()
    assert not np.allclose(other.encode(["short"]), vectors[:1])


def tiny(kind, folder, minilm, **tokenizer):
    """A model of random weights with the words of MiniLM, whose folder says nothing of pooling."""
    import transformers

    torch.manual_seed(0)
    sizes = {
        "GPT2Model": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
        "LlamaModel": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "num_key_value_heads": 2, "max_position_embeddings": 64},
        "BertModel": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        "T5Model": {"d_model": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2, "d_kv": 8},
    }  # fmt: skip
    model = getattr(transformers, kind)
    model(model.config_class(vocab_size=30522, pad_token_id=0, **sizes[kind])).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(minilm, **tokenizer).save_pretrained(folder)
    return {"name": "transformers", "model": str(folder)}


@pytest.mark.parametrize(("kind", "pooling"), [("GPT2Model", "last"), ("LlamaModel", "last"), ("BertModel", "mean"), ("T5Model", "mean")])
def test_pooling_goes_by_the_kind_of_model_or_by_what_it_says(tmp_path, minilm, kind, pooling):
    spec = tiny(kind, tmp_path, minilm)
    assert make_encoder(spec).pooling == pooling and make_encoder(spec).encode(PETS).shape == (4, 16)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert make_encoder(spec).pooling == "cls"


def test_what_the_hub_says_of_pooling_counts_for_a_name(tmp_path, minilm, monkeypatch):
    spec = tiny("BertModel", tmp_path / "model", minilm)
    said = tmp_path / "config.json"
    said.write_text('{"pooling_mode_cls_token": true}')

    def load(auto):
        return lambda name, **options: auto(str(tmp_path / "model"), **{**options, "local_files_only": True})

    import transformers

    for auto in (transformers.AutoTokenizer, transformers.AutoModel):
        monkeypatch.setattr(auto, "from_pretrained", load(auto.from_pretrained))
    monkeypatch.setattr("transformers.utils.cached_file", lambda name, file, **options: str(said) if name == "some/name" else None)
    assert make_encoder({**spec, "model": "some/name"}).pooling == "cls"
    assert make_encoder({**spec, "model": "other/name"}).pooling == "mean"


@pytest.mark.parametrize("pooling", ["last", "mean", "cls"])
def test_a_tokenizer_that_pads_on_the_left_changes_no_vector(tmp_path, minilm, pooling):
    encoder = make_encoder({**tiny("GPT2Model", tmp_path, minilm, padding_side="left"), "pooling": pooling})
    texts = ["short", "a much longer text about cats and dogs", "two words"]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-5)


def test_the_suffix_stays_where_a_text_is_cut(tmp_path, minilm):
    spec = {**tiny("GPT2Model", tmp_path, minilm), "max_tokens": 16, "prefix": "query: "}
    long = "many words " * 30
    one, other = (make_encoder({**spec, "suffix": suffix}) for suffix in (" end", " other"))
    assert not np.allclose(one.encode([long]), other.encode([long]))
    assert one.truncated == 1
    whole = one._tokenizer(one._whole(long))["input_ids"]
    assert len(whole) <= 16 and one._tokenizer.decode(whole[-2:-1]) == "end" and one._whole("short") == "query: short end"
    with pytest.raises(ConfigError, match="prefix and suffix alone are longer than max_tokens = 8"):
        make_encoder({**spec, "max_tokens": 8, "suffix": long})


def test_a_device_that_is_not_there_is_named(minilm):
    with pytest.raises(ConfigError, match="the device 'nonsense' is not there"):
        make_encoder({"name": "transformers", "model": minilm, "device": "nonsense"})


def test_weights_that_are_not_all_there_are_refused(tmp_path, minilm):
    from safetensors.torch import load_file, save_file
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(minilm).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(minilm).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.3.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="lack 1 of the model's tensors, the first is encoder.layer.3.output"):
        make_encoder({"name": "transformers", "model": str(tmp_path)})


@pytest.mark.parametrize(("model", "said"), [("no/such-model", "not on this machine.*hf download no/such-model.*wordllama"),
                                             ("./nowhere", "there is no folder ./nowhere")])  # fmt: skip
def test_a_model_that_cannot_be_had_says_what_to_do(model, said, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=said):
        make_encoder({"name": "transformers", "model": model})


def test_names_and_settings_are_checked():
    assert parse_encoder("tfidf", "here")["dim"] == 128
    with pytest.raises(ConfigError, match="here: unknown text encoder 'wordlama'.*did you mean 'wordllama'"):
        parse_encoder("wordlama", "here")
    with pytest.raises(ConfigError, match="here wordllama dim: .*got 100"):
        parse_encoder({"name": "wordllama", "dim": 100}, "here")


def test_keywords_are_what_sets_a_text_apart():
    texts = [
        "the cat sat with the cat and the dog",
        "the dog ran with a cat",
        "the dog and the fish and the fish",
        "a fish ran",
    ]
    found = keywords(texts, 2)
    assert found[0][0] == "cat" and found[2][0] == "fish"  # said twice there
    assert "the" not in {word for each in keywords(texts, 9) for word in each}
    assert all(len(each) <= 2 for each in found)
