"""Text files as lazy tables of fields: unpacked, decoded, split, with the line number of every row."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs.files import READ_ERRORS, damaged, first_bytes, open_plain
from graphrec.logs.raw import FILE, LINE, PROBLEM, RAW, Source

_CHUNK = 1 << 22
_UNIT = "\x1f"  # separates the fields of a quoted file once its quotes are resolved
_UTF8 = ("utf-8", "utf8", "utf-8-sig")


@dataclass(frozen=True)
class TextFile:
    """A plain UTF-8 file that may be scanned.

    Args:
        name: the path as the user knows it, for messages and rejects.
        path: the file to scan: the original, or an unpacked or decoded copy.
        quoted: whether a double quote occurs.
        damaged: whether bytes that are no text were replaced by U+FFFD.
    """

    name: str
    path: Path
    quoted: bool
    damaged: bool

    def head(self, count: int = 100) -> list[str]:
        """The first lines that are not blank, without line ends and byte order mark; the last may be cut."""
        lines = first_bytes(self.path, 1 << 18).decode("utf-8", "ignore").removeprefix("\ufeff").splitlines()
        return [line for line in lines if line.strip()][:count]


def open_text(path: Path, encoding: str, source: Source) -> TextFile:
    """Make `path` scannable, in one streaming pass over its bytes; a copy is written only where one is needed.

    Raises:
        LogError: the file is empty, damaged, or not text in `encoding` at all (UTF-16, binary).
    """
    head = first_bytes(path)
    plain = encoding.lower() in _UTF8
    if plain and (head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head):
        raise LogError(f"{path} is not UTF-8 text (it looks like UTF-16 or binary); set encoding = \"utf-16\" if it is text")
    copy = source.spool_path(".txt") if path.suffix.lower() in (".gz", ".zst") or not plain else None
    quoted = broken = False
    decode = codecs.getincrementaldecoder("utf-8" if plain else encoding)("strict" if copy is None else "replace").decode
    try:
        output = open(copy, "wb") if copy is not None else None
        try:
            for chunk, last in _chunks(path):
                quoted = quoted or b'"' in chunk
                if not plain or not chunk.isascii() or broken:
                    text = decode(chunk, last)
                    broken = broken or "\ufffd" in text
                    chunk = text.encode()
                if output is not None:
                    output.write(chunk)
        finally:
            if output is not None:
                output.close()
    except UnicodeDecodeError:
        return _repair(path, source)
    except READ_ERRORS as error:
        raise damaged(path, error) from error
    return TextFile(str(path), copy or path, quoted, broken)


def _chunks(path: Path) -> Iterator[tuple[bytes, bool]]:
    with open_plain(path) as handle:
        while chunk := handle.read(_CHUNK):
            yield chunk, False
    yield b"", True


def _repair(path: Path, source: Source) -> TextFile:
    copy = source.spool_path(".txt")
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    quoted = False
    with open(copy, "wb") as output:
        for chunk, last in _chunks(path):
            quoted = quoted or b'"' in chunk
            output.write(decode(chunk, last).encode())
    return TextFile(str(path), copy, quoted, True)


def scan_lines(text: TextFile, skip: int = 0) -> pl.LazyFrame:
    """All lines but the first `skip` and blank ones: FILE, LINE (from 1), RAW (the line) and PROBLEM."""
    line = pl.col(RAW).str.strip_chars_end("\r\n")
    frame = pl.scan_lines(text.path, name=RAW, row_index_name=LINE, row_index_offset=1, glob=False)
    frame = frame.filter(pl.col(LINE) > skip).with_columns(line)
    frame = frame.filter(pl.col(RAW).str.strip_chars() != "")
    frame = frame.with_columns(pl.when(pl.col(LINE) == 1).then(pl.col(RAW).str.strip_prefix("\ufeff")).otherwise(RAW).alias(RAW))
    problem = pl.lit(None, pl.String)
    if text.damaged:
        problem = pl.when(pl.col(RAW).str.contains("\ufffd", literal=True)).then(pl.lit("undecodable bytes"))
    return frame.select(pl.lit(text.name).alias(FILE), pl.col(LINE).cast(pl.Int64), RAW, problem.alias(PROBLEM))


def scan_fields(text: TextFile, separator: str, width: int, skip: int, source: Source) -> pl.LazyFrame:
    """The fields of every row as String columns "0", "1", ... beside FILE, LINE, RAW and PROBLEM.

    A row with more or fewer than `width` fields has the problem "ragged line". Double quotes protect separators and
    line ends, as in RFC 4180; LINE is then the line on which the row begins.

    Raises:
        LogError: a quote is never closed.
    """
    if text.quoted and len(separator) == 1:
        frame, separator = _scan_quoted(text, separator, skip, source), _UNIT
    else:
        frame = scan_lines(text, skip)
    names = [str(position) for position in range(width)]
    fields = pl.col(RAW).str.split_exact(separator, width).struct.rename_fields([*names, "rest"]).alias("fields")
    ragged = pl.col(names[-1]).is_null() | pl.col("rest").is_not_null()
    frame = frame.with_columns(fields).unnest("fields")
    return frame.with_columns(
        pl.when(pl.col(PROBLEM).is_not_null()).then(PROBLEM).when(ragged).then(pl.lit("ragged line")).alias(PROBLEM)
    ).drop("rest")


def _scan_quoted(text: TextFile, separator: str, skip: int, source: Source) -> pl.LazyFrame:
    """Resolve the quotes into a copy whose lines are `line number, field, field, ...` with unit separators."""
    copy = source.spool_path(".fields")
    blank = str.maketrans({"\n": " ", "\r": " ", _UNIT: " "})
    start = 1
    with open(text.path, encoding="utf-8-sig", newline="") as rows, open(copy, "w", encoding="utf-8", newline="\n") as output:
        reader = csv.reader(rows, delimiter=separator, strict=False)
        try:
            for row in reader:
                if row and start > skip:
                    output.write(f"{start}{_UNIT}{_UNIT.join(field.translate(blank) for field in row)}\n")
                start = reader.line_num + 1
        except csv.Error as error:
            raise LogError(f"{text.name} line {start}: {error}; a double quote opened there is never closed") from error
    resolved = scan_lines(TextFile(text.name, copy, False, text.damaged))
    parts = pl.col(RAW).str.splitn(_UNIT, 2).struct
    return resolved.with_columns(parts.field("field_0").cast(pl.Int64).alias(LINE), parts.field("field_1").alias(RAW))


def split_line(line: str, separator: str) -> list[str]:
    """Split one line as `scan_fields` does."""
    if '"' in line and len(separator) == 1:
        return next(csv.reader([line], delimiter=separator), [])
    return line.split(separator)


def sniff_separator(lines: list[str]) -> str:
    """The separator that splits the first lines most evenly, at least into two fields; a comma when none does."""
    best, best_score = ",", (0.0, 0)
    for candidate in ("\t", "::", ",", ";", "|", " "):
        counts = [len(split_line(line, candidate)) for line in lines[:50]]
        usual = max(set(counts), key=counts.count)
        score = (counts.count(usual) / len(counts), usual) if usual > 1 else (0.0, 0)
        if score[0] > best_score[0]:
            best, best_score = candidate, score
    return best
