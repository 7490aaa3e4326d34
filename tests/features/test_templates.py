"""Texts from columns: what is missing leaves no debris."""

from __future__ import annotations

import polars as pl
import pytest
import scipy.sparse as sp

from graphrec.errors import ConfigError
from graphrec.features.templates import default_template, fill, histories

BOOKS = pl.DataFrame({
    "title": ["Emma", None, "Dune", None], "author": ["Austen", "Homer", None, None], "tags": [["love", "wit"], None, [], None],
    "year": [1815, None, 1965, None],
})  # fmt: skip


def test_missing_values_take_their_words_with_them():
    texts = fill("{title} by {author}. Tags: {tags}", BOOKS, "here")
    assert texts == ["Emma by Austen. Tags: love, wit", "by Homer", "Dune", ""]
    assert fill("{title} ({year})", BOOKS, "here") == ["Emma (1815)", "", "Dune (1965)", ""]
    assert fill("{author} ({year}): {title}", BOOKS, "here") == ["Austen (1815): Emma", "Homer", "(1965): Dune", ""]


def test_the_default_names_usual_columns_in_a_fixed_order():
    assert default_template(["year", "author", "Title"], "here") == "{Title}. {author}"
    with pytest.raises(ConfigError, match=r"here: none of the columns year is known to hold text"):
        default_template(["year"], "here")


def test_unknown_columns_are_named():
    with pytest.raises(ConfigError, match=r"names the column 'titel'.*did you mean 'title'"):
        fill("{titel}", BOOKS, "here")
    with pytest.raises(ConfigError, match="must name a column in braces"):
        fill("no column", BOOKS, "here")
    with pytest.raises(ConfigError, match="names the column 'history'"):
        fill("{history}", BOOKS, "here")


def test_a_history_is_the_heaviest_items_first():
    train = sp.csr_matrix([[1.0, 0, 3.0, 2.0], [0, 0, 0, 0]])
    assert histories(train, ["a", "b", "c", ""], 2) == ["c", ""]
    assert histories(train, ["a", "b", "c", "d"], 9) == ["c; d; a", ""]
