"""`graphrec doctor`: what is installed, what is in use, what is missing and what to do about it."""

from __future__ import annotations

import typer

from graphrec.cli.output import EXIT_FAILURE, Debug, Json, Quiet, command

EXAMPLES = ("graphrec doctor", "graphrec doctor --json")


def doctor(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Report versions, the compute backend, devices and missing parts, with what to do about each."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.doctor import PROBLEM, diagnose

        findings = diagnose()
        for group in dict.fromkeys(finding.group for finding in findings):
            rows = [(f.name, f.value, f.status, f.advice) for f in findings if f.group == group]
            io.table(group, ("name", "found", "status", "what to do"), rows)
        problems = sum(finding.status == PROBLEM for finding in findings)
        io.line(f"{problems} problems" if problems else "everything that graphrec needs works")
        io.result({"ok": not problems, "findings": [finding.as_dict() for finding in findings]})
        if problems:
            raise typer.Exit(EXIT_FAILURE)
