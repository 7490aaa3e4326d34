"""errors, settings, registry and progress: what every room stands on. Atomic writes have a file of their own."""

from __future__ import annotations

import sys
from typing import Literal

import pytest
from pydantic import Field

from graphrec import errors
from graphrec.errors import ConfigError, GraphrecError, MissingExtraError, UnknownIdError, nearest, unknown_name
from graphrec.progress import SILENT, ConsoleReporter, Reporter
from graphrec.registry import resolve
from graphrec.settings import Settings, parse
from graphrec.toml_text import toml_sections

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Inner(Settings):
    method: Literal["time", "random"] = "time"


class Example(Settings):
    epochs: int = Field(10, ge=1)
    learning_rate: float = 0.1
    split: Inner = Inner()
    name: str


@pytest.mark.parametrize(
    "name", [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
)
def test_every_error_is_a_graphrec_error_with_a_docstring(name):
    error = getattr(errors, name)
    assert issubclass(error, GraphrecError) and error.__doc__


def test_an_unknown_id_is_a_key_error_that_reads_as_text():
    error = UnknownIdError("unknown user 'u1'")
    assert isinstance(error, KeyError) and str(error) == "unknown user 'u1'" and str(UnknownIdError()) == ""


def test_a_missing_extra_names_the_command():
    error = MissingExtraError("sqlalchemy", "sql", "reading a database")
    assert isinstance(error, ImportError)
    assert "pip install 'graphrec[sql]'" in str(error) and "sqlalchemy" in str(error)


@pytest.mark.parametrize(
    ("name", "hint"), [("lightgnc", "; did you mean 'lightgcn'?"), ("zzz", ""), (17, "; did you mean '170'?")]
)
def test_nearest(name, hint):
    assert nearest(name, ["lightgcn", "popularity", 170]) == hint


def test_unknown_name_lists_the_choices():
    assert str(unknown_name("model", "popularty", {"popularity": 1, "bpr-mf": 2})) == (
        "unknown model 'popularty'; choose one of bpr-mf, popularity; did you mean 'popularity'?"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "epoch": 3}, "here epoch: unknown key; the keys are epochs, learning_rate, name, split; did you mean 'epochs'?"),
        ({"name": "x", "epochs": 0}, "here epochs: input should be greater than or equal to 1, got 0"),
        ({"name": "x", "learning_rate": float("inf")}, "here learning_rate: input should be a finite number, got inf"),
        ({"name": "x", "split": {"metod": 1}}, "here split.metod: unknown key; the keys are method; did you mean 'method'?"),
        ({}, "here name: required but missing"),
    ],
)  # fmt: skip
def test_settings_are_refused_by_key_rule_and_value(values, message):
    with pytest.raises(ConfigError) as error:
        parse(Example, values, "here")
    assert str(error.value) == message


def test_every_wrong_key_has_its_line():
    with pytest.raises(ConfigError) as error:
        parse(Example, {"epochs": 0, "learning_rate": "fast"}, "here")
    assert len(str(error.value).splitlines()) == 3


def test_the_place_can_depend_on_the_key():
    with pytest.raises(ConfigError) as error:
        parse(Example, {"epochs": 0, "name": "x", "split": {"metod": 1}}, lambda key: f"<{key}>")
    assert [line.split(":")[0] for line in str(error.value).splitlines()] == ["<epochs> epochs", "<split.metod> split.metod"]


def test_settings_cannot_be_changed_and_round_trip():
    settings = parse(Example, {"name": "x", "split": {"method": "random"}}, "here")
    with pytest.raises(Exception, match="frozen"):
        settings.epochs = 3
    assert parse(Example, settings.model_dump(), "here") == settings


def test_resolve_imports_the_registered_object():
    assert resolve("test", {"base": "graphrec.errors:GraphrecError"}, "base") is GraphrecError


def test_resolve_names_the_nearest():
    with pytest.raises(ConfigError, match="unknown test 'bsae'; choose one of base; did you mean 'base'"):
        resolve("test", {"base": "graphrec.errors:GraphrecError"}, "bsae")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mymod:Mine", "'mymod:Mine', and there is no module mymod on the path"),
        ("graphrec.mymod.deep:Mine", "'graphrec.mymod.deep:Mine', and there is no module graphrec.mymod on the path"),
        ("graphrec.errors:ConfigEror", "and graphrec.errors has no ConfigEror; did you mean 'ConfigError'"),
        ("graphrec.errors", 'which is no text of the form "package.module:attribute"'),
        (GraphrecError, "<class 'graphrec.errors.GraphrecError'>, which is no text of the form"),
    ],
)
def test_resolve_names_the_entry_whose_target_is_not_there(target, message):
    with pytest.raises(ConfigError, match=f"the test 'base' is registered as .*{message}"):
        resolve("test", {"base": target}, "base")


def test_what_a_registered_module_cannot_import_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "wants_more.py").write_text("import no_such_package_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        resolve("test", {"base": "wants_more:Base"}, "base")


def test_the_silent_reporter_takes_everything(capsys):
    assert isinstance(SILENT, Reporter)
    with SILENT.task("step", total=3, unit="rows") as task:
        task.advance(2)
        task.show(loss=0.5)
    SILENT.note("a note")
    assert capsys.readouterr() == ("", "")


def test_the_console_reporter_draws_on_standard_error_only(capsys):
    reporter = ConsoleReporter()
    with reporter.task("sampling [x]", total=2, unit="batches") as task:
        task.advance(2)
        task.show(loss=0.123456, epoch=1)
    with reporter.task("of unknown length") as task:
        task.advance()
    reporter.note("kept: [not markup] " + "x" * 200)
    printed = capsys.readouterr()
    assert printed.out == ""
    for text in ("2/2 batches", "loss=0.1235", "epoch=1", "[not markup] " + "x" * 200):
        assert text in printed.err


def test_the_console_reporter_closes_its_bar_when_the_step_fails(capsys):
    with pytest.raises(ZeroDivisionError), ConsoleReporter().task("step", total=2):
        1 / 0  # noqa: B018
    with ConsoleReporter().task("again", total=1) as task:  # a second live display would be refused
        task.advance()


def test_tasks_nest(capsys):
    reporter = ConsoleReporter()
    with reporter.task("outer", total=1) as outer:
        with reporter.task("inner", total=1) as inner:
            inner.advance()
        outer.advance()
    assert capsys.readouterr().err.startswith("outer 1/1")  # without a terminal the steps within a step leave no line of their own


def test_sections_written_as_toml_read_back():
    sections = {
        "model": {"name": 'a "b"', "rank": 3, "loss": {"name": "bpr", "left out": None}, "left_out": None},
        "tune": {"space": {"model.rank": [1, 2.5, True]}},
    }
    assert tomllib.loads(toml_sections(sections)) == {
        "model": {"name": 'a "b"', "rank": 3, "loss": {"name": "bpr"}},
        "tune": {"space": {"model.rank": [1, 2.5, True]}},
    }
