"""Every verb: its help, and that asking for help stays quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from graphrec import __version__
from graphrec.cli import VERBS, app, load_verb
from graphrec.doctor import PROBLEM, diagnose

HEAVY = ("torch", "dgl", "polars", "numpy", "scipy", "pyarrow", "pydantic", "matplotlib", "transformers", "wordllama")
MAIN = "import sys; from graphrec.cli import main; sys.argv[0] = 'graphrec'; main()"


def commands(verb: str) -> list[list[str]]:
    inner = getattr(load_verb(verb), "commands", None)
    return [[verb, name] for name in inner] if inner else [[verb]]


@pytest.mark.parametrize("words", [words for verb in VERBS for words in commands(verb)], ids=" ".join)
def test_every_help_page_has_a_sentence_examples_and_the_common_options(words):
    result = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for text in ("Examples", "graphrec " + " ".join(words), "--json", "--quiet", "--debug"):
        assert text in result.stdout, f"{words} --help lacks {text}"


def test_help_lists_every_verb():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for verb in VERBS:
        assert f" {verb} " in result.stdout


def test_version():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"graphrec {__version__}\n"


def test_the_package_runs_as_the_command():
    done = subprocess.run([sys.executable, "-m", "graphrec", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: python -m graphrec " in done.stdout


def test_help_imports_nothing_heavy_and_is_quick():
    code = f"import atexit; atexit.register(lambda: print([m for m in {HEAVY} if m in sys.modules])); {MAIN}"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    assert done.stdout.splitlines()[-1] == "[]"
    assert seconds < 4, f"--help took {seconds:.2f} s"  # 0.4 s is the aim; ten times that is allowed to a busy machine


def test_an_interrupt_ends_a_real_process_with_130():
    code = (
        "import os, signal\n"
        "from graphrec.cli.output import command\n"
        "with command():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    import time; time.sleep(10)\n"
    )
    run = f"import typer\ndef main():\n    {code.replace(chr(10), chr(10) + '    ')}\ntyper.run(main)"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert done.returncode == 130 and done.stderr == "interrupted; what was finished is kept, and no file is half-written\n"


def test_a_closed_pipe_is_not_a_traceback():
    code = (
        "import sys, typer\n"
        "from graphrec.cli.output import command\n"
        "def main():\n"
        "    with command() as io:\n"
        "        for _ in range(100_000):\n"
        "            io.line('x' * 80)\n"
        "typer.run(main)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait()


def test_doctor_reports_what_is_in_use():
    result = CliRunner().invoke(app, ["doctor", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert report["ok"] and found["graphrec"]["value"].startswith(__version__)
    assert {"python", "torch", "dgl", "polars", "faiss-cpu", "backend", "threads", "processor", "GPU"} <= set(found)


def test_doctor_names_the_command_for_what_is_missing(monkeypatch):
    import graphrec.doctor

    monkeypatch.setitem(graphrec.doctor.REQUIRED, "not-a-package", "not_a_package")
    broken = {finding.name: finding for finding in diagnose() if finding.status == PROBLEM}
    assert broken["not-a-package"].advice == "run: pip install -c constraints.txt not-a-package"
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1


def test_doctor_names_the_extra_to_install(monkeypatch):
    import graphrec.doctor

    monkeypatch.setattr(graphrec.doctor, "_installed", lambda name: name.lower() != "sqlalchemy")
    sql = next(finding for finding in diagnose() if finding.name == "sql")
    assert "sqlalchemy" in sql.value.lower() and sql.advice == "run: pip install 'graphrec[sql]'"


def test_doctor_sees_the_reference_backend():
    environment = os.environ | {"GRAPHREC_BACKEND": "reference"}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "doctor", "--json"], capture_output=True, text=True, env=environment, check=True
    )
    backend = next(f for f in json.loads(done.stdout)["findings"] if f["name"] == "backend")
    assert backend["value"] == "reference" and backend["status"] == "note" and "unset it" in backend["advice"]
