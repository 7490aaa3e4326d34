"""The conventions of `graphrec/cli/output.py`, on a verb made for the purpose."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from graphrec import cli
from graphrec.cli.output import Debug, Json, Output, Quiet, Seed, command, examples, format_cell
from graphrec.errors import ConfigError, UnknownIdError

FAILURES = {
    "own": ConfigError("rule [x], value, mend"),
    "key": UnknownIdError("unknown user 'u1'"),
    "bug": ZeroDivisionError("by zero"),
    "memory": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.\nframe 0"),
    "interrupt": KeyboardInterrupt(),
}


def verb(what: str, seed: Seed = None, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Print a result, or fail."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        io.note("a note")
        with io.reporter.task("step", total=2) as task:
            task.advance(2)
        if what in FAILURES:
            raise FAILURES[what]
        io.table("Title", ("name", "count", "share"), [("[bold]", 12345, 0.25), (None, 1, None)])
        io.line("a line")
        io.result({"value": float("nan"), "path": Path("a/b"), "array": np.arange(2), "day": datetime.date(2024, 1, 2)})


@pytest.fixture
def run(monkeypatch):
    module = types.ModuleType("verb_for_tests")
    module.verb, module.EXAMPLES = verb, ("graphrec verb [x] --json",)
    monkeypatch.setitem(sys.modules, "verb_for_tests", module)
    monkeypatch.setitem(cli.VERBS, "verb", "verb_for_tests")
    return lambda *arguments: CliRunner().invoke(cli.app, ["verb", *arguments])


def test_json_prints_one_object_and_nothing_else(run):
    result = run("x", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"value": None, "path": "a/b", "array": [0, 1], "day": "2024-01-02"}
    assert "a note" in result.stderr


def test_tables_and_lines_go_to_standard_output(run):
    result = run("x")
    for text in ("Title", "[bold]", "12,345", "0.2500", "a line"):
        assert text in result.stdout
    assert "a note" not in result.stdout


def test_quiet_silences_notes_and_bars_but_not_results(run):
    result = run("x", "--quiet")
    assert result.stderr == "" and "a line" in result.stdout


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("own", 1, "error: rule [x], value, mend\n"),
        ("key", 1, "error: unknown user 'u1'\n"),
        ("bug", 1, "unexpected error: ZeroDivisionError: by zero\nRun the command with --debug to see where.\n"),
        (
            "memory",
            1,
            "error: out of memory (DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.); set a smaller rank, embedding_dim "
            + "or batch_size, whichever the model has, or take a machine with more memory; --debug shows where\n",
        ),
        ("interrupt", 130, "interrupted; what was finished is kept, and no file is half-written\n"),
    ],
)
def test_failures_are_one_message_and_an_exit_code(run, what, code, message):
    result = run(what, "--quiet", "--json")
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", message)


def test_sigterm_ends_a_command_as_ctrl_c_does():
    script = """
import os, signal, time, typer
from graphrec.cli.output import command
def verb():
    with command():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            print("cleared up")
typer.run(verb)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "cleared up\n")
    assert done.stderr == "interrupted; what was finished is kept, and no file is half-written\n"


def test_debug_lets_the_traceback_through(run):
    assert isinstance(run("bug", "--debug").exception, ZeroDivisionError)
    assert isinstance(run("own", "--debug").exception, ConfigError)


@pytest.mark.parametrize("arguments", [(), ("x", "--unknown"), ("x", "--seed", "-1"), ("x", "--seed", "one")])
def test_wrong_usage_exits_with_2(run, arguments):
    assert run(*arguments).exit_code == 2


def test_help_ends_with_the_examples(run):
    result = run("--help")
    assert result.exit_code == 0
    assert "Examples" in result.stdout and "graphrec verb [x] --json" in result.stdout


def test_examples_escape_markup():
    assert examples("graphrec a[b]").endswith(r"graphrec a\[b]")


def test_original_ids_are_printed_as_they_are_in_the_log(capsys):
    rows = [(1, 1607, 12.5), (1200, 4076, 0.5)]
    Output(json=False, quiet=True).table("lists", ("rank", "item_id", "score"), rows)
    printed = capsys.readouterr().out
    assert "1607" in printed and "4076" in printed and "1,607" not in printed and "1,200" in printed


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "yes"), (1234567, "1,234,567"), (0.12345, "0.1235"), (-0.00001, "0.0000"), (12.345, "12.35"), (12345.678, "12,346"), ("x", "x")],
)
def test_format_cell(value, text):
    assert format_cell(value) == text
