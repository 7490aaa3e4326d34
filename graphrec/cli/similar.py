"""`graphrec similar RUN ITEM...`: the items most similar to some items."""

from __future__ import annotations

from typing import Annotated

import typer

from graphrec.cli.output import Debug, Json, Quiet, command

EXAMPLES = ("graphrec similar runs/demo i00003 --k 5", "graphrec similar runs/demo i00003 i00007 --json")


def similar(
    run: Annotated[str, typer.Argument(help="A run folder, or a model folder written by save.")],
    items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Item ids as they stand in the log.")],
    k: Annotated[int, typer.Option("--k", "-k", help="Similar items per item.")] = 10,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show the items most similar to the given ones, by original id."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.retrieval.answer import similar as similar_to

        items = list(dict.fromkeys(items))
        lists = similar_to(run, items, k).partition_by("item_id", maintain_order=True)
        if len(lists) < len(items):
            io.note(f"{len(items) - len(lists)} of these items have no similar items in the training data")
        for part in lists:
            shown = part.drop("item_id")
            io.table(f"similar to item {part['item_id'][0]}", shown.columns, shown.rows())
        answers = [{"item_id": part["item_id"][0], "similar": part.drop("item_id").to_dicts()} for part in lists]
        io.result({"run": run, "k": k, "items": answers})
