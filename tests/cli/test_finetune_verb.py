"""`graphrec features --finetune`: trains the adapter that the run file names, then writes features with it."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.features.write import encode_new
from graphrec.graph.store import GraphStore
from tests.features.conftest import minilm_folder, shop, tiny

RUN_FILE = """
[paths]
store = "{0}/shop"
[features]
cache = "{0}/cache"
[features.item.text]
columns = ["text"]
encoder = {{name = "transformers", model = "{0}/bert", device = "cpu", adapter = "{0}/adapter"}}
[features.finetune]
epochs = 1
batch_size = 16
min_pairs = 50
valid_share = 0.25
"""


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_an_adapter_is_trained_and_the_features_are_made_with_it(tmp_path):
    shop(tmp_path / "shop")
    tiny(tmp_path / "bert", minilm_folder())
    (tmp_path / "graphrec.toml").write_text(RUN_FILE.format(tmp_path))
    verb = ("features", "--config", tmp_path / "graphrec.toml")
    early = run(*verb)
    assert early.exit_code == 1 and "train it with `graphrec features STORE --finetune NAME`" in early.output
    wrong = run(*verb, "--finetune", "texts")
    assert wrong.exit_code == 1 and "did you mean 'text'" in wrong.output
    done = run(*verb, "--finetune", "text", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["finetuned"]["pairs"] > 50 and len(answer["finetuned"]["losses"]) == 2
    assert [row["feature"] for row in answer["features"]] == ["item.text", "item-new.text"]
    store = GraphStore.open(tmp_path / "shop")
    assert len(store.feature("item", "text")[1]["encoder"]["adapter"]) == 64
    made = encode_new(store, "item", "text", store.table("item").head(1))
    assert abs(made[0] - store.feature("item", "text")[0][0]).max() < 1e-5  # new items go through the adapter too
    again = run(*verb, "--finetune", "text")
    assert again.exit_code == 1 and "already exists" in again.output
    assert run(*verb, "--finetune", "text", "--overwrite").exit_code == 0
