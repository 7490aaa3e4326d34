"""What was encoded stays encoded; damage is noticed; encoders never answer for each other."""

from __future__ import annotations

import numpy as np
import pytest

from graphrec.features.cache import VectorCache, digest
from graphrec.features.text import encode_texts
from tests.notes import Notes


class Counting:
    """Encodes a text as its length; stops after `limit` texts, as a killed run would."""

    fitted = False

    def __init__(self, name="counting", limit=10**9):
        self.name, self.limit, self.seen = name, limit, []

    def identity(self):
        return {"name": self.name}

    def encode(self, texts, task=None):
        if len(self.seen) + len(texts) > self.limit:
            raise KeyboardInterrupt
        self.seen += texts
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)


def test_each_distinct_text_is_encoded_once_and_never_again(tmp_path):
    encoder = Counting()
    first = encode_texts(encoder, ["a", "bb", "a", ""], tmp_path)
    assert first.vectors.tolist() == [[1, 1], [2, 1], [1, 1], [0, 0]]
    assert (first.computed, first.cached, encoder.seen) == (2, 0, ["a", "bb"])
    second = encode_texts(encoder, ["bb", "ccc"], tmp_path)
    assert second.vectors.tolist() == [[2, 1], [3, 1]]
    assert (second.computed, second.cached, encoder.seen) == (1, 1, ["a", "bb", "ccc"])


def test_another_identity_never_answers(tmp_path):
    encode_texts(Counting("one"), ["a"], tmp_path)
    other = Counting("two")
    assert encode_texts(other, ["a"], tmp_path).computed == 1


def test_an_interrupted_run_goes_on(tmp_path):
    texts = [f"text {number}" for number in range(5000)]
    with pytest.raises(KeyboardInterrupt):
        encode_texts(Counting(limit=4000), texts, tmp_path)
    again = encode_texts(Counting(), texts, tmp_path)
    assert again.cached == 256 and again.computed == 5000 - 256  # the next part was the rest: at this speed it takes no time
    assert again.vectors[:, 0].tolist() == [len(text) for text in texts]


@pytest.mark.parametrize("how", ["flipped", "truncated"])
def test_damage_is_noticed_and_mended(tmp_path, how):
    encode_texts(Counting(), ["a", "bb"], tmp_path)
    part = next(tmp_path.rglob("*.safetensors"))
    data = bytearray(part.read_bytes())
    if how == "flipped":
        data[-1] ^= 1
    else:
        del data[-5:]
    part.write_bytes(data)
    notes = Notes()
    again = encode_texts(Counting(), ["a", "bb"], tmp_path, notes)
    assert again.computed == 2 and again.vectors.tolist() == [[1, 1], [2, 1]]
    assert any("damaged" in note and str(part) in note for note in notes.lines)


def test_keys_and_vectors_must_be_as_many(tmp_path):
    with pytest.raises(ValueError, match="2 keys need as many vectors, got 1"):
        VectorCache(tmp_path, {}).put([digest("a"), digest("b")], np.zeros((1, 3), np.float32))
