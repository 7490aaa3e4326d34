"""Numbers that stand as text, with a decimal point or a decimal comma."""

from __future__ import annotations

import polars as pl


def parse(text: pl.Expr, decimal_comma: bool) -> pl.Expr:
    """The Float64 that a trimmed text writes, null where it writes none; with `decimal_comma`, `3,5` is 3.5."""
    return (text.str.replace(",", ".", literal=True) if decimal_comma else text).cast(pl.Float64, strict=False)


def has_comma(text: pl.Expr) -> pl.Expr:
    """Whether a trimmed text is a number with a decimal comma."""
    return text.str.contains(r"^[+-]?\d*,\d+([eE][+-]?\d+)?$")
