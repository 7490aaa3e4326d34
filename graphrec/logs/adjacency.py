"""Adjacency lists: one line a user, `user item item ...`, separated by blanks, tabs or another separator.

Pairs `user item`, one a line, are the same format with one item a line.
Source: the data files of LightGCN (He et al. 2020, arXiv:2002.02126) and of most papers that compare with it.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from graphrec.errors import LogError
from graphrec.logs.files import member
from graphrec.logs.raw import FILE, LINE, PROBLEM, RAW, RawLog, Source
from graphrec.logs.source import LogSettings
from graphrec.logs.table import SPLITS
from graphrec.logs.text import open_text, scan_lines


def read(source: Source, settings: LogSettings) -> RawLog:
    """Read adjacency files, or a folder with `train.txt`, `test.txt` and perhaps `valid.txt`, plain or compressed.

    A user without items gives no event. The files of a folder become the values of a column `split`.

    Raises:
        LogError: a file is empty or damaged, or a folder lacks its train or test file.
    """
    frames: list[pl.LazyFrame] = []
    for path in source.paths:
        if path.is_dir():
            frames += [
                _read_file(file, source, settings).with_columns(split=pl.lit(split))
                for split, file in split_files(path).items()
            ]
        else:
            frames.append(_read_file(path, source, settings))
    if len({"split" in frame.collect_schema() for frame in frames}) > 1:
        raise LogError("folders with a given split and single files cannot be one log; read the one or the other")
    return RawLog(pl.concat(frames))


def split_files(folder: Path) -> dict[str, Path]:
    """The files of a given split in `folder`: split name to path.

    Raises:
        LogError: there is no train or no test file.
    """
    found = {split: member(folder, f"{split}.txt") for split in SPLITS}
    for split in ("train", "test"):
        if found[split] is None:
            raise LogError(
                f"{folder}: no {split}.txt (nor {split}.txt.gz or .zst); a given split needs train.txt and test.txt"
            )
    return {split: path for split, path in found.items() if path is not None}


def _read_file(path: Path, source: Source, settings: LogSettings) -> pl.LazyFrame:
    lines = scan_lines(open_text(path, settings.encoding, source))
    if settings.separator is None:
        text = pl.col(RAW).str.replace_all(r"[ \t,]+", " ").str.strip_chars()
        ids = text.str.split(" ")
    else:
        ids = pl.col(RAW).str.strip_chars().str.split(settings.separator)
    rows = lines.with_columns(user_id=ids.list.first(), item_id=ids.list.slice(1))
    # A line keeps its text only where it is short: a bad item of a long list would repeat the list.
    raw = pl.when(pl.col(RAW).str.len_bytes() < 200).then(RAW).otherwise(pl.col(RAW).str.slice(0, 200) + "...")
    rows = rows.filter(pl.col("item_id").list.len() > 0).select(
        FILE, LINE, PROBLEM, raw.alias(RAW), "user_id", "item_id"
    )
    return rows.explode("item_id")
