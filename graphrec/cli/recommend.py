"""`graphrec recommend RUN USER...`: the best items for some users, for many or all of them into a Parquet file, or for a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from graphrec.cli.output import Debug, Json, Output, Quiet, command
from graphrec.errors import GraphrecError

if TYPE_CHECKING:
    import polars as pl

    from graphrec.models.base import Recommender

_LENGTH = 10  # of a list, where there are so many

EXAMPLES = (
    "graphrec recommend runs/demo u00017 u00042 --k 5",
    "graphrec recommend runs/demo u00017 --json",
    "graphrec recommend runs/demo --all --out recommendations.parquet --fallback popular",
    "graphrec recommend runs/demo --users tonight.txt --skip-unknown --out tonight.parquet",
    "graphrec recommend runs/demo --history i00003,i00017",
    "graphrec recommend runs/texts u00017 --new-items new.csv",
    "graphrec recommend runs/social u00017 --friends --k 5",
)


def recommend(
    run: Annotated[str, typer.Argument(help="A run folder, or a model folder written by save.")],
    users: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Argument(metavar="USER...", help="User ids as they stand in the log."),
    ] = None,
    k: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--k", "-k", help="Items (or friends) per user; default 10, or as many as there are."),
    ] = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Keep items of the user's training history.")
    ] = False,
    all_users: Annotated[bool, typer.Option("--all", help="Recommend to every user; needs --out.")] = False,
    friends: Annotated[bool, typer.Option("--friends", help="Recommend users to befriend, not items.")] = False,
    users_file: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--users", metavar="FILE", help="Recommend to the users of a text file, one id a line."),
    ] = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out users that training did not see, and say how many.")
    ] = False,
    out: Annotated[Optional[str], typer.Option("--out", "-o", help="The Parquet file for --all or --users.")] = None,  # noqa: UP045
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of --out.")] = False,
    history: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--history", metavar="ID,ID,...", help="A new user: the items chosen so far."),
    ] = None,
    like: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--like", metavar="ID,ID,...", help="A new user: known users whose taste is near."),
    ] = None,
    text: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--text", help="A new user: words, for a model trained on text features."),
    ] = None,
    fallback: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--fallback", help="popular: what users get of whom the model knows nothing; alone, one new user."),
    ] = None,
    new_items: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--new-items", metavar="FILE", help="Also recommend these: a table of ids and texts, or: store."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Recommend items to users, by original id."""
    is_new = any(part is not None for part in (history, like, text)) or (
        fallback is not None and not (all_users or users or users_file)
    )
    if [all_users, bool(users), bool(users_file), is_new].count(True) != 1:
        rule = "give either user ids, or --users FILE, or --all, or a new user by --history, --like, --text or --fallback"
        raise typer.BadParameter(rule, param_hint="USER...")
    if all_users and not out:
        raise typer.BadParameter("--all needs --out FILE.parquet", param_hint="--out")
    if friends and (all_users or fallback):
        option = "--all" if all_users else "--fallback"
        raise typer.BadParameter(f"--friends answers for the users given, without {option}", param_hint="--friends")
    if out and (friends or not (all_users or users_file)):
        raise typer.BadParameter("--out FILE.parquet takes the items of --all or --users FILE", param_hint="--out")
    if is_new and (friends or include_seen):
        option = "--friends" if friends else "--include-seen"
        raise typer.BadParameter(f"{option} is for users of the training data, given by their ids", param_hint=option)
    if skip_unknown and not (users or users_file):
        raise typer.BadParameter("it is for users given by their ids or by --users FILE", param_hint="--skip-unknown")
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.retrieval.answer import check_fallback, known_users, read_ids, recommend_all
        from graphrec.retrieval.answer import recommend as recommend_to
        from graphrec.retrieval.friends import recommend_friends
        from graphrec.retrieval.source import open_model, open_run, open_store

        check_fallback(fallback)
        asked = None if all_users or is_new else read_ids(users_file) if users_file else list(dict.fromkeys(users))
        if new_items:
            from graphrec.features.settings import FeaturesSettings
            from graphrec.logs.side_tables import read_item_table
            from graphrec.retrieval.unseen import with_new_items

            table = None if new_items == "store" else read_item_table(new_items)
            source, added = with_new_items(run, table, progress=io.reporter, cache=FeaturesSettings().cache)
            io.note(f"{added:,} items without a training event were added")
        else:
            source = open_run(run) or open_model(run)
        model = open_model(source)
        catalogue = model.catalogue
        k = min(_LENGTH, catalogue.num_users - 1 if friends else catalogue.num_items) if k is None else k
        if is_new:
            from graphrec.retrieval.unseen import recommend_new_user

            known = {"history": _ids(history), "friends": _ids(like), "text": text or "", "fallback": fallback}
            frame = recommend_new_user(source, k, **known, store=open_store(run) if text else None)
            io.table(f"new user, by {frame['by'][0]}", frame.columns, frame.rows())
            io.result({"run": run, "k": k, "by": frame["by"][0], "items": frame.drop("by").to_dicts()})
            return
        skipped = []
        if skip_unknown:
            asked, skipped = known_users(model, asked)
            if skipped:
                few = ", ".join(skipped[:5]) + (", …" if len(skipped) > 5 else "")
                io.note(f"{len(skipped):,} of {len(asked) + len(skipped):,} users are unknown and were skipped: {few}")
        more = {"skipped": skipped} if skip_unknown else {}
        if friends:
            known = None if include_seen else open_store(run, verify=False)
            found = recommend_friends(source, asked, k, exclude_known=not include_seen, store=known)
            _show_friends(io, {"run": run, "k": k, **more}, found)
            return
        if not include_seen:
            _note_held_out(io, run)
        _note_nothing_known(io, model, asked, fallback)
        if out:
            options = {"users": asked, "fallback": fallback, "overwrite": overwrite, "progress": io.reporter}
            rows = recommend_all(source, out, k, not include_seen, **options)
            io.line(f"{rows:,} rows written to {out}")
            io.result({"run": run, "k": k, "file": out, "rows": rows, **more})
            return
        lists = recommend_to(source, asked, k, not include_seen, fallback=fallback).partition_by("user_id", maintain_order=True)
        if len(lists) < len(asked):
            io.note(
                f"{len(asked) - len(lists)} of these users already know every item; --include-seen lists them again"
            )
        for part in lists:
            shown = part.drop("user_id")
            io.table(f"user {part['user_id'][0]}", shown.columns, shown.rows())
        answers = [{"user_id": part["user_id"][0], "items": part.drop("user_id").to_dicts()} for part in lists]
        io.result({"run": run, "k": k, "users": answers, **more})


def _ids(given: str | None) -> list[str]:
    return [] if given is None else [part.strip() for part in given.split(",") if part.strip()]


def _note_held_out(io: Output, run: str) -> None:
    """Say which events of the log a model does not know, whose items it may therefore recommend."""
    from graphrec.retrieval.source import open_store
    from graphrec.training.run import RunRecord, fingerprint, other_data

    try:
        store, record = open_store(run, verify=False), RunRecord.read(Path(run))
    except GraphrecError:  # a model alone, or its store is gone: the answer does not need it
        return
    if fingerprint(store) != record.store["fingerprint"]:
        io.note(f"the run {run} {other_data(record, store)}: the lists know nothing of the new data until it is trained again")
        return
    splits = store.manifest.splits
    held_out = sum(splits[side].events for side in ("valid", "test") if side in splits)
    if held_out:
        io.note(
            f"{held_out:,} events of the log are held out for validation and test, so their items may be recommended; to answer "
            "users, train on a store built with --valid 0 --test 0"
        )


def _note_nothing_known(io: Output, model: Recommender, users: list[str] | None, fallback: str | None) -> None:
    """Say for how many users a list rests on nothing of theirs."""
    from graphrec.retrieval.answer import nothing_known

    count, asked = nothing_known(model, users)
    found = f"{count:,} of {asked:,} users have no training event of the target behaviour"
    lack = f"{found}, nor anything else that {model.name} reads"
    if count and fallback is None:
        io.note(f"{lack}, so their lists rest on nothing of theirs; --fallback popular gives them what is popular")
    elif count:
        io.note(f"{lack}, and get what is popular")


def _show_friends(io: Output, asked: dict[str, Any], found: pl.DataFrame) -> None:
    parts = found.partition_by("user_id", maintain_order=True)
    for part in parts:
        io.table(f"friends for {part['user_id'][0]}", part.columns[1:], part.drop("user_id").rows())
    answers = [{"user_id": part["user_id"][0], "friends": part.drop("user_id").to_dicts()} for part in parts]
    io.result({**asked, "users": answers})
