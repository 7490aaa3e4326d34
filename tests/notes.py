"""A reporter that remembers what it is told."""

from __future__ import annotations

from graphrec.progress import Reporter


class Notes(Reporter):
    """Keeps the notes as `lines`."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)
