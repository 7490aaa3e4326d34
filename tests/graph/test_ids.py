"""Original ids and dense indices, both ways."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphrec.errors import StoreError, UnknownIdError
from graphrec.graph.ids import IdMap, contained, distinct


def test_the_index_of_an_id_is_its_rank():
    ids = IdMap.fit(["b", "a", "ç", "b", "zz"], "user")
    assert ids.series.to_list() == ["a", "b", "zz", "ç"]  # by UTF-8 bytes
    assert ids.index_of(["ç", "a"]).tolist() == [3, 0]
    assert ids.ids_of([2, 0]).tolist() == ["zz", "a"]
    assert len(ids) == 4 and "a" in ids and "c" not in ids


def test_ids_that_are_indices_already_stay_themselves():
    ids = IdMap.fit(np.array([3, 0, 2, 1]))
    assert ids.index_of(np.arange(4)).tolist() == [0, 1, 2, 3]
    assert ids.ids_of([1]).dtype == np.int64


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1) | st.lists(st.text(), unique=True, min_size=1)
)
def test_there_and_back(values):
    ids = IdMap.fit(values)
    assert ids.ids_of(ids.index_of(values)).tolist() == values
    assert sorted(ids.index_of(values).tolist()) == list(range(len(values)))


@pytest.mark.parametrize("values", [[7, 2**62, -3], ["x", "y", ""]])
def test_saved_and_loaded(values, tmp_path):
    ids = IdMap.fit(values, "item")
    ids.save(tmp_path / "item.parquet")
    assert pl.read_parquet(tmp_path / "item.parquet").columns == ["id", "index"]
    loaded = IdMap.load(tmp_path / "item.parquet", "item")
    assert loaded.series.to_list() == ids.series.to_list() and loaded.dtype == ids.dtype


def test_text_from_the_command_line_finds_integer_ids_and_the_other_way_round():
    numbers = IdMap.fit([1, 7, 12], "user")
    assert numbers.index_of(["7", "12"]).tolist() == [1, 2]
    assert numbers.find(["07", " 7", "+7", "7.0", ""]).tolist() == [-1] * 5
    assert IdMap.fit(["7", "8"]).index_of([8]).tolist() == [1]


def test_unknown_ids_are_named_with_the_nearest_and_their_number():
    users = IdMap.fit([f"user{n:03d}" for n in range(500)], "user")
    with pytest.raises(
        UnknownIdError, match=r"user id 'user0421' is not among the 500 known users; did you mean 'user\d+'"
    ):
        users.index_of(["user0421"])
    with pytest.raises(UnknownIdError, match=r"user ids 'x', 'y' \(3 of the 4 asked for\)"):
        users.index_of(["x", "user001", "y", "x"])
    with pytest.raises(KeyError, match="the nearest known id is 9"):
        IdMap.fit([1, 9, 100], "item").index_of([12])
    with pytest.raises(UnknownIdError):
        IdMap.fit([], "item").index_of([1])


def test_wrong_kinds_are_refused():
    ids = IdMap.fit([1, 2], "user")
    for wrong in ("1", 1, [1.0], [True], [None]):
        with pytest.raises(TypeError, match="ids must be"):
            ids.index_of(wrong)
    with pytest.raises(IndexError, match="user index must be 0 to 1"):
        ids.ids_of([2])
    with pytest.raises(IndexError):
        ids.ids_of([-1])
    for series in (pl.Series([2, 1]), pl.Series([1, 1]), pl.Series([1, None]), pl.Series([1.0])):
        with pytest.raises(ValueError, match="ids must be"):
            IdMap(series)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "user.parquet").write_bytes(b"PAR1 but no more")
    for name in ("user.parquet", "missing.parquet"):
        with pytest.raises(StoreError, match=name):
            IdMap.load(tmp_path / name)


@given(st.lists(st.integers(-5, 5)))
def test_distinct_is_unique(values):
    keys = np.array(values, dtype=np.int64)
    assert distinct(keys).tolist() == np.unique(keys).tolist()


@given(st.lists(st.integers(-5, 5)), st.lists(st.integers(-5, 5)))
def test_contained_is_isin(values, others):
    keys, among = np.array(values, dtype=np.int64), np.array(others, dtype=np.int64)
    assert contained(keys, np.sort(among)).tolist() == np.isin(keys, among).tolist()
    square = contained(np.array([[3, 4], [5, 9]]), np.array([4, 9]))
    assert square.tolist() == [[False, True], [False, True]] and not contained(square, np.array([])).any()


def test_the_nearest_ids_by_distance_and_by_spelling():
    assert IdMap.fit([1, 5, 9, 40]).near(8, 2) == [9, 5] and IdMap.fit([1, 5, 9]).near("x") == []
    assert IdMap.fit(["anna", "bert", "hanna"]).near("anno")[0] == "anna"
    assert IdMap.fit(pl.Series([], dtype=pl.String)).near("anna") == []


@pytest.mark.parametrize("ids", [["Z", "a", "b", "ä", "字", "\U0001f600"], [-5, 0, 3, 9]])
def test_few_are_found_as_many_are(ids):
    ids_map = IdMap.fit(ids)
    asked = [*ids, "nobody" if isinstance(ids[0], str) else 4, None]
    many = ids_map.find([*asked * 20])
    for value, expected in zip(asked, many[: len(asked)], strict=True):
        assert ids_map.find(pl.Series([value], dtype=ids_map.dtype))[0] == expected
    assert many[: len(ids)].tolist() == [ids_map.series.to_list().index(value) for value in ids]
