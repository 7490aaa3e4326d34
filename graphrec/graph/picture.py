"""What the pictures of a graph share: colours, the formats they are written in, and writing them whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from graphrec.atomic import atomic_file
from graphrec.errors import ConfigError, StoreError

FORMATS = (".png", ".svg")
NODE_COLORS = {"user": "#1f5fa8", "item": "#d1495b", "entity": "#2a9d8f"}
EDGE_COLORS = ("#7d8597", "#e07a1f", "#5b8e3f", "#8c5fb0", "#0f8b8d", "#b56576", "#a68a00", "#3d5a80")
INK = "#20242c"


def node_color(ntype: str) -> str:
    """Return the colour of a node type; one that is none of user, item and entity is grey."""
    return NODE_COLORS.get(ntype, "#6b7280")


def picture_format(path: str | os.PathLike[str]) -> str:
    """Return the format that the suffix of `path` names: "png" or "svg".

    Raises:
        ConfigError: another suffix, or none.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        got = f"the suffix {suffix!r}" if suffix else "no suffix"
        raise ConfigError(f"a picture is written as {' or '.join(FORMATS)}, got {got} in {os.fspath(path)!r}; rename it")
    return suffix[1:]


def save_picture(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a matplotlib figure in the format of its suffix, whole or not at all; text of an SVG stays text.

    Raises:
        ConfigError: as `picture_format`.
        StoreError: the file cannot be written.
    """
    import matplotlib as mpl

    form = picture_format(path)
    metadata = {"Date": None} if form == "svg" else None  # the same graph gives the same file
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "graphrec"}), atomic_file(path, StoreError) as temporary:
        figure.savefig(temporary, format=form, metadata=metadata)
