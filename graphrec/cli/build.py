"""`graphrec build LOG... --out STORE`: read a log, split it, and write a graph store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from graphrec.cli.features import show_features
from graphrec.cli.output import Debug, Json, Output, Quiet, Seed, command
from graphrec.errors import shell_word
from graphrec.logs import FORMATS

if TYPE_CHECKING:
    from graphrec.graph.manifest import Manifest
    from graphrec.settings import Settings

EXAMPLES = (
    "graphrec build --config graphrec.toml",
    "graphrec build events.csv --out stores/shop --column user_id=userId --column item_id=sku",
    "graphrec build 'logs/*.jsonl.gz' --out stores/shop --split time --test 0.2 --k-core 5",
    "graphrec build plays.csv --items artists.csv --social friends.csv --triples tags.csv --media cover=covers.npy",
    "graphrec build plays.csv --social friends.csv --hold-out-links 0.2",
)


def build(
    log: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Argument(
            metavar="LOG...", help="Files, globs, a folder or a database URL; default: \\[log] of the run file."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The store to write; default: \\[paths] store.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="Run file; default: graphrec.toml here, if it is there.")
    ] = None,
    format: Annotated[str | None, typer.Option("--format", help=f"auto, {', '.join(FORMATS)}.")] = None,
    column: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--column",
            metavar="NAME=SOURCE",
            help="Where user_id, item_id, ... stand; may be repeated. How they are written (decimal_comma, time_format, ...) "
            "says \\[log] of the run file.",
        ),
    ] = None,
    query: Annotated[
        str | None, typer.Option("--query", help="For a database: the query whose rows are events.")
    ] = None,
    items: Annotated[str | None, typer.Option("--items", help="Table of item titles, texts and attributes.")] = None,
    users: Annotated[str | None, typer.Option("--users", help="Table of user attributes.")] = None,
    social: Annotated[str | None, typer.Option("--social", help="Links between users: src, dst and, if some count more, weight.")] = None,
    triples: Annotated[
        str | None, typer.Option("--triples", help="Knowledge of items: head, relation, tail.")
    ] = None,
    item_relations: Annotated[
        str | None, typer.Option("--item-relations", help="Links between items: src, relation, dst.")
    ] = None,
    media: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--media", metavar="NAME=FILE", help="Vectors of items, Parquet or .npy; may be repeated."),
    ] = None,
    duplicates: Annotated[
        str | None, typer.Option("--duplicates", help="first, last, sum, max, mean or keep, for repeated events.")
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="auto, leave_last_out, time, random or given.")] = None,
    valid: Annotated[float | None, typer.Option("--valid", help="Share (or events per user) for validation.")] = None,
    test: Annotated[float | None, typer.Option("--test", help="Share (or events per user) for testing.")] = None,
    k_core: Annotated[int | None, typer.Option("--k-core", help="Least degree of users and items in training.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="The behaviour to recommend for.")] = None,
    min_weight: Annotated[
        float | None, typer.Option("--min-weight", help="Leave out events of a smaller weight.")
    ] = None,
    hold_out_links: Annotated[
        float | None, typer.Option("--hold-out-links", help="Share of the linked pairs of users, for evaluate --friends.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store that is already there.")] = False,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read a log and build a graph store from it: split, ids, k-core, heterograph."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.atomic import check_free
        from graphrec.config import load_config
        from graphrec.errors import StoreError
        from graphrec.features.write import add_features, as_rows
        from graphrec.graph.build import build as build_store
        from graphrec.graph.manifest import MARKER
        from graphrec.logs.read import read_log

        run_file = load_config(config)
        path = log if log is None or len(log) > 1 else log[0]
        flags = {"path": path, "format": format, "query": query, "duplicates": duplicates}
        flags |= {"columns": _columns(column or []), "media": dict(_pairs(media or [], "--media", "image=covers.npy"))}
        flags |= {"items": items, "users": users, "social": social, "triples": triples, "item_relations": item_relations}
        log_settings = _override(run_file.log, flags, "[log]")
        parts = {"method": split, "valid": valid, "test": test, "seed": seed}
        chosen = {"split": parts, "k_core": k_core, "target_behavior": target, "min_weight": min_weight}
        chosen["hold_out_links"] = hold_out_links
        settings = _override(run_file.build, chosen, "[build]")
        folder = Path(run_file.paths.store) if out is None else out
        rejected = folder.parent / f"{folder.name}.rejected.parquet"
        check_free(folder, StoreError, overwrite, MARKER)  # before a long reading
        source = read_log(log_settings, rejected=rejected, progress=io.reporter)
        store = build_store(source, folder, settings, overwrite=overwrite, progress=io.reporter)
        features = as_rows(add_features(store, run_file.features, io.reporter))
        _show(io, store.manifest)
        held = store.held_out_links()
        if held is not None:
            io.line(f"{len(held):,} links between users are held out of the graph, for: graphrec evaluate RUN --friends")
        show_features(io, features)
        if source.rejected.path is not None:
            io.line(f"rows of the log that were not used, with reasons: {source.rejected.path}")
        io.line(f"written to {store.folder}; look into it with: graphrec graph info {shell_word(store.folder)}")
        io.result({"store": store.folder, **store.manifest.model_dump(mode="json", exclude={"files"}), "features": features})


_LEFT_OUT = {
    "below min_weight": "lower min_weight to keep them",
    "outside the k-core": "lower k_core to keep them",
    "without a time": "a split by time has no place for them; leave_last_out and random have",
}


def _columns(given: list[str]) -> dict[str, str | int]:
    """Read `--column name=source`; a source of digits is a position, for files without header."""
    pairs = _pairs(given, "--column", "user_id=userId")
    return {name: int(source) if source.isdecimal() else source for name, source in pairs}


def _pairs(given: list[str], option: str, example: str) -> list[tuple[str, str]]:
    """Read the NAME=SOURCE of an option that may be repeated."""
    pairs = [text.partition("=") for text in given]
    for text, (name, _, source) in zip(given, pairs, strict=True):
        if not name or not source:
            raise typer.BadParameter(f"{text!r} is not NAME=SOURCE, such as {example}", param_hint=option)
    return [(name, source) for name, _, source in pairs]


def _override(settings: Settings, flags: dict[str, Any], where: str) -> Settings:
    """Return `settings` of the run file with the flags that were given; nested ones one by one."""
    from graphrec.settings import parse

    values = settings.model_dump(exclude_unset=True)
    for name, value in flags.items():
        if isinstance(value, dict):
            values[name] = {**values.get(name, {}), **{key: part for key, part in value.items() if part is not None}}
        elif value is not None:
            values[name] = value
    return parse(type(settings), values, where)


def _show(io: Output, manifest: Manifest) -> None:
    from graphrec.graph.sides import MENDS
    from graphrec.logs.rejects import mend_of

    backwards = {f"rev_{behavior}" for behavior in manifest.behaviors}
    edges = [edge for edge in manifest.edges if edge.source == "user" or edge.relation not in backwards]
    io.table(
        "Graph (each behaviour also has its reverse edges)",
        ("what", "count"),
        [(f"{ntype} nodes", count) for ntype, count in manifest.nodes.items()]
        + [(f"{edge.source} ──{edge.relation}──> {edge.target}", edge.edges) for edge in edges],
    )
    split = manifest.settings["split"]
    io.table(
        f"Split: {split['method']}, target behaviour {manifest.target_behavior} (unknown and seen are counted over all behaviours)",
        ("side", "events", "target events", "of them usable", "unknown user", "unknown item", "seen in training"),
        [
            (
                side,
                part.events,
                part.target_events,
                part.known_target,
                part.unknown_user,
                part.unknown_item,
                part.seen_pairs,
            )
            for side, part in manifest.splits.items()
        ],
    )
    if manifest.users_kept_whole and (split["valid"] or split["test"]):
        io.line(
            f"{manifest.users_kept_whole:,} users with events of the target behaviour have none held out; all of theirs are in training"
        )
    dropped = [
        *(("event", reason, count, _LEFT_OUT.get(reason, "")) for reason, count in manifest.left_out.items()),
        *(("log row", reason, count, mend_of(reason)) for reason, count in manifest.log_rejected.items()),
        *(
            ("side table row", reason, count, MENDS.get(reason.partition(": ")[2], ""))
            for reason, count in manifest.side_rejected.items()
        ),
    ]
    if dropped:
        io.table("Not used", ("what", "why", "count", "mend"), dropped)
    for edge in edges:
        if not edge.edges:
            io.line(
                f"the relation {edge.relation} ({edge.source} to {edge.target}) has no edges: no row of its table fits the "
                "training graph; the rows and reasons are in rejected.parquet of the store"
            )
