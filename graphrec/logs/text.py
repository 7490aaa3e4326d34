"""Text files as lazy tables of fields: unpacked, decoded, split, with the line number of every row."""

from __future__ import annotations

import codecs
import csv
import errno
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs.files import COMPRESSIONS, READ_ERRORS, damaged, first_bytes, open_plain
from graphrec.logs.raw import FILE, LINE, PROBLEM, RAW, Source

_CHUNK = 1 << 22
_UNIT = "\x1f"  # separates the fields of a quoted file once its quotes are resolved
_NEW_LINE, _RETURN = "\x1e", "\x1d"  # stand for line ends within the fields there
_DECIMAL = re.compile(r"\s*[+-]?\d*,\d+\s*")
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
        raise LogError(
            f'{path} is not UTF-8 text (it looks like UTF-16 or binary); set encoding = "utf-16" if it is text'
        )
    try:
        if plain and path.suffix.lower() not in COMPRESSIONS:
            try:
                return _inspect(path)
            except UnicodeDecodeError:
                pass  # the copy has U+FFFD in place of the bad bytes
        return _copy(path, "utf-8" if plain else encoding, source.spool_path(".txt"))
    except READ_ERRORS as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise damaged(path, error) from error


def _inspect(path: Path) -> TextFile:
    """Check in one pass that the bytes are UTF-8; raises UnicodeDecodeError when they are not."""
    decode = codecs.getincrementaldecoder("utf-8")("strict").decode
    quoted, ascii_so_far = False, True
    for chunk in _chunks(path):
        quoted = quoted or b'"' in chunk
        if ascii_so_far and chunk.isascii():
            continue
        ascii_so_far = False
        decode(chunk)
    decode(b"", True)
    return TextFile(str(path), path, quoted, False)


def _copy(path: Path, encoding: str, copy: Path) -> TextFile:
    """Unpack and decode into a UTF-8 copy."""
    decode = codecs.getincrementaldecoder(encoding)("replace").decode
    quoted = broken = False
    with open(copy, "wb") as output:
        for chunk in itertools.chain(_chunks(path), [b""]):
            text = decode(chunk, not chunk)
            quoted, broken = quoted or '"' in text, broken or "\ufffd" in text
            output.write(text.encode())
    return TextFile(str(path), copy, quoted, broken)


def _chunks(path: Path) -> Iterator[bytes]:
    with open_plain(path) as handle:
        while chunk := handle.read(_CHUNK):
            yield chunk


def scan_lines(text: TextFile, skip: int = 0) -> pl.LazyFrame:
    """All lines but the first `skip` and blank ones: FILE, LINE (from 1), RAW (the line) and PROBLEM."""
    line = pl.col(RAW).str.strip_chars_end("\r\n")
    frame = pl.scan_lines(text.path, name=RAW, row_index_name=LINE, row_index_offset=1, glob=False)
    frame = frame.filter(pl.col(LINE) > skip)
    frame = frame.with_columns(
        pl.when(pl.col(LINE) == 1).then(line.str.strip_prefix("\ufeff")).otherwise(line).alias(RAW)
    )
    frame = frame.filter(pl.col(RAW).str.strip_chars(" ") != "")
    problem = pl.lit(None, pl.String)
    if text.damaged:
        problem = pl.when(pl.col(RAW).str.contains("\ufffd", literal=True)).then(pl.lit("undecodable bytes"))
    return frame.select(pl.lit(text.name).alias(FILE), pl.col(LINE).cast(pl.Int64), RAW, problem.alias(PROBLEM))


def scan_fields(text: TextFile, separator: str, width: int, skip: int, source: Source) -> pl.LazyFrame:
    """The fields of every row as String columns "0", "1", ... beside FILE, LINE, RAW and PROBLEM.

    A row with more or fewer than `width` fields has the problem "ragged line". Double quotes protect separators and
    line ends, as in RFC 4180; LINE is then the line on which the row begins.
    """
    if text.quoted and len(separator) == 1:
        (frame, folded), between = _scan_quoted(text, separator, width, skip, source), _UNIT
    else:
        frame, folded, between = scan_lines(text, skip), False, separator
    names = [str(position) for position in range(width)]
    fields = pl.col(RAW).str.split_exact(between, width).struct.rename_fields([*names, "rest"]).alias("fields")
    ragged = pl.col(names[-1]).is_null() | pl.col("rest").is_not_null()
    frame = frame.with_columns(fields).unnest("fields")
    if between != separator:
        frame = frame.with_columns(pl.col(RAW).str.replace_all(between, separator, literal=True))
    if folded:
        frame = frame.with_columns(_with_line_ends(name) for name in (RAW, *names))
    return frame.with_columns(
        pl.when(pl.col(PROBLEM).is_not_null()).then(PROBLEM).when(ragged).then(pl.lit("ragged line")).alias(PROBLEM)
    ).drop("rest")


def _with_line_ends(name: str) -> pl.Expr:
    return pl.col(name).str.replace_all(_NEW_LINE, "\n", literal=True).str.replace_all(_RETURN, "\r", literal=True)


def _scan_quoted(text: TextFile, separator: str, width: int, skip: int, source: Source) -> tuple[pl.LazyFrame, bool]:
    """Resolve the quotes into a copy whose lines are `line number, field, field, ...` with unit separators.

    Also says whether a field holds a line end, for which another sign stands there.
    """
    copy = source.spool_path(".fields")
    one_line = str.maketrans({"\n": _NEW_LINE, "\r": _RETURN, _NEW_LINE: " ", _RETURN: " ", _UNIT: " "})
    with (
        open(text.path, encoding="utf-8-sig", newline="\n") as rows,
        open(copy, "w", encoding="utf-8", newline="\n") as output,
    ):
        folded = False
        for number, row in _records(rows, separator, width):
            if number > skip:
                line = _UNIT.join(field.translate(one_line) for field in row)
                folded = folded or _NEW_LINE in line or _RETURN in line
                output.write(f"{number}{_UNIT}{line}\n")
    resolved = scan_lines(TextFile(text.name, copy, False, text.damaged))
    parts = pl.col(RAW).str.splitn(_UNIT, 2).struct
    frame = resolved.with_columns(parts.field("field_0").cast(pl.Int64).alias(LINE), parts.field("field_1").alias(RAW))
    return frame, folded


def _records(lines: Iterator[str], separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row. A quote that is never closed would swallow the lines after it, so lines that
    do not make one row of `width` fields together are taken one by one."""
    held: list[str] = []

    def hold() -> Iterator[str]:
        for line in lines:
            held.append(line)
            yield line

    done, ended = 0, False
    while not ended:
        try:
            row = next(csv.reader(hold(), delimiter=separator), None)
            ended = row is None and not held
        except csv.Error:
            row = None
        if row is not None and (len(held) == 1 or len(row) == width):
            rows = [row] if row else []
        else:
            rows = [split_line(line.rstrip("\r\n"), separator) for line in held]
        yield from enumerate(rows, start=done + 1)
        done += len(held)
        held.clear()


def split_line(line: str, separator: str) -> list[str]:
    """Split one line as `scan_fields` does."""
    if '"' in line and len(separator) == 1:
        try:
            return next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            pass  # a lone carriage return, or an enormous field: no quotes are meant
    return line.split(separator)


def sniff_separator(lines: list[str], decimal_comma: bool = False) -> str | None:
    """The separator that splits the first lines most evenly, at least into two fields; a comma when none does.

    With `decimal_comma` it is never a comma, and None when none does. Where a comma and a semicolon split all lines alike, it is the
    semicolon if no comma stands anywhere but in numbers behind the second semicolon: `7;12;3,5`.
    """
    best, best_score = None if decimal_comma else ",", (0.0, 0)
    for candidate in ("\t", "::", ";", "|", " ") if decimal_comma else ("\t", "::", ",", ";", "|", " "):
        counts = [len(split_line(line, candidate)) for line in lines[:50]]
        usual = max(set(counts), key=counts.count)
        score = (counts.count(usual) / len(counts), usual) if usual > 1 else (0.0, 0)
        decimal = candidate == ";" and best == "," and score[0] == best_score[0] == 1 and _has_decimal_commas_only(lines[:50])
        if score[0] > best_score[0] or decimal:
            best, best_score = candidate, score
    return best


def _has_decimal_commas_only(lines: list[str]) -> bool:
    """Whether semicolons cut lines so that every comma is the one in a number, and none in the first two fields, which are ids."""
    for line in lines:
        first, second, *others = split_line(line, ";") + [""]
        if "," in first + second or not all(_DECIMAL.fullmatch(field) for field in others if "," in field):
            return False
    return True
