"""Side tables as arrays: what counts as a number, a category or several values."""

from __future__ import annotations

import numpy as np
import polars as pl

from graphrec.features.attributes import read_attributes


def column(values, dtype=None):
    table = pl.DataFrame({"item_id": range(len(values)), "x": pl.Series(values, dtype=dtype, strict=False)})
    return read_attributes(table)


def test_numbers_stay_numbers_and_text_of_numbers_becomes_them():
    assert column([1990, 2000, None, 2010] * 3).numeric["x"][:2].tolist() == [1990.0, 2000.0]
    text = column(["1990", " 2000", None, "2010"] * 3).numeric["x"]
    np.testing.assert_array_equal(text[:4], [1990, 2000, np.nan, 2010])
    assert "x" in column([1.5, float("inf"), 2.5]).numeric and np.isnan(
        column([1.5, float("inf"), 2.5]).numeric["x"][1]
    )


def test_codes_with_a_leading_zero_are_categories():
    found = column(["02138", "55414"] * 6)
    assert not found.numeric and found.value_names["x"] == ["02138", "55414"]


def test_values_are_indicators_and_rare_ones_are_left_out():
    found = column(["red"] * 6 + ["blue"] * 5 + ["odd", None])
    assert found.value_names["x"] == ["red", "blue"]
    assert found.values["x"].dtype == np.float32
    assert found.values["x"][[0, 6, 11, 12]].tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


def test_text_of_several_values_is_taken_apart_where_the_parts_recur():
    for separator in ("|", ";", ",", " "):
        rows = [f"a{separator}b", "a", f"b{separator}c", f"c{separator}a", "b", f"c{separator}b", f"b{separator}a"] * 3
        found = column(rows)
        assert sorted(found.value_names["x"]) == ["a", "b", "c"], separator
        assert found.values["x"][0].sum() == 2
    assert column(["new york", "los angeles"] * 5).value_names["x"] == ["los angeles", "new york"]


def test_lists_and_booleans_are_values():
    assert column([["a", "b"], ["b"]] * 5 + [["c"]]).value_names["x"] == ["b", "a"]
    assert column([True, False] * 5).value_names["x"] == ["false", "true"]


def test_free_text_ids_constants_and_missing_tables_give_nothing():
    table = pl.DataFrame({"item_id": range(12), "title": ["same"] * 12, "code": [f"c{n}" for n in range(12)],
                          "one": [1.0] * 12, "always": ["yes"] * 12, "vector": [[0.1, 0.2]] * 12,
                          "none": pl.Series([None] * 12, dtype=pl.String)})  # fmt: skip
    for found in (read_attributes(table), read_attributes(None)):
        assert not found.numeric and not found.values and not found.value_names
