"""The run file: what `graphrec init` writes, and how wrong ones are refused."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graphrec.cli import app
from graphrec.config import SECTIONS, load_config, parse_config
from graphrec.config_text import field_help, run_file_text
from graphrec.errors import ConfigError
from graphrec.models import MODELS
from graphrec.registry import resolve


def write(folder: Path, text: str) -> Path:
    path = folder / "graphrec.toml"
    path.write_text(text)
    return path


def test_a_fresh_run_file_holds_the_defaults(tmp_path):
    config, defaults = load_config(write(tmp_path, run_file_text())), parse_config({})
    for section in SECTIONS:
        assert getattr(config, section) == getattr(defaults, section)


@pytest.mark.parametrize("model", MODELS)
def test_every_listed_default_is_the_real_one(tmp_path, model):
    """Uncommenting every key that has a value changes nothing, so the file cannot lie about a default."""
    text = re.sub(r"^#(\w+ = \S.*)$", r"\1", run_file_text(model=model), flags=re.MULTILINE)
    assert "\nepochs = 100" in text
    config, defaults = load_config(write(tmp_path, text)), parse_config({"model": {"name": model}})
    for section in SECTIONS:
        assert getattr(config, section) == getattr(defaults, section), section


def test_every_key_of_every_section_is_listed():
    text = run_file_text()
    for section in set(SECTIONS) - {"model"}:
        part = text.split(f"\n[{section}]\n")[1]
        for key in resolve("section", SECTIONS, section).model_fields:
            assert re.search(rf"^#?{key} =|^\[{section}\.{key}\]", part, flags=re.MULTILINE), f"[{section}] {key}"


def test_explanations_come_from_attribute_docstrings_and_from_the_class_docstring():
    from graphrec.models.knn import KNNSettings
    from graphrec.training.settings import TrainSettings

    assert field_help(TrainSettings)["batch_size"] == "Training pairs in a step."
    assert field_help(KNNSettings)["shrinkage"].startswith("in common users (or items)")


def test_init_enters_the_side_tables_beside_the_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.parquet").touch()
    result = CliRunner().invoke(app, ["init", "--log", str(tmp_path / "events.parquet"), "--name", "shop", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["log"]["items"] == str(tmp_path / "items.parquet")
    config = load_config()
    assert config.log.items.path == str(tmp_path / "items.parquet") and config.log.social is None
    assert config.paths.store == "stores/shop"


def test_init_does_not_replace_a_run_file_unless_asked(tmp_path):
    path = write(tmp_path, "mine")
    refused = CliRunner().invoke(app, ["init", str(path)])
    assert refused.exit_code == 1 and "already exists" in refused.stderr and path.read_text() == "mine"
    assert CliRunner().invoke(app, ["init", str(path), "--overwrite"]).exit_code == 0
    assert load_config(path).model.name == "lightgcn"


def test_init_with_an_unknown_model_writes_nothing(tmp_path):
    path = tmp_path / "graphrec.toml"
    result = CliRunner().invoke(app, ["init", str(path), "--model", "lightgnc"])
    assert result.exit_code == 1 and "did you mean 'lightgcn'?" in result.stderr
    assert not path.exists()


def test_without_a_run_file_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config() == parse_config({})


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("[trian]\nepochs = 3", ["[trian]", "unknown section", "did you mean 'train'?"]),
        ("[train]\nepoch = 3", ["[train] epoch", "unknown key", "did you mean 'epochs'?"]),
        ("[train]\nepochs = -3", ["[train] epochs", "greater than or equal to 1", "got -3"]),
        ("[train]\nepochs = 'many'", ["[train] epochs", "valid integer", "got 'many'"]),
        ("[train]\nlearning_rate = nan", ["[train] learning_rate", "finite", "got nan"]),
        ("[build]\nk_core = 2.5", ["[build] k_core", "got 2.5"]),
        ("[build.split]\nmethod = 'tme'", ["[build] split.method", "'time'", "got 'tme'"]),
        ("[model]\nname = 'lightgnc'", ["[model] name", "unknown model 'lightgnc'", "did you mean 'lightgcn'?"]),
        ("[model]\nname = 3", ["[model] name", "unknown model 3"]),
        ("[model]\nname = 'popularity'\nnum_layers = 3", ["[model] num_layers", "unknown key"]),
        ("[evaluate]\nk = [10, 0]", ["[evaluate] k", "at least 1"]),
        ("[evaluate]\nmetrics = ['recal']", ["[evaluate] metrics", "recal"]),
        ("[export]\nformats = ['parkuet']", ["[export] formats", "parkuet", "parquet"]),
        ("[log]\nduplicates = 'drop'", ["[log] duplicates", "'first'", "got 'drop'"]),
        ("train = 3", ["train", "must be a section [train]", "got 3"]),
        ("[train]\nepochs = 3\nepochs = 4\n", ["not valid TOML", "line 3"]),
        ("[train\nepochs = 3", ["not valid TOML", "line 1"]),
        ("[train]\nsampler = uniform", ["not valid TOML", "line 2", "quotes"]),
    ],
)
def test_a_wrong_run_file_is_refused_with_file_key_rule_and_value(tmp_path, text, messages):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    for message in [str(path), *messages]:
        assert message in str(error.value)


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        load_config(write(tmp_path, "[train]\nepochs = 0\nbatch_size = 0\n[export]\nidnex = 'flat'\n[paht]"))
    assert [line.split("] ")[-1].split(":")[0] for line in str(error.value).splitlines()][1:] == [
        "epochs", "batch_size", "idnex"
    ]  # fmt: skip
    assert len(str(error.value).splitlines()) == 4


def test_a_key_of_the_command_line_is_known_by_the_key_and_not_by_the_words_of_the_message(tmp_path):
    path = write(tmp_path, "[train]\nepochs = 0")
    with pytest.raises(ConfigError) as error:
        load_config(path, ["train.a:b=1", "rank.epochs=0", "model.num_layers=many"])
    assert [line.partition(":")[0] for line in str(error.value).splitlines()] == [
        "command line [model] num_layers", f"{path} [train] epochs", "command line [train] a", "command line [rank] epochs"
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=rf"^{path} \[train\] fanouts are of sampled batches"):  # a rule that joins two keys
        load_config(write(tmp_path, "[train]\nfanouts = [5]"), ["train.epochs=1"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no run file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"[log]\npath = '\xff'"), "not UTF-8"),
    ],
)
def test_a_run_file_that_cannot_be_read_says_why(tmp_path, make, message):
    path = tmp_path / "run.toml"
    make(path)
    with pytest.raises(ConfigError, match=message) as error:
        load_config(path)
    assert str(path) in str(error.value)


def test_init_says_where_the_log_is_set_when_it_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["init", "a.toml"])
    assert done.exit_code == 0 and "set path under [log] in a.toml first" in done.stderr
    (tmp_path / "events.csv").touch()
    assert "first" not in CliRunner().invoke(app, ["init", "b.toml", "--log", "events.csv"]).stderr


def test_the_commands_that_are_printed_can_be_typed(tmp_path, monkeypatch):
    """Follow them, from init to evaluate, in a folder whose names have spaces."""
    (tmp_path / "my work").mkdir()
    monkeypatch.chdir(tmp_path)
    pairs = [f"u{user},i{item}" for user in range(9) for item in range(user % 2, 40, 2)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id", *pairs]))

    def follow(command: str) -> str:
        done = CliRunner().invoke(app, shlex.split(command)[1:], env={"COLUMNS": "300"})
        assert done.exit_code == 0, (command, done.output)
        return done.stdout

    arguments = "--log events.csv --model popularity --name 'my shop'"
    build, train = re.search(r"next: (.*), then: (.*)", follow(f"graphrec init 'my work/my run.toml' {arguments}")).groups()
    info = re.search(r"look into it with: (.*)", follow(build))[1]
    assert "Nodes of stores/my shop" in follow(info)
    evaluate = re.search(r"go on with: (.*)", follow(train))[1]
    assert "recall@10" in follow(evaluate)
    shutil.rmtree(tmp_path / "runs" / "my shop" / "model")
    unfinished = CliRunner().invoke(app, ["evaluate", "runs/my shop"])
    assert "--resume --out 'runs/my shop' (or" in unfinished.stderr


def test_what_is_not_there_says_from_which_folder_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.toml").write_text('[paths]\nstore = "stores/shop"\n[log]\npath = "logs/*.csv.gz"\n')
    here = f"(in the folder {tmp_path})"
    for words, message in (
        (("build", "-c", "shop.toml"), f"the glob 'logs/*.csv.gz' matches no file {here}"),
        (("build", "logs/a.csv"), f"no such file or folder: logs/a.csv {here}"),
        (("train", "-c", "shop.toml"), f"there is no graph store at stores/shop {here}"),
        (("train", "-c", "other.toml"), f"there is no run file other.toml {here}"),
        (("evaluate", "runs/x"), f"runs/x holds no run (config.json is missing) {here}"),
        (("export", "runs/x"), f"there is no run folder runs/x {here}"),
    ):
        assert message in CliRunner().invoke(app, words).stderr
    assert str(tmp_path) not in CliRunner().invoke(app, ["train", "/nowhere/x"]).stderr
    assert "start in the folder where graphrec is started" in run_file_text()


def test_evaluate_and_export_take_the_run_of_the_run_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.csv").write_text("user_id,item_id\n" + "".join(f"u{u},i{i}\n" for u in range(9) for i in range(u % 2, 40, 2)))
    common = ('[paths]\nstore = "s"\nrun = "my-run"\nexport = "e"\n[log]\npath = "events.csv"\n[model]\nname = "bpr-mf"\n'
              "[train]\nepochs = 1\n")  # fmt: skip
    (tmp_path / "graphrec.toml").write_text(common)
    (tmp_path / "other.toml").write_text(common.replace("my-run", "elsewhere"))
    for words in (("build",), ("train",), ("evaluate",), ("export",)):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output)
    assert (tmp_path / "my-run" / "evaluation.json").exists() and (tmp_path / "e" / "manifest.json").exists()
    assert "elsewhere" in CliRunner().invoke(app, ["evaluate", "-c", "other.toml"]).stderr


def test_the_run_file_and_the_help_say_what_names_a_feature():
    assert "sections such as [features.item.text]" in run_file_text()
    help_page = CliRunner().invoke(app, ["features", "--help"], env={"COLUMNS": "200"}).stdout
    assert "graphrec features --config graphrec.toml   # what its sections [features.item.NAME]" in help_page
