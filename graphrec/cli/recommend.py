"""`graphrec recommend RUN USER...`: the best items for some users, or for all of them into a Parquet file."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from graphrec.cli.output import Debug, Json, Quiet, command

EXAMPLES = (
    "graphrec recommend runs/demo u00017 u00042 --k 5",
    "graphrec recommend runs/demo u00017 --json",
    "graphrec recommend runs/demo --all --out recommendations.parquet",
    "graphrec recommend runs/social u00017 --friends --k 5",
)


def recommend(
    run: Annotated[str, typer.Argument(help="A run folder, or a model folder written by save.")],
    users: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Argument(metavar="USER...", help="User ids as they stand in the log."),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Items per user.")] = 10,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Keep items the user already knows.")] = False,
    all_users: Annotated[bool, typer.Option("--all", help="Recommend to every user; needs --out.")] = False,
    friends: Annotated[bool, typer.Option("--friends", help="Recommend users to befriend, not items.")] = False,
    out: Annotated[Optional[str], typer.Option("--out", "-o", help="The Parquet file for --all.")] = None,  # noqa: UP045
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of --out.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Recommend items to users, by original id."""
    if all_users == bool(users):
        raise typer.BadParameter("give either user ids or --all", param_hint="USER...")
    if all_users != bool(out):
        raise typer.BadParameter("--all and --out FILE.parquet go together", param_hint="--out")
    if friends and all_users:
        raise typer.BadParameter("--friends answers for the users given, not for --all", param_hint="--friends")
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.retrieval.answer import recommend as recommend_to
        from graphrec.retrieval.answer import recommend_all

        if out:
            rows = recommend_all(run, out, k, not include_seen, overwrite=overwrite, progress=io.reporter)
            io.line(f"{rows:,} rows written to {out}")
            io.result({"run": run, "k": k, "file": out, "rows": rows})
            return
        users = list(dict.fromkeys(users))
        if friends:
            from graphrec.retrieval.friends import recommend_friends

            parts = recommend_friends(run, users, k, exclude_known=not include_seen).partition_by(
                "user_id", maintain_order=True
            )
            for part in parts:
                io.table(f"friends for {part['user_id'][0]}", part.columns[1:], part.drop("user_id").rows())
            answers = [{"user_id": part["user_id"][0], "friends": part.drop("user_id").to_dicts()} for part in parts]
            io.result({"run": run, "k": k, "users": answers})
            return
        lists = recommend_to(run, users, k, not include_seen).partition_by("user_id", maintain_order=True)
        if len(lists) < len(users):
            io.note(
                f"{len(users) - len(lists)} of these users already know every item; --include-seen lists them again"
            )
        for part in lists:
            shown = part.drop("user_id")
            io.table(f"user {part['user_id'][0]}", shown.columns, shown.rows())
        answers = [{"user_id": part["user_id"][0], "items": part.drop("user_id").to_dicts()} for part in lists]
        io.result({"run": run, "k": k, "users": answers})
