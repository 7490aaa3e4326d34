"""Bad input of `read_log`: each mistake gets one clear message, or its rows are put aside with their place."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from graphrec.errors import ConfigError, LogError, MissingExtraError
from graphrec.logs import ENDINGS, FOLDERS, FORMATS
from graphrec.logs.raw import FILE, LINE, PROBLEM, RawLog, Source
from graphrec.logs.read import read_log
from graphrec.logs.table import InteractionLog, LogSettings
from graphrec.progress import Reporter, Task
from tests.notes import Notes


def write(folder: Path, text: str | bytes, name: str = "log.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def read(folder: Path, text: str | bytes, **settings) -> InteractionLog:
    return read_log(write(folder, text), rejected=folder / "rejected.parquet", **settings)


def rejects(folder: Path) -> list[tuple[int, str]]:
    return pl.read_parquet(folder / "rejected.parquet").select("line", "reason").rows()


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "user,item\n1,1\n", "clicks.csv")
    with pytest.raises(LogError, match=r"no such file or folder: .*click\.csv; did you mean 'clicks\.csv'"):
        read_log(tmp_path / "click.csv")
    with pytest.raises(LogError, match="there is no folder"):
        read_log(tmp_path / "nowhere" / "click.csv")


def test_glob_that_matches_nothing(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"the glob '.*\*\.csv' matches no file"):
        read_log(tmp_path / "*.csv")


def test_folder_without_a_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"no log in this folder; it should hold ratings\.csv or .*\(movielens\); \*\.inter \(atomic\)"):
        read_log(tmp_path)
    with pytest.raises(LogError, match="is a folder"):
        read_log(tmp_path, format="delimited")


def read_house(source: Source, settings: LogSettings) -> RawLog:
    """A reader of one's own: lines of item>user."""
    rows = []
    for path in source.paths:
        for file in [path] if path.is_file() else sorted(path.glob("*.house")):
            rows += [(str(file), number, None, *line.split(">")) for number, line in enumerate(file.read_text().split(), 1)]
    return RawLog(pl.DataFrame(rows, schema=[FILE, LINE, PROBLEM, "item_id", "user_id"], orient="row").lazy())


def test_a_format_of_ones_own_is_known_by_its_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(FORMATS, "house", f"{__name__}:read_house")
    monkeypatch.setitem(ENDINGS, "house", (".house",))
    monkeypatch.setitem(FOLDERS, "house", ("*.house",))
    path = write(tmp_path, "i1>u1\ni2>u1\n", "a.house")
    for source in (path, tmp_path, tmp_path / "*.house"):
        assert read_log(source).events.collect().select("user_id", "item_id").rows() == [("u1", "i1"), ("u1", "i2")]


def test_columns_of_a_reader_that_nothing_reads_are_refused() -> None:
    frame = pl.LazyFrame({FILE: ["f"], LINE: [1], PROBLEM: [None], "user_id": ["u"], "item_id": ["i"], "timestamp": [1]})
    RawLog(frame)
    with pytest.raises(ValueError, match="got the unknown column 'time'; did you mean 'timestamp'?"):
        RawLog(frame.rename({"timestamp": "time"}))
    with pytest.raises(ValueError, match="need _file, _line, _problem, user_id, item_id; got no '_line'"):
        RawLog(frame.drop(LINE))


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.jsonl", "log.txt", "log.parquet", "log.inter"])
def test_empty_file(name: str, tmp_path: Path) -> None:
    import gzip

    path = write(tmp_path, gzip.compress(b"") if name.endswith(".gz") else b"", name)
    with pytest.raises(LogError, match=f"{name} is empty"):
        read_log(path)


def test_header_or_blank_lines_only(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="holds no events, only a header"):
        read(tmp_path, "user,item\n")
    with pytest.raises(LogError, match="only blank lines"):
        read(tmp_path, "\n  \n")


def test_missing_column_lists_the_columns(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"no column for user_id; the columns are usr, item; .*user_id = \"\.\.\.\""):
        read(tmp_path, "usr,item\n1,1\n")
    with pytest.raises(LogError, match=r"no column 'users' for user_id.*did you mean 'user'"):
        read(tmp_path, "user,item\n1,1\n", columns={"user_id": "users"})
    with pytest.raises(LogError, match="column 7 for weight is beyond the last, 1"):
        read(tmp_path, "user,item\n1,1\n", columns={"weight": 7})
    with pytest.raises(LogError, match="item_id should be column 1"):
        read(tmp_path, "1\n2\n")


def test_duplicate_columns(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"the column name 'item' occurs 2 times; rename one"):
        read(tmp_path, "user,item,item\n1,1,1\n")
    assert read(tmp_path, "user,item,item\n1,1,2\n", columns={"item_id": 2}).events.collect()["item_id"][0] == 2
    assert read(tmp_path, "user,item,note,note\n1,1,x,y\n").events.collect().height == 1
    with pytest.raises(ConfigError, match="both name the source column 'a'"):
        read(tmp_path, "a\n1\n", columns={"user_id": "a", "item_id": "a"})


def test_unknown_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[log\] seperator: unknown key.*did you mean 'separator'"):
        read(tmp_path, "user,item\n1,1\n", seperator=",")
    with pytest.raises(ConfigError, match="an OGB folder is no log but a graph of links .* graphrec link FOLDER reads it"):
        read_log("events.csv", format="ogb")
    with pytest.raises(ConfigError, match="choose one of auto, delimited"):
        read(tmp_path, "user,item\n1,1\n", format="csv")
    with pytest.raises(ConfigError, match="no such encoding"):
        read(tmp_path, "user,item\n1,1\n", encoding="utf-99")
    with pytest.raises(ConfigError, match="path: required"):
        read_log(LogSettings())


def test_bad_rows_are_put_aside_with_file_line_and_reason(tmp_path: Path) -> None:
    good = "".join(f"u{n},i{n},2020-01-01,1\n" for n in range(100))
    bad = ",i,2020-01-01,1\nu,,2020-01-01,1\nu,i,soon,1\nu,i,2020-01-01,inf\nu,i,2020-01-01,NaN\nu,i\nu,i,2020-01-01,1,9\nu,i,2020-01-01,-2e15\n"
    notes = Notes()
    log = read(tmp_path, "user,item,time,weight\n" + good + "\n" + bad, max_bad_share=0.1, progress=notes)
    assert log.events.collect().height == 100
    assert rejects(tmp_path) == [
        (103, "missing user_id"),
        (104, "missing item_id"),
        (105, "unparsable timestamp"),
        (106, "weight is no finite number"),
        (107, "weight is no finite number"),
        (108, "ragged line"),
        (109, "ragged line"),
        (110, "weight is beyond 1e+15"),
    ]
    row = pl.read_parquet(tmp_path / "rejected.parquet").row(2, named=True)
    assert row["file"] == str(tmp_path / "log.csv") and row["raw"] == "u,i,soon,1"
    assert log.rejected.total == 108 and log.rejected.rejected == 8
    assert any(line.startswith("8 of 108 rows rejected") for line in notes.lines)


def test_too_many_bad_rows_is_an_error_and_keeps_the_table(tmp_path: Path) -> None:
    with pytest.raises(LogError) as caught:
        read(tmp_path, "user,item\n1,1\n1,\n1,2\n")
    message = str(caught.value)
    assert "1 of 3 rows rejected (1 missing item_id); more than max_bad_share = 5.00%" in message
    assert "log.csv, line 3: missing item_id: '1,'" in message and "check columns" in message
    assert rejects(tmp_path) == [(3, "missing item_id")]


def test_all_rows_rejected(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="all rows are bad"):
        read(tmp_path, "user,item\n,1\n,2\n", max_bad_share=1.0)


def test_table_of_an_earlier_read_does_not_stay(tmp_path: Path) -> None:
    read(tmp_path, "user,item\n1,1\n1,\n", max_bad_share=0.5)
    assert (tmp_path / "rejected.parquet").exists()
    log = read(tmp_path, "user,item\n1,1\n")
    assert log.rejected.path is None and not (tmp_path / "rejected.parquet").exists()


def test_a_file_of_somebody_else_stays(tmp_path: Path) -> None:
    pl.DataFrame({"mine": [1]}).write_parquet(tmp_path / "rejected.parquet")
    read(tmp_path, "user,item\n1,1\n")
    assert pl.read_parquet(tmp_path / "rejected.parquet").columns == ["mine"]


def test_ids_of_mixed_types_become_text_and_say_so(tmp_path: Path) -> None:
    notes = Notes()
    log = read(tmp_path, "user,item\n1,007\n2,008\nabc,009\n", progress=notes)
    assert log.events.collect()["user_id"].to_list() == ["1", "2", "abc"]
    assert log.events.collect()["item_id"].to_list() == ["007", "008", "009"]
    assert any(
        "user_id mixes 2 integers and 1 texts (the first is 'abc' in" in line and "line 4" in line
        for line in notes.lines
    )
    strict = read(tmp_path, "user,item\n1,7\n2,8\nabc,9\n", id_type="integer", max_bad_share=0.5)
    assert strict.events.collect()["user_id"].to_list() == [1, 2] and rejects(tmp_path) == [
        (4, "user_id is no integer")
    ]
    text = read(tmp_path, "user,item\n1,7\n", id_type="string")
    assert text.events.collect()["user_id"].to_list() == ["1"]


def test_integers_of_pandas_and_blanks(tmp_path: Path) -> None:
    log = read(tmp_path, "user,item\n 12.0 ,3\nNaN,4\n13.0,5\n", max_bad_share=0.5)
    assert log.events.collect()["user_id"].to_list() == [12, 13]
    assert rejects(tmp_path) == [(3, "missing user_id")]


def test_undecodable_bytes(tmp_path: Path) -> None:
    data = b"user,item\n" + b"u1,i1\n" * 50 + b"caf\xe9,i1\n"
    read(tmp_path, data)
    assert rejects(tmp_path) == [(52, "undecodable bytes")]
    with pytest.raises(LogError, match='set encoding, for example "latin-1"'):
        read(tmp_path, b"user,item\ncaf\xe9,i1\nu,i\n")
    log = read(tmp_path, data, encoding="latin-1")
    assert "café" in log.events.collect()["user_id"].to_list()


def test_utf16_is_recognised(tmp_path: Path) -> None:
    data = "user,item\nü,1\n".encode("utf-16")
    with pytest.raises(LogError, match="looks like UTF-16"):
        read(tmp_path, data)
    assert read(tmp_path, data, encoding="utf-16").events.collect()["user_id"].to_list() == ["ü"]


def test_byte_order_mark_crlf_and_no_last_newline(tmp_path: Path) -> None:
    log = read(tmp_path, b"\xef\xbb\xbfuser,item\r\n1,2\r\n\r\n3,4")
    assert log.events.select("user_id", "item_id").collect().rows() == [(1, 2), (3, 4)]


def test_byte_order_mark_without_header(tmp_path: Path) -> None:
    log = read(tmp_path, b"\xef\xbb\xbf1,2\n3,4\n")
    assert log.events.select("user_id", "item_id").collect().rows() == [(1, 2), (3, 4)]


def test_quotes_protect_separators_and_lines(tmp_path: Path) -> None:
    text = 'user,item\n"a,b","say ""hi"""\n"two\nlines",x\n"open,1\nu,\nv,2\n'
    log = read(tmp_path, text, max_bad_share=0.5)
    assert log.events.select("user_id", "item_id").collect().rows() == [
        ("a,b", 'say "hi"'),
        ("two\nlines", "x"),
        ("v", "2"),
    ]
    assert rejects(tmp_path) == [(5, "ragged line"), (6, "missing item_id")]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", "::", " "])
@pytest.mark.parametrize("header", [True, False])
def test_separators_are_found(separator: str, header: bool, tmp_path: Path) -> None:
    rows = [["user", "item", "rating"]] * header + [["u1", "i1", "3"], ["u2", "i2", "4.5"]]
    text = "\n".join(separator.join(row) for row in rows)
    log = read(tmp_path, text, columns={} if header else {"weight": 2})
    assert log.events.select("user_id", "weight").collect().rows() == [("u1", 3.0), ("u2", 4.5)]


def test_behaviours_and_their_default(tmp_path: Path) -> None:
    log = read(tmp_path, "user,item,event\n1,1,view\n1,1,cart\n1,2,\n2,2,view\n", default_behavior="click")
    assert log.behaviors == ["view", "cart", "click"]


def test_absent_weights_and_times_are_no_errors(tmp_path: Path) -> None:
    events = read(tmp_path, "user,item,rating,time\n1,1,,\n1,2,3,1600000000\n").events.collect()
    assert events["weight"].to_list() == [1.0, 3.0] and events["timestamp"].null_count() == 1


def test_a_row_without_a_behaviour_among_others_is_rejected(tmp_path: Path) -> None:
    log = read(tmp_path, "user,item,event\n1,1,view\n1,2,\n2,2,cart\n", max_bad_share=0.5)
    assert log.behaviors == ["cart", "view"] and rejects(tmp_path) == [(3, "missing behavior")]
    with pytest.raises(LogError, match=r"1 missing behavior(.|\n)*set default_behavior to the behaviour that such rows"):
        read(tmp_path, "user,item,event\n1,1,view\n1,2,\n")
    assert read(tmp_path, "user,item,event\n1,1,\n1,2,\n").behaviors == ["interaction"]


def test_sources_of_several_formats(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user": ["u9", None], "item": ["i9", "i1"], "time": [datetime.datetime(2020, 1, 3)] * 2})
    rows.write_parquet(tmp_path / "log.parquet")
    paths = [
        write(tmp_path, "user,item,time,rating\nu1,i1,2020-01-01,2\n"),
        write(tmp_path, '{"user": "u2", "item": "i2", "time": "2020-01-02T00:00:00"}\n', "log.jsonl"),
        tmp_path / "log.parquet",
    ]
    log = read_log(paths, rejected=tmp_path / "rejected.parquet", max_bad_share=0.5)
    found = log.events.select("user_id", "item_id", pl.col("timestamp").dt.day(), "weight").collect()
    assert sorted(found.rows()) == [("u1", "i1", 1, 2.0), ("u2", "i2", 2, 1.0), ("u9", "i9", 3, 1.0)]
    assert rejects(tmp_path) == [(2, "missing user_id")]
    assert '"item_id":"i1"' in pl.read_parquet(tmp_path / "rejected.parquet")["raw"][0]
    (tmp_path / "atomic").mkdir()
    write(tmp_path / "atomic", "user_id:token\titem_id:token\n1\t1\n", "a.inter")
    with pytest.raises(LogError, match=r"several formats \(atomic, delimited\); only files of delimited, jsonl, parquet"):
        read_log([paths[0], tmp_path / "atomic" / "a.inter"])


def test_a_frame_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got DataFrame; write a frame to a Parquet file"):
        read_log(pl.DataFrame({"user": [1]}))
    pandas = type("DataFrame", (), {"columns": ["user"], "__iter__": lambda self: iter(self.columns)})()
    with pytest.raises(ConfigError, match="got DataFrame"):
        read_log(pandas)


def test_a_file_that_is_bad_for_the_most_part_is_named(tmp_path: Path) -> None:
    good = write(tmp_path, "user,item\n" + "".join(f"{u},1\n" for u in range(100)))
    bad = write(tmp_path, "user,item\n,1\n,2\n7,1\n", "monday.csv")
    notes = Notes()
    read_log([good, bad], rejected=tmp_path / "rejected.parquet", progress=notes)
    assert [line for line in notes.lines if "warning" in line] == [f"warning: 2 of the 3 rows of {bad} were rejected"]


def test_an_error_quotes_a_row_of_each_frequent_reason(tmp_path: Path) -> None:
    rows = [",1", "2,", *[f"{u},1,soon" for u in range(9)]]
    with pytest.raises(LogError) as failure:
        read(tmp_path, "user,item,time\n" + "\n".join(row if row.count(",") == 2 else row + "," for row in rows))
    quoted = str(failure.value).splitlines()[1:4]
    assert [line.split(": ")[1] for line in quoted] == ["unparsable timestamp", "missing item_id", "missing user_id"]


def test_the_temporary_folder_outlives_the_log_but_not_close(tmp_path: Path) -> None:
    assert read(tmp_path, "user,item\n1,1\n").events.collect().height == 1
    with read(tmp_path, "user,item\n1,1\n") as log:
        folder = Path(log.cache.name)
        assert folder.is_dir()
    assert not folder.exists()


def test_full_disk_while_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphrec.logs.read.clean", full)
    with pytest.raises(LogError, match="the disk is full while unpacking .*TMPDIR"):
        read(tmp_path, "user,item\n1,1\n")


def test_sql_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlalchemy", None)
    with pytest.raises(MissingExtraError, match=r"graphrec\[sql\]"):
        read_log("sqlite:///x.db", query="SELECT 1")


def test_settings_and_mappings_as_source(tmp_path: Path) -> None:
    path = str(write(tmp_path, "a;b\n1;2\n"))
    values = {"path": path, "columns": {"user_id": "a", "item_id": "b"}}
    for source in (values, LogSettings(**values)):
        assert read_log(source, duplicates="keep").events.collect().height == 1


def test_files_with_the_same_columns_are_told_of_once(tmp_path: Path) -> None:
    notes = Notes()
    for day in range(1, 6):
        write(tmp_path, f"user,item,x\n{day},1,0\n", f"day{day}.csv")
    write(tmp_path, "visitor_id,item\n9,1\n", "other.csv")
    columns = {"user_id": "user", "item_id": "item"}
    read_log(tmp_path / "*.csv", progress=notes, rejected=tmp_path / "rejected.parquet")
    told = [line for line in notes.lines if "user_id = " in line]
    assert told == [
        "day1.csv and 4 more files: user_id = user, item_id = item; not used: x",
        "other.csv: user_id = visitor_id, item_id = item",
    ]
    notes.lines.clear()
    read_log(tmp_path / "day[12].csv", columns=columns, progress=notes, rejected=tmp_path / "rejected.parquet")
    assert notes.lines[0].startswith("day1.csv and 1 more file: ")


def test_each_part_of_the_reading_is_named_while_it_lasts(tmp_path: Path) -> None:
    told = []

    class Steps(Reporter):
        @contextmanager
        def task(self, description: str, total: float | None = None, unit: str = "it") -> Iterator[Task]:
            step = Task()
            step.show = lambda **fields: told.append((description, fields["step"]))
            yield step
            told.append((description, "over"))

        def note(self, message: str) -> None:
            told.append(message.split(": ")[1])

    read(tmp_path, "user,item\n1,1\n", progress=Steps())
    columns, tables, events, over = (("Reading the log", step) for step in (
        "finding the columns", "reading side tables", "reading and checking events", "over"
    ))  # fmt: skip
    assert told == [columns, "user_id = user, item_id = item", tables, events, "1 rows", over]
