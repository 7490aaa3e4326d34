"""The cards that graphrec ships: complete, readable, and wrong ones explained."""

from __future__ import annotations

import pytest

from graphrec.errors import ConfigError, DatasetError
from graphrec.logs.card import describe, find_card, list_cards, read_card
from graphrec.logs.datasets import get_dataset
from graphrec.logs.source import LogSettings
from graphrec.settings import parse


def test_the_shipped_cards_are_sound():
    cards = list_cards()
    assert {"ml-100k", "ml-1m", "ml-latest-small", "gowalla", "yelp2018", "amazon-book", "hetrec-lastfm"} <= {
        card.name for card in cards
    }
    for entry in cards:
        settings = parse(LogSettings, entry.log_section("there"), f"card {entry.name}")
        paths = [settings.path] if isinstance(settings.path, str) else settings.path
        assert all(path.startswith("there") for path in paths)
        assert all(file.url.startswith("https://") and file.known_checksum for file in entry.files), entry.name
        assert entry.licence and entry.origin and entry.columns
        assert find_card(entry.name) == entry
        assert entry.title in describe(entry)


def test_unknown_names_and_wrong_cards_are_explained(tmp_path):
    with pytest.raises(DatasetError, match="unknown data set 'gowala'.*did you mean 'gowalla'"):
        get_dataset("gowala", tmp_path)
    for fault in ('sha256 = ""', 'path = "../x"', 'url = "file:///etc/passwd"', "shasum = 1"):
        text = f'name = "x"\n[[files]]\n{fault}\n'
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(ConfigError, match=f"card x.toml files.0.{fault.split()[0]}"):
            read_card(tmp_path / "x.toml")
