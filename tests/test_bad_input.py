"""Every bad input that a user can give: one readable message that names it and the mend, a failure, nothing half-written.

All cases go through the command line in this process, as a user meets them.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from graphrec.atomic import atomic_folder
from graphrec.cli import app

HEADER = "user_id,item_id,timestamp\n"
START = 1_600_000_000


def rows(num_users: int = 24, num_items: int = 24, each: int = 5) -> list[str]:
    """User u takes the items u, u+1, ..., an hour apart."""
    return [
        f"u{user},i{(user + step) % num_items},{START + 3600 * (user + 10 * step)}"
        for user in range(num_users)
        for step in range(each)
    ]


GOOD = HEADER + "\n".join(rows()) + "\n"


def graphrec(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    """Check that the command failed with one readable message that holds `words`."""
    message = result.stderr
    assert result.exit_code in (1, 2), (result.exit_code, result.stdout, message)
    assert "Traceback" not in result.output
    assert "unexpected error" not in message, message
    assert len(message.strip().splitlines()) <= 12, message
    for word in words:
        assert word.lower() in message.lower(), f"{word!r} is not in: {message}"


def done(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def left_in(folder: Path) -> list[str]:
    """What stands in a folder, half-written things included."""
    return sorted(os.listdir(folder)) if folder.is_dir() else []


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with a good log, a store, and a popularity and a lightgcn run. Tests copy what they damage."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "events.csv").write_text(GOOD)
    done(graphrec("build", folder / "events.csv", "--out", folder / "store", "--quiet"))
    for model in ("popularity", "lightgcn"):
        done(
            graphrec(
                "train",
                folder / "store",
                "--out",
                folder / model,
                "--model",
                model,
                "--set",
                "train.epochs=1",
                "--quiet",
            )
        )
    return folder


@dataclass(frozen=True)
class BadLog:
    """A log (text or bytes, None: no file), more lines for `[log]` and `[build]`, and what the message must name."""

    content: str | bytes | None
    words: tuple[str, ...]
    log: str = ""
    build: str = ""
    file: str = "events.csv"


def changed(column: int, value: str, every: int = 2) -> str:
    """The good log with `value` in one column of every second row."""
    lines = [line.split(",") for line in rows()]
    for line in lines[::every]:
        line[column] = value
    return HEADER + "\n".join(",".join(line) for line in lines) + "\n"


WEIGHTED = "user_id,item_id,timestamp,weight\n"
BAD_LOGS = {
    "missing file": BadLog(None, ("events.csv",)),
    "missing glob": BadLog(None, ("part-*.csv",), file="part-*.csv"),
    "empty file": BadLog("", ("events.csv", "empty")),
    "only a header": BadLog(HEADER, ("events.csv", "no events")),
    "missing column": BadLog("user_id,when\nu1,5\n", ("events.csv", "item_id", "when")),
    "mapped column missing": BadLog(GOOD, ("customer", "user_id"), log="columns = {user_id = 'customer'}"),
    "duplicate columns": BadLog("user_id,item_id,item_id\nu1,i1,i2\n", ("events.csv", "item_id")),
    "one column for two": BadLog(
        GOOD, ("user_id", "item_id"), log="columns = {user_id = 'item_id', item_id = 'item_id'}"
    ),
    "all rows rejected": BadLog(HEADER + ",i1,1\n,i2,2\n", ("missing user_id", "events.csv")),
    "too many rows rejected": BadLog(changed(0, "", every=4), ("missing user_id", "max_bad_share", "rejected")),
    "ids of mixed types": BadLog(
        changed(0, "7", every=1).replace("7,", "x,", 3), ("user_id is no integer",), log="id_type = 'integer'"
    ),
    "not utf-8": BadLog(GOOD.replace("u1", "Zoë").encode("latin-1"), ("events.csv", "encoding")),
    "times in the future": BadLog(changed(2, "9000000000"), ("future",)),
    "times in mixed units": BadLog(changed(2, f"{START}000", every=3), ("another unit",)),
    "times that are words": BadLog(changed(2, "yesterday", every=1), ("timestamp",)),
    "weights that are not numbers": BadLog(
        WEIGHTED + "\n".join(f"{row},{'nan' if n % 2 else 'inf'}" for n, row in enumerate(rows())), ("weight",)
    ),
    "parquet that is none": BadLog("this is not parquet", ("events.parquet",), file="events.parquet"),
    "truncated gzip": BadLog(b"\x1f\x8b\x08\x00\x00\x00", ("events.csv.gz",), file="events.csv.gz"),
    "broken json lines": BadLog('{"user_id": 1, "item_id"\n', ("events.jsonl",), file="events.jsonl"),
    "unknown format": BadLog(GOOD, ("csvv", "delimited"), log="format = 'csvv'"),
    "split leaves no test": BadLog(
        HEADER + "".join(f"u{n},i{n % 3},{START + n}\n" for n in range(9)),
        ("test",),
        build="split = {method = 'leave_last_out'}",
    ),
    "k-core empties the graph": BadLog(GOOD, ("k_core", "50"), build="k_core = 50"),
    "unknown target behaviour": BadLog(GOOD, ("purchse", "interaction"), build="target_behavior = 'purchse'"),
}


@pytest.mark.parametrize("case", BAD_LOGS.values(), ids=BAD_LOGS)
def test_a_bad_log_builds_no_store(case: BadLog, work: Path):
    if case.content is not None:
        content = case.content.encode() if isinstance(case.content, str) else case.content
        (work / case.file).write_bytes(content)
    (work / "graphrec.toml").write_text(
        f"[paths]\nstore = 'stores/x'\n[log]\npath = '{case.file}'\n{case.log}\n[build]\n{case.build}\n"
    )
    refused(graphrec("build", "--config", "graphrec.toml", "--quiet"), *case.words)
    assert left_in(work / "stores") in ([], ["x.rejected.parquet"])


def test_rejected_rows_are_kept_with_file_line_and_reason(work):
    (work / "events.csv").write_text(changed(0, "", every=4))
    refused(graphrec("build", "events.csv", "--out", "store", "--quiet"), "rejected.parquet")
    import polars as pl

    table = pl.read_parquet(work / "store.rejected.parquet")
    assert table.height == 30
    assert table["line"].to_list()[:2] == [2, 6]
    assert set(table["reason"]) == {"missing user_id"}


def test_a_few_bad_rows_stop_nothing(work):
    (work / "events.csv").write_text(GOOD + ",i1,5\n")
    result = done(graphrec("build", "events.csv", "--out", "store", "--json", "--quiet"))
    assert "missing user_id" in json.dumps(json.loads(result.stdout))


def test_a_user_with_one_event_stays_in_training(work):
    (work / "events.csv").write_text(GOOD + f"single,i0,{START}\n")
    done(graphrec("build", "events.csv", "--out", "store", "--quiet"))
    from graphrec.graph.store import GraphStore

    store = GraphStore.open("store")
    single = store.ids("user").index_of(["single"])[0]
    assert (store.interactions("train").user == single).sum() == 1
    assert single not in store.interactions("test").user


def test_ids_of_mixed_types_become_text(work):
    (work / "events.csv").write_text(GOOD.replace("u3,", "3,"))
    done(graphrec("build", "events.csv", "--out", "store", "--quiet"))
    from graphrec.graph.store import GraphStore

    assert "3" in GraphStore.open("store").ids("user").series.to_list()


BAD_RUN_FILES = {
    "unknown key": ("[train]\nepoch = 3\n", ("[train] epoch", "unknown key", "epochs")),
    "unknown section": ("[trian]\nepochs = 3\n", ("trian", "train")),
    "negative epochs": ("[train]\nepochs = -1\n", ("[train] epochs", "-1")),
    "wrong type": ("[train]\nbatch_size = 'many'\n", ("[train] batch_size", "many")),
    "not finite": ("[train]\nlearning_rate = nan\n", ("[train] learning_rate", "nan")),
    "unknown model": ("[model]\nname = 'lightgcm'\n", ("lightgcm", "did you mean 'lightgcn'")),
    "unknown model key": ("[model]\nname = 'lightgcn'\nlayers = 3\n", ("[model] layers", "num_layers")),
    "no toml": ("[train\nepochs = 3\n", ("graphrec.toml", "line 1")),
}


@pytest.mark.parametrize(("text", "words"), BAD_RUN_FILES.values(), ids=BAD_RUN_FILES)
@pytest.mark.parametrize("verb", ["build", "train", "export runs/x"])
def test_a_bad_run_file(verb, text, words, work):
    (work / "graphrec.toml").write_text(text)
    refused(graphrec(*verb.split(), "--config", "graphrec.toml", "--quiet"), "graphrec.toml", *words)
    assert left_in(work) == ["graphrec.toml"]


def test_missing_run_file(work):
    refused(graphrec("train", "--config", "nowhere.toml"), "nowhere.toml", "graphrec init")


def test_negative_epochs_on_the_command_line(work, shop):
    refused(graphrec("train", shop / "store", "--out", "run", "--set", "train.epochs=-1"), "epochs", "-1")
    assert left_in(work) == []


def test_unknown_model_on_the_command_line(work, shop):
    refused(graphrec("train", shop / "store", "--out", "run", "--model", "lightgcm"), "lightgcn")


def test_a_validation_list_longer_than_the_catalogue(work, shop):
    arguments = ("train", shop / "store", "--out", "run", "--set", "train.metric=ndcg@99")
    refused(graphrec(*arguments), "ndcg@99", "24", "[train] metric")
    assert left_in(work) == []


def test_k_larger_than_the_catalogue(shop):
    refused(graphrec("recommend", shop / "popularity", "u1", "--k", 1000), "k", "1000", "24")
    refused(graphrec("similar", shop / "lightgcn", "i1", "--k", 1000), "k", "1000", "23")
    refused(graphrec("evaluate", shop / "popularity", "--k", 1000), "k", "1000", "24")
    refused(graphrec("recommend", shop / "popularity", "u1", "--k", 0), "k", "0")


def test_unknown_ids(shop):
    refused(graphrec("recommend", shop / "popularity", "u99"), "u99", "24 known users", "did you mean 'u9'")
    refused(graphrec("similar", shop / "lightgcn", "i77"), "i77", "24 known items")


def test_what_a_model_cannot_do(work, shop):
    refused(graphrec("export", shop / "popularity", "--out", work / "out"), "popularity", "embeddings", "lightgcn")
    refused(graphrec("similar", shop / "popularity", "i1"), "popularity", "item-knn")
    refused(graphrec("export", shop / "lightgcn", "--out", work / "out", "--format", "parket"), "parquet")
    refused(graphrec("recommend", shop / "popularity"), "--all")
    assert left_in(work) == []


def test_missing_store_and_run(work):
    refused(graphrec("train", "nowhere", "--out", "run"), "nowhere", "graphrec build")
    for verb in ("evaluate", "recommend", "similar", "export"):
        arguments = ["u1"] if verb in ("recommend", "similar") else []
        refused(graphrec(verb, "nowhere", *arguments), "nowhere", "graphrec train")


def rewrite_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


DAMAGED_STORES = {
    "newer schema": (lambda store: rewrite_json(store / "manifest.json", schema_version=99), ("99", "upgrade")),
    "edited manifest": (lambda store: rewrite_json(store / "manifest.json", source="elsewhere"), ("manifest.json",)),
    "truncated manifest": (lambda store: truncate(store / "manifest.json"), ("manifest.json",)),
    "missing manifest": (lambda store: (store / "manifest.json").unlink(), ("manifest.json",)),
    "truncated graph": (lambda store: truncate(store / "graph.dgl"), ("graph.dgl", "truncated")),
    "edited split": (lambda store: edit(store / "splits" / "train.parquet"), ("train.parquet", "changed")),
    "missing ids": (lambda store: (store / "ids" / "user.parquet").unlink(), ("user.parquet", "missing")),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED_STORES.values(), ids=DAMAGED_STORES)
def test_a_damaged_store(damage, words, work, shop):
    shutil.copytree(shop / "store", work / "store")
    damage(work / "store")
    refused(graphrec("train", "store", "--out", "run", "--model", "popularity"), "store", *words)
    refused(graphrec("graph", "info", "store"), *words)
    assert left_in(work) == ["store"]


DAMAGED_MODELS = {
    "newer schema": (lambda model: rewrite_json(model / "model.json", schema_version=99), ("99", "upgrade")),
    "truncated weights": (lambda model: truncate(model / "model.safetensors"), ("model.safetensors", "bytes")),
    "edited weights": (lambda model: edit(model / "model.safetensors"), ("model.safetensors", "changed")),
    "truncated header": (lambda model: truncate(model / "model.json"), ("model.json", "damaged")),
    "missing catalogue": (lambda model: shutil.rmtree(model / "catalogue"), ("catalogue", "missing")),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGED_MODELS.values(), ids=DAMAGED_MODELS)
def test_a_damaged_run(damage, words, work, shop):
    shutil.copytree(shop / "lightgcn", work / "run")
    damage(work / "run" / "model")
    for arguments in (("recommend", "run", "u1"), ("export", "run", "--out", "out"), ("evaluate", "run")):
        refused(graphrec(*arguments), *words)
    assert left_in(work) == ["run"]


def test_a_truncated_checkpoint(work, shop):
    shutil.copytree(shop / "lightgcn", work / "run")
    largest = max((work / "run" / "checkpoints").rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    truncate(largest)
    result = graphrec("train", shop / "store", "--out", "run", "--resume")
    refused(result, largest.name)


def test_a_full_disk(work, monkeypatch):
    (work / "events.csv").write_text(GOOD)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphrec.atomic._sync", full)
    refused(graphrec("build", "events.csv", "--out", "store"), "disk is full", "store")
    assert left_in(work) == ["events.csv"]


def test_an_interrupted_build(work, monkeypatch):
    (work / "events.csv").write_text(GOOD)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graphrec.atomic._sync", interrupt)
    result = graphrec("build", "events.csv", "--out", "store")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert left_in(work) == ["events.csv"]


def test_two_builds_into_one_folder(work):
    (work / "events.csv").write_text(GOOD)
    with atomic_folder(work / "store"):
        refused(graphrec("build", "events.csv", "--out", "store"), "another process is writing", "store")
    done(graphrec("build", "events.csv", "--out", "other", "--quiet"))
    refused(graphrec("build", "events.csv", "--out", "other"), "other", "already exists")


def test_a_folder_that_is_no_store_is_never_replaced(work):
    (work / "events.csv").write_text(GOOD)
    (work / "home").mkdir()
    (work / "home" / "thesis.txt").write_text("years of work")
    refused(graphrec("build", "events.csv", "--out", "home", "--overwrite"), "home", "not overwritten")
    assert (work / "home" / "thesis.txt").read_text() == "years of work"


def test_a_run_is_not_replaced_by_accident(work, shop):
    shutil.copytree(shop / "popularity", work / "run")
    before = {path: path.read_bytes() for path in (work / "run").rglob("*") if path.is_file()}
    refused(graphrec("train", shop / "store", "--out", "run", "--model", "popularity"), "run", "already", "overwrite")
    assert before == {path: path.read_bytes() for path in (work / "run").rglob("*") if path.is_file()}


def test_a_failed_retraining_keeps_the_old_run(work, shop):
    shutil.copytree(shop / "lightgcn", work / "run")
    before = {path: path.read_bytes() for path in (work / "run").rglob("*") if path.is_file()}
    arguments = ("train", shop / "store", "--out", "run", "--overwrite", "--set", "train.metric=ndcg@99")
    refused(graphrec(*arguments), "ndcg@99")
    assert before == {path: path.read_bytes() for path in (work / "run").rglob("*") if path.is_file()}
