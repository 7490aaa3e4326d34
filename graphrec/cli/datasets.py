"""`graphrec datasets`: list the public sets, get one of them, or make a world of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphrec.cli.output import Debug, Json, Quiet, Seed, command, examples, verb_group
from graphrec.errors import shell_word

app = verb_group("List public data sets, get one, or make a made-up log of any size.")

Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


@app.command("list", epilog=examples("graphrec datasets list", "graphrec datasets list --json"))
def list_(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the public data sets that graphrec has a card for."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.logs.card import list_cards

        cards = list_cards()
        io.table(
            "Data sets",
            ("name", "users", "items", "events", "what"),
            [(card.name, card.users, card.items, card.events, card.title) for card in cards],
        )
        io.line("Get one: graphrec datasets get NAME. Make one up: graphrec datasets make FOLDER.")
        io.result({"datasets": [card.model_dump() for card in cards]})


@app.command("get", epilog=examples("graphrec datasets get gowalla", "graphrec datasets get ml-100k --folder /data/ml"))
def get(
    name: Annotated[str, typer.Argument(help="Name of the set, as in the list.", metavar="NAME")],
    folder: Annotated[Path | None, typer.Option("--folder", help="Where it goes; data/NAME when left out.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Download a public data set, check it and unpack it. An interrupted download goes on where it stopped."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.logs.card import find_card
        from graphrec.logs.datasets import get_dataset

        card = find_card(name)
        io.note(f"{card.title}\nLicence: {card.licence}")
        dataset = get_dataset(card, folder, overwrite=overwrite, progress=io.reporter)
        io.table(f"{name} in {dataset.folder}", ("file", "sha256"), dataset.files.items())
        for path in dataset.trusted:
            io.line(f"No checksum is known for {path}: it was trusted, and its sha256 is recorded in dataset.json.")
        io.line(
            f"{'Ready' if dataset.fresh else 'It was there already, unchanged'}. The card: {dataset.folder / 'CARD.md'}"
        )
        io.line(f"Build a graph from it: graphrec build --config {shell_word(dataset.config)}")
        io.result(
            {
                "name": name,
                "folder": dataset.folder,
                "fresh": dataset.fresh,
                "files": dataset.files,
                "trusted": dataset.trusted,
                "config": dataset.config,
            }
        )


@app.command(
    "make",
    epilog=examples("graphrec datasets make worlds/small", "graphrec datasets make worlds/big --events 100000000"),
)
def make(
    folder: Annotated[Path, typer.Argument(help="The folder to write.", metavar="FOLDER")],
    events: Annotated[int | None, typer.Option("--events", help="Number of events (default 120,000).")] = None,
    users: Annotated[
        int | None, typer.Option("--users", help="Number of users; follows the events when left out.")
    ] = None,
    items: Annotated[
        int | None, typer.Option("--items", help="Number of items; follows the events when left out.")
    ] = None,
    days: Annotated[int | None, typer.Option("--days", help="Length of the period (default 182).")] = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make up a log with tastes, communities, texts, media and a funnel to learn from; same seed, same log."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.logs.synthetic import make_world

        asked = {"num_events": events, "num_users": users, "num_items": items, "days": days, "seed": seed}
        world = make_world(
            folder,
            overwrite=overwrite,
            progress=io.reporter,
            **{key: value for key, value in asked.items() if value is not None},
        )
        io.table(f"World in {folder}", ("what", "count"), [*world["counts"].items(), *world["behaviors"].items()])
        io.line(f"The card: {folder / 'README.md'}")
        events, items, users = (shell_word(folder / f"{name}.parquet") for name in ("events", "items", "users"))
        store = shell_word(f"stores/{folder.name}")
        io.line(f"Build a graph from it: graphrec build {events} --items {items} --users {users} --out {store}")
        io.result({"folder": folder, **world})
