"""Side tables: attributes, links, triples, relations, media vectors."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from graphrec.errors import LogError
from graphrec.logs.read import read_log
from graphrec.logs.table import InteractionLog, Media
from tests.notes import Notes


@pytest.fixture
def put(tmp_path: Path):
    """Write a file of text and return its path."""

    def write(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def read(put, **settings) -> InteractionLog:
    return read_log(put("log.csv", "user,item\n1,10\n2,20\n"), **settings)


def test_attributes_take_the_type_of_the_ids_and_their_own(put) -> None:
    table = put("items.csv", 'movieId,title,year,price,zip\n10,"Heat, 1995",1995,1.5,01234\n20,,,2,9\n')
    items = read(put, items=table).items
    assert items.schema == {
        "item_id": pl.Int64,
        "title": pl.String,
        "year": pl.Int64,
        "price": pl.Float64,
        "zip": pl.String,
    }
    assert items.rows() == [(10, "Heat, 1995", 1995, 1.5, "01234"), (20, None, None, 2.0, "9")]


def test_renamed_attributes_and_rows_without_use(put) -> None:
    notes = Notes()
    path = put("items.tsv", "sku\tname\n10\tHeat\n10\tHeat again\n\tnobody\nx\ttext id\n20\ttoo\tmany\n")
    log = read(put, items={"path": path, "columns": {"item_id": "sku", "title": "name"}}, progress=notes)
    assert log.items.rows() == [(10, "Heat")]
    assert any("1 rows skipped; the first is line 6: ragged line" in line for line in notes.lines)
    assert any("items: 3 of 4 rows lack an id or repeat one" in line for line in notes.lines)


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_typed_side_tables(form: str, put, tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["1", "2"], "age": [30, 40]})
    path = tmp_path / f"users.{form}"
    frame.write_parquet(path) if form == "parquet" else frame.write_ndjson(path)
    assert read(put, users=str(path)).users.rows() == [(1, 30), (2, 40)]


def test_links_by_usual_names_or_position(put, tmp_path: Path) -> None:
    log = read(
        put,
        social=put("trust.txt", "1\t2\n2\t1\n1\t2\n"),
        triples=put("kg.csv", "h,r,t\n10,genre,drama\n"),
        item_relations=put("also.csv", "target,source\n20,10\n"),
    )
    assert log.social.rows() == [(1, 2, 1.0), (2, 1, 1.0), (1, 2, 1.0)]  # the graph counts what is repeated
    assert log.social.schema["weight"] == pl.Float32
    assert log.triples.rows() == [("10", "genre", "drama")]
    assert log.item_relations.rows() == [(10, "related", 20)]
    (tmp_path / "w.csv.gz").write_bytes(gzip.compress(b"userID,friendID,weight\n1,2,0.5\n2,1,\n"))
    weighted = read(put, social={"path": str(tmp_path / "w.csv.gz"), "columns": {"src": "userID", "dst": "friendID"}})
    assert weighted.social.rows() == [(1, 2, 0.5), (2, 1, 1.0)]


def test_triples_of_integers_stay_integers(put) -> None:
    assert read(put, triples=put("kg.txt", "10\t0\t99\n")).triples.rows() == [(10, "0", 99)]


def test_missing_side_column_and_file(put) -> None:
    with pytest.raises(
        LogError, match=r"no column for item_id; the columns are sku, name.*of \[log\] in a run file: items = \{ path = .*, columns = \{ item_id = "
    ):
        read(put, items=put("items.csv", "sku,name\nx,Heat\n"))
    with pytest.raises(LogError, match="no column 'skuu' for item_id.*did you mean 'sku'"):
        read(put, items={"path": put("items.csv", "sku,name\nx,Heat\n"), "columns": {"item_id": "skuu"}})
    with pytest.raises(LogError, match="no such file"):
        read(put, users="nowhere.csv")
    with pytest.raises(LogError, match="'name' occurs 2 times"):
        read(put, items=put("items.csv", "item,name,name\n1,2,3\n"))
    with pytest.raises(LogError, match="no usable row"):
        read(put, items=put("items.csv", "item,name\n1,2,3\n"))


def test_media_arrays(put, tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float16).reshape(2, 3)
    np.save(tmp_path / "image.npy", vectors)
    pl.DataFrame({"item_id": ["20", "10"], "sound": vectors.astype(np.float64).tolist()}).write_parquet(
        tmp_path / "s.parquet"
    )
    media = {
        "row": str(tmp_path / "image.npy"),
        "image": {"path": str(tmp_path / "image.npy"), "ids": put("ids.txt", "10\n20\n")},
        "sound": str(tmp_path / "s.parquet"),
    }
    found = read(put, media=media).media
    assert found["row"].ids.to_list() == [0, 1] and found["image"].ids.to_list() == [10, 20]
    assert found["sound"].ids.to_list() == [20, 10]
    for part in found.values():
        assert part.vectors.dtype == np.float32 and np.array_equal(part.vectors, vectors.astype(np.float32))


def test_bad_media(put, tmp_path: Path) -> None:
    path = str(tmp_path / "image.npy")
    np.save(path, np.zeros((2, 3)))
    with pytest.raises(LogError, match="holds 1 ids but .* 2 vectors"):
        read(put, media={"image": {"path": path, "ids": put("ids.txt", "10\n")}})
    with pytest.raises(LogError, match="item id 10 occurs twice"):
        read(put, media={"image": {"path": path, "ids": put("ids.txt", "10\n10\n")}})
    with pytest.raises(LogError, match="row 1 has the item id 'x', but item ids are Int64"):
        read(put, media={"image": {"path": path, "ids": put("ids.txt", "10\nx\n")}})
    np.save(path, np.array([[0.0, 1.0], [np.nan, 1.0]]))
    with pytest.raises(LogError, match="row 1 and 0 more hold NaN"):
        read(put, media={"image": path})
    np.save(path, np.zeros(3))
    with pytest.raises(LogError, match=r"shape \(n, F\), got float64 \(3,\)"):
        read(put, media={"image": path})
    with pytest.raises(LogError, match="damaged, cut short or pickled"):
        read(put, media={"image": put("image.npy", "no array")})
    pl.DataFrame({"item_id": [1, 2], "v": [[1.0], [1.0, 2.0]]}).write_parquet(tmp_path / "v.parquet")
    with pytest.raises(LogError, match="every vector must hold 2 numbers, but row 0"):
        read(put, media={"image": str(tmp_path / "v.parquet")})
    with pytest.raises(ValueError, match="float32 of shape"):
        Media(pl.Series([1]), np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="row 1 and 0 more hold NaN or infinite values; remove or replace them"):
        Media(pl.Series([1, 2]), np.array([[1], [np.nan]], np.float32))
    with pytest.raises(ValueError, match="the item id 7 occurs twice; keep one row an item"):
        Media(pl.Series([7, 7]), np.ones((2, 1), np.float32))


def test_log_made_in_memory_is_checked() -> None:
    with pytest.raises(ValueError, match=r"events\.user_id must be Int64 or String, got no such column"):
        InteractionLog(pl.LazyFrame({"user": [1]}))
