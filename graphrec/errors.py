"""Exceptions that a user of graphrec can cause and is expected to read.

Programming errors (a wrong shape, a wrong type) raise Python's built-in exceptions instead. Every message gives
the rule, the value received, and the mend.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable


class GraphrecError(Exception):
    """Base class of everything in this module. The command line prints it as one message and exits with status 1."""


class LogError(GraphrecError):
    """A log source cannot be read: missing file, missing column, unreadable bytes, too many bad rows."""


class ConfigError(GraphrecError):
    """A run file or a setting is wrong: unknown key, wrong type, value out of range."""


class StoreError(GraphrecError):
    """A graph store cannot be written, is damaged, or was written by another version."""


class RunError(GraphrecError):
    """A run folder, checkpoint or export cannot be written, is damaged, or does not fit the store."""


class UnknownIdError(GraphrecError, KeyError):
    """A user or item id does not occur in the training part of the store."""

    def __str__(self) -> str:  # KeyError would print the repr of the message
        return str(self.args[0]) if self.args else ""


class UnsupportedError(GraphrecError):
    """The model or backend cannot do what was asked, for example embeddings of a popularity model."""


class MissingExtraError(GraphrecError, ImportError):
    """An optional dependency is not installed; the message names the extra to install."""

    def __init__(self, package: str, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package}, which is not installed; run: pip install 'graphrec[{extra}]'"
        )


class DatasetError(GraphrecError):
    """A public data set cannot be obtained: no network, wrong checksum, unsafe archive."""


class LanguageModelError(GraphrecError):
    """A language model cannot be loaded, or its endpoint refuses or gives no usable answer."""


def shell_word(path: str | os.PathLike[str]) -> str:
    """Return a path as it is typed in a shell, for commands that messages name."""
    return shlex.quote(os.fspath(path))


def seen_from(path: str | os.PathLike[str]) -> str:
    """Return `" (in the folder /x)"`, the working directory, for a relative path that leads nowhere; nothing for others."""
    return "" if os.path.isabs(path) else f" (in the folder {os.getcwd()})"


def nearest(name: object, choices: Iterable[object]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest of `choices`, or an empty string when none is near."""
    close = difflib.get_close_matches(str(name), [str(choice) for choice in choices], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_list_length(k: int, available: int, what: str = "items in the catalogue") -> None:
    """Check that a list of `k` can be had.

    Raises:
        ConfigError: k is below 1 or above what is available.
    """
    if not 1 <= k <= available:
        raise ConfigError(f"k must lie in 1..{available}, the number of {what}, got {k}; choose another k (--k)")


def unknown_name(kind: str, name: object, choices: Iterable[str]) -> ConfigError:
    """Build the error for an unknown registered name: it lists the choices and the nearest one."""
    known = sorted(choices)
    return ConfigError(f"unknown {kind} {name!r}; choose one of {', '.join(known)}{nearest(name, known)}")
