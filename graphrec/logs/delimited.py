"""Delimited text: CSV, TSV and any other separator, with any column names, with or without a header."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs.columns import find_columns
from graphrec.logs.raw import FILE, LINE, PROBLEM, RAW, RawLog, Source
from graphrec.logs.source import Column, LogSettings
from graphrec.logs.text import TextFile, open_text, scan_fields, sniff_separator, split_line


def read(source: Source, settings: LogSettings) -> RawLog:
    """Read delimited text files, each with its own header.

    Raises:
        LogError: a file is empty, damaged or not text, or lacks a column.
    """
    frames, used = [], defaultdict(list)
    for path in source.paths:
        frame, columns = _read_file(path, source, settings)
        frames.append(frame)
        used[columns].append(path.name)
    for columns, names in used.items():  # a year of daily files has one line, not 365
        more = f" and {len(names) - 1:,} more file{'s' if len(names) > 2 else ''}" if len(names) > 1 else ""
        source.progress.note(f"{names[0]}{more}: {columns}")
    return RawLog(pl.concat(frames, how="diagonal"))


def _read_file(path: Path, source: Source, settings: LogSettings) -> tuple[pl.LazyFrame, str]:
    """The rows of a file, and which of its columns are used for what."""
    text = open_text(path, settings.encoding, source)
    layout = Layout.of(text, settings.separator, settings.header, settings.decimal_comma)
    mapping: dict[str, Column | None] = dict(settings.columns)
    if not layout.header and not any(isinstance(column, str) for column in mapping.values()):
        mapping = _by_position(mapping)
        for name, position in mapping.items():
            if isinstance(position, int) and position >= len(layout.names):
                raise LogError(
                    f"{path}: {name} should be column {position}, but with the separator {layout.separator!r} the first "
                    f"line has {len(layout.names)}; set separator, or columns to positions from 0"
                )
        found = {name: position for name, position in mapping.items() if isinstance(position, int)}
    else:
        found = find_columns(layout.names, mapping, str(path))
    unused = [name for position, name in enumerate(layout.names) if position not in found.values()]
    described = ", ".join(f"{name} = {layout.names[position]}" for name, position in found.items())
    described += f"; not used: {', '.join(unused)}" if unused else ""
    rows = layout.scan(text, source).select(
        FILE, LINE, PROBLEM, RAW, *[pl.col(str(position)).alias(name) for name, position in found.items()]
    )
    return rows, described


def _by_position(mapping: Mapping[str, Column | None]) -> dict[str, Column | None]:
    free = (position for position in range(len(mapping)) if position not in mapping.values())
    named = {"user_id", "item_id"}
    return {
        name: next(free) if column is None and name in named else column
        for name, column in mapping.items()
        if column is not None or name in named
    }


class Layout:
    """How one delimited file is laid out.

    Args:
        separator: what stands between fields.
        header: whether the first line names the columns.
        names: the column names, `column 0`, `column 1`, ... without header.
        skip: number of lines before the first row of data.
    """

    def __init__(self, separator: str, header: bool, names: list[str], skip: int) -> None:
        self.separator, self.header, self.names, self.skip = separator, header, names, skip

    @classmethod
    def of(cls, text: TextFile, separator: str | None, header: bool | None, decimal_comma: bool = False) -> Layout:
        """Read the layout off the first lines; `separator` and `header` are found where they are None.

        With `decimal_comma` a comma is no separator, and `3,5` a number.

        Raises:
            LogError: the file holds blank lines only, or no separator is found.
        """
        lines = text.head()
        if not lines:
            raise LogError(f"{text.name} holds no rows, only blank lines; check how it was written")
        separator = separator or sniff_separator(lines, decimal_comma)
        if separator is None:
            raise LogError(
                f"{text.name}: with decimal_comma = true a comma is no separator, and no other one splits {lines[0][:80]!r}; "
                "leave decimal_comma out, or set separator"
            )
        cells = [cell.strip() for cell in split_line(lines[0], separator)]
        header = not any(_is_number(cell, separator != ",") for cell in cells) if header is None else header
        names = cells if header else [f"column {position}" for position in range(len(cells))]
        return cls(separator, header, names, _first_line(text) if header else 0)

    def scan(self, text: TextFile, source: Source) -> pl.LazyFrame:
        """The rows of data as `scan_fields` gives them."""
        return scan_fields(text, self.separator, len(self.names), self.skip, source)


def _first_line(text: TextFile) -> int:
    """The number of the first line that is not blank."""
    with open(text.path, encoding="utf-8-sig") as lines:
        return next(number for number, line in enumerate(lines, start=1) if line.strip())


def _is_number(cell: str, decimal_comma: bool) -> bool:
    try:
        float(cell.replace(",", ".", 1) if decimal_comma else cell)
    except ValueError:
        return False
    return cell.lower() not in ("nan", "inf", "infinity")
