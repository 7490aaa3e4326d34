"""The contract of every log reader: one small log, written in each format, gives the same events."""

from __future__ import annotations

import datetime
import gzip
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow
import pytest

from graphrec.errors import ConfigError, LogError
from graphrec.logs import FORMATS
from graphrec.logs.read import read_log, read_split_folder
from graphrec.logs.table import InteractionLog

TIMES = [978300760, 978302109, 978301968, 978300275, 978824291]
ROWS = list(zip([1, 1, 2, 3, 3], [10, 20, 10, 30, 20], TIMES, [5.0, 3.0, 4.0, 1.5, 2.0], strict=True))
FULL = {"user_id", "item_id", "timestamp", "weight"}


def lines(rows: list, separator: str, header: str = "") -> str:
    return header + "".join(separator.join(map(str, row)) + "\n" for row in rows)


def write_delimited(folder: Path) -> tuple[Path, dict]:
    (folder / "log.csv").write_text(lines(ROWS, ",", "userId,movieId,time,rating\n"))
    return folder / "log.csv", {}


def write_parquet(folder: Path) -> tuple[Path, dict]:
    frame = pl.DataFrame(ROWS, schema=["user", "item", "timestamp", "weight"], orient="row")
    frame.with_columns(pl.from_epoch("timestamp")).write_parquet(folder / "log.parquet")
    return folder / "log.parquet", {}


def write_jsonl(folder: Path) -> tuple[Path, dict]:
    rows = [{"user_id": u, "item_id": i, "ts": t * 1000, "score": w} for u, i, t, w in ROWS]
    (folder / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return folder / "log.jsonl", {}


def write_adjacency(folder: Path) -> tuple[Path, dict]:
    (folder / "log.txt").write_text("1 10 20\n2 10\n3 30 20\n4\n")
    return folder / "log.txt", {}


def write_atomic(folder: Path) -> tuple[Path, dict]:
    header = "user_id:token\titem_id:token\ttimestamp:float\trating:float\n"
    (folder / "small.inter").write_text(lines(ROWS, "\t", header))
    return folder, {}


def write_movielens(folder: Path) -> tuple[Path, dict]:
    (folder / "ratings.dat").write_text(lines([(u, i, w, t) for u, i, t, w in ROWS], "::"))
    return folder, {}


def write_sql(folder: Path) -> tuple[str, dict]:
    with sqlite3.connect(folder / "log.db") as connection:
        connection.execute("CREATE TABLE event (u, i, t, w)")
        connection.executemany("INSERT INTO event VALUES (?, ?, ?, ?)", ROWS)
    return f"sqlite:///{folder}/log.db", {
        "query": "SELECT u, i, t, w FROM event",
        "columns": {"user_id": "u", "item_id": "i", "timestamp": "t", "weight": "w"},
    }


WRITERS: dict[str, Callable[[Path], tuple[str | Path, dict]]] = {
    "delimited": write_delimited,
    "parquet": write_parquet,
    "jsonl": write_jsonl,
    "adjacency": write_adjacency,
    "atomic": write_atomic,
    "movielens": write_movielens,
    "sql": write_sql,
}


def expected(columns: set[str]) -> pl.DataFrame:
    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp", "weight"], orient="row")
    time = pl.from_epoch("timestamp").cast(pl.Datetime("us", "UTC"))
    return frame.select(
        "user_id",
        "item_id",
        pl.lit("interaction").alias("behavior"),
        time if "timestamp" in columns else pl.lit(None, pl.Datetime("us", "UTC")).alias("timestamp"),
        (pl.col("weight") if "weight" in columns else pl.lit(1.0).alias("weight")).cast(pl.Float32),
    )


def read(source: str | Path, folder: Path, **settings) -> InteractionLog:
    return read_log(source, rejected=folder / "rejected.parquet", **settings)


def test_every_format_has_a_writer() -> None:
    assert set(WRITERS) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_same_events_in_every_format(name: str, tmp_path: Path) -> None:
    source, settings = WRITERS[name](tmp_path)
    columns = {"user_id", "item_id"} if name == "adjacency" else FULL
    for form in ("auto", name):
        events = read(source, tmp_path, format=form, **settings).events.collect()
        assert events.equals(expected(columns)), form
        assert events.schema == expected(columns).schema


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"sql", "parquet"}))
def test_compressed(name: str, ending: str, tmp_path: Path) -> None:
    source, settings = WRITERS[name](tmp_path)
    plain = [path for path in tmp_path.iterdir() if path.is_file()]
    for path in plain:
        data = path.read_bytes()
        packed = gzip.compress(data) if ending == ".gz" else pyarrow.compress(data, codec="zstd", asbytes=True)
        path.with_name(path.name + ending).write_bytes(packed)
        path.unlink()
    source = source if Path(source).is_dir() else f"{source}{ending}"
    columns = {"user_id", "item_id"} if name == "adjacency" else FULL
    assert read(source, tmp_path, **settings).events.collect().equals(expected(columns))


@pytest.mark.parametrize("ending", [".gz", ".zst", ".parquet"])
@pytest.mark.parametrize("cut", ["short", "garbage"])
def test_damaged_files_are_named(ending: str, cut: str, tmp_path: Path) -> None:
    write_delimited(tmp_path)
    path = tmp_path / f"bad.csv{ending}" if ending != ".parquet" else tmp_path / "bad.parquet"
    text = lines(ROWS * 1000, ",", "user,item,time,rating\n").encode()
    if ending == ".parquet":
        write_parquet(tmp_path)
        packed = (tmp_path / "log.parquet").read_bytes()
    else:
        packed = gzip.compress(text) if ending == ".gz" else pyarrow.compress(text, codec="zstd", asbytes=True)
    path.write_bytes(packed[: len(packed) // 2] if cut == "short" else b"garbage" * 40)
    with pytest.raises(LogError, match="damaged") as caught:
        read(path, tmp_path, format="parquet" if ending == ".parquet" else "delimited")
    assert str(path) in str(caught.value)


def test_adbc(tmp_path: Path) -> None:
    pytest.importorskip("adbc_driver_sqlite")
    source, settings = write_sql(tmp_path)
    events = read(f"adbc+{source}", tmp_path, **settings).events.collect()
    assert events.equals(expected(FULL))


def test_sql_needs_a_query_and_hides_the_password(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="set query"):
        read("sqlite:///x.db", tmp_path)
    source, _ = write_sql(tmp_path)
    with pytest.raises(LogError, match="no such column: nope.*SELECT nope"):
        read(source, tmp_path, query="SELECT nope FROM event")
    with pytest.raises(LogError, match="no rows"):
        read(source, tmp_path, query="SELECT u, i FROM event WHERE u > 99", columns={"user_id": "u", "item_id": "i"})
    with pytest.raises(LogError) as caught:
        read("nosuchbase://me:secret@host/x", tmp_path, query="SELECT 1")
    assert "secret" not in str(caught.value)


def test_sqlite_columns_of_mixed_types(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("CREATE TABLE event (user, item)")
        connection.executemany("INSERT INTO event VALUES (?, ?)", [(1, "a"), ("x", "b"), (None, "c")])
    log = read(f"sqlite:///{tmp_path}/log.db", tmp_path, query="SELECT user, item FROM event", max_bad_share=0.5)
    assert log.events.collect()["user_id"].to_list() == ["1", "x"]
    assert log.rejected.counts == {"missing user_id": 1}


def test_given_split_folder(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("0 1 2\n1 2\n")
    with gzip.open(tmp_path / "test.txt.gz", "wt") as file:
        file.write("0 3\n1\n")
    log = read_split_folder(tmp_path)
    assert log.has_split
    assert log.events.select("user_id", "item_id", "split").collect().rows() == [
        (0, 1, "train"),
        (0, 2, "train"),
        (1, 2, "train"),
        (0, 3, "test"),
    ]
    (tmp_path / "valid.txt").write_text("1 4\n")
    assert set(read_split_folder(tmp_path).events.collect()["split"]) == {"train", "valid", "test"}
    (tmp_path / "test.txt.gz").unlink()
    with pytest.raises(LogError, match=r"no test\.txt"):
        read_split_folder(tmp_path)
    with pytest.raises(LogError, match="no such folder"):
        read_split_folder(tmp_path / "nowhere")


def test_given_split_folder_of_triples(tmp_path: Path) -> None:
    (tmp_path / "data1.txt").write_text("0\t1\t9\n1\t2\t1\n")
    (tmp_path / "test1.txt").write_text("0\t2\t4\n")
    log = read_split_folder(tmp_path)
    assert log.has_split
    rows = log.events.select("user_id", "item_id", "weight", "split").collect().rows()
    assert rows == [(0, 1, 1.0, "train"), (1, 2, 1.0, "train"), (0, 2, 1.0, "test")]


def test_split_column(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,split\n1,1,train\n1,2,val\n1,1,Test\n1,4,later\n")
    log = read(tmp_path / "log.csv", tmp_path, max_bad_share=0.5)
    assert log.events.collect()["split"].to_list() == ["train", "valid", "test"]
    assert log.rejected.counts == {"unknown split": 1}


def test_old_movielens_with_side_tables(tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("1\t10\t3\t978300760\n")
    flags = "|".join(["0", "1"] + ["0"] * 16 + ["1"])
    (tmp_path / "u.item").write_bytes(f"10|Caf\xe9 (1995)|01-Jan-1995||http://x|{flags}\n".encode("latin-1"))
    (tmp_path / "u.user").write_text("1|24|M|technician|05711\n")
    log = read(tmp_path, tmp_path)
    assert log.items.select("item_id", "title", "genres").rows() == [(10, "Café (1995)", "Action|Western")]
    assert log.users.rows() == [(1, 24, "M", "technician", "05711")]
    assert log.events.collect()["timestamp"].to_list() == [
        datetime.datetime.fromtimestamp(978300760, datetime.timezone.utc)
    ]


def test_new_movielens_with_tags(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,10,3.5,978300760\n")
    (tmp_path / "movies.csv").write_text('movieId,title,genres\n10,"Heat, The (1995)",Crime|Thriller\n11,Up,\n')
    (tmp_path / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,10,heist,1\n2,10,slow,2\n3,10,heist,3\n")
    log = read(tmp_path, tmp_path)
    assert log.items.rows() == [(10, "Heat, The (1995)", "Crime|Thriller", "heist|slow"), (11, "Up", None, None)]


def test_atomic_with_knowledge_and_attributes(tmp_path: Path) -> None:
    write_atomic(tmp_path)
    (tmp_path / "small.item").write_text(
        "item_id:token\tmovie_title:token_seq\tvector:float_seq\n10\tToy Story\t1.0 2.0\n20\tHeat\t3.0 4.0\n"
    )
    (tmp_path / "small.kg").write_text(
        "head_id:token\trelation_id:token\ttail_id:token\nm.1\tgenre\tm.9\nm.2\tgenre\tm.9\n"
    )
    (tmp_path / "small.link").write_text("item_id:token\tentity_id:token\n10\tm.1\n")
    (tmp_path / "small.net").write_text("source_id:token\ttarget_id:token\n1\t2\n")
    log = read(tmp_path, tmp_path)
    assert log.items.rows() == [(10, "Toy Story", [1.0, 2.0]), (20, "Heat", [3.0, 4.0])]
    assert log.triples.rows() == [("10", "genre", "m.9"), ("m.2", "genre", "m.9")]
    assert log.social.rows() == [(1, 2, 1.0)]
    (tmp_path / "small.inter").write_text("user_id\titem_id\n1\t2\n")
    with pytest.raises(LogError, match="name:type"):
        read(tmp_path, tmp_path)


def test_several_files_and_globs_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,item\n1,1\n")
    (tmp_path / "b.csv").write_text("item;user;extra\n2;1;x\n")
    log = read(tmp_path / "*.csv", tmp_path)
    assert log.events.collect()["item_id"].to_list() == [1, 2]
    both = read([tmp_path / "b.csv", tmp_path / "a.csv"], tmp_path)
    assert both.events.collect()["item_id"].to_list() == [2, 1]


def test_parquet_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(["1", "02", "3"], dtype=pl.Categorical),
            "item_id": [1.0, 2.0, 3.0],
            "timestamp": [datetime.date(2020, 1, 2)] * 3,
            "weight": [1.0, None, float("nan")],
        }
    )
    frame.write_parquet(tmp_path / "log.parquet")
    log = read(tmp_path / "log.parquet", tmp_path, max_bad_share=0.5)
    events = log.events.collect()
    assert events.schema["user_id"] == pl.String and events.schema["item_id"] == pl.Int64
    assert events["weight"].to_list() == [1.0, 1.0]
    assert events["timestamp"][0] == datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)
    rejected = pl.read_parquet(log.rejected.path).row(0, named=True)
    assert (rejected["line"], rejected["reason"]) == (3, "weight is no finite number")
    assert json.loads(rejected["raw"])["item_id"] == "3.0"


def test_parquet_files_of_different_types_become_text(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [1], "item_id": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"user_id": ["x"], "item_id": [2]}).write_parquet(tmp_path / "b.parquet")
    events = read(tmp_path / "*.parquet", tmp_path).events.collect()
    assert events["user_id"].to_list() == ["1", "x"] and events["item_id"].to_list() == [1, 2]


def test_jsonl_with_bad_lines_keeps_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(
        '{"user_id": 1, "item_id": "{k}"}\n\nnope\n[1]\n{"user_id": 2, "item_id": "b", "weight": NaN}\n{"user_id": 3}\n'
        '{"user_id": 4, "item_id": {"k": 1}}\n'
    )
    log = read(tmp_path / "log.jsonl", tmp_path, max_bad_share=0.9)
    assert log.events.collect()["item_id"].to_list() == ["{k}"]
    assert pl.read_parquet(log.rejected.path).select("line", "reason", "raw").rows() == [
        (3, "not a JSON object", "nope"),
        (4, "not a JSON object", "[1]"),
        (5, "weight is no finite number", '{"user_id": 2, "item_id": "b", "weight": NaN}'),
        (6, "missing item_id", '{"user_id": 3}'),
        (7, "nested item_id", '{"user_id": 4, "item_id": {"k": 1}}'),
    ]


def test_a_nested_parquet_column_is_no_id(tmp_path: Path) -> None:
    pl.DataFrame({"user": [{"id": 1}], "item": [1]}).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(LogError, match=r"the column 'user' for user_id is nested .*write the part that is meant"):
        read(tmp_path / "log.parquet", tmp_path)


def test_a_frame_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"read_log: takes files.*got DataFrame; write a frame to a Parquet file"):
        read_log(pl.DataFrame({"user_id": [1], "item_id": [1]}))


def test_each_log_has_a_table_of_rejected_rows_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.b.csv", "c.csv"):
        (tmp_path / name).write_text("user_id,item_id\n1,2\n,3\n")
    paths = [read_log(name, max_bad_share=0.5).rejected.path for name in ("a.b.csv", "c.csv")]
    assert [path.name for path in paths] == ["a.rejected.parquet", "c.rejected.parquet"] and all(path.is_file() for path in paths)


def test_rejected_rows_of_quoted_files_keep_their_separator(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('user;item;weight\n"a";1;1\n"b";2;3,5\n')
    log = read(tmp_path / "log.csv", tmp_path, max_bad_share=0.5)
    assert pl.read_parquet(log.rejected.path).select("reason", "raw").rows() == [("decimal comma in weight", "b;2;3,5")]


def test_a_header_in_another_encoding_asks_for_it(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes("user;Größe\na;1\n".encode("latin-1"))
    with pytest.raises(LogError, match="no column 'Größe' for item_id.*set encoding, for example"):
        read(tmp_path / "log.csv", tmp_path, columns={"item_id": "Größe"})
