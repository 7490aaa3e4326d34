"""`graphrec graph`: look into a graph store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graphrec.cli.output import Debug, Json, Quiet, command, examples, verb_group

app = verb_group("Look into a graph store.")


@app.callback()
def graph() -> None:
    """Look into a graph store."""  # without a callback typer would make the only sub-verb the verb


@app.command(
    epilog=examples("graphrec graph info stores/demo", "graphrec graph info stores/demo --plot degrees.png --metagraph types.png")
)
def info(
    store: Annotated[Path, typer.Argument(help="A graph store, as graphrec build writes it.", metavar="STORE")],
    plot: Annotated[Path | None, typer.Option("--plot", help="Also draw the degrees into this PNG file.")] = None,
    metagraph: Annotated[
        Path | None, typer.Option("--metagraph", help="Also draw node types and edge types into this .png or .svg file.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Count nodes and edges, degrees, density and components, and show how the node types are joined."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.graph.info import graph_info, plot_degrees
        from graphrec.graph.metagraph import plot_metagraph
        from graphrec.graph.picture import picture_format
        from graphrec.graph.store import GraphStore

        if metagraph is not None:
            picture_format(metagraph)  # before anything is counted
        opened = GraphStore.open(store)
        found = graph_info(opened)
        if metagraph is not None:
            plot_metagraph(found, metagraph, f"Node types and edge types of {opened.folder.name}")
        if plot is not None:
            plot_degrees(opened, plot)
        nodes = [(ntype, count, ", ".join(found.features[ntype])) for ntype, count in found.nodes.items()]
        io.table(f"Nodes of {store}", ("type", "nodes", "features"), nodes)
        io.table(
            "Training edges",
            ("type", "edges", "distinct", "density", "mean source degree", "mean target degree", "isolated sources",
             "isolated targets", "both ways"),
            [
                (
                    line, part.edges, part.distinct, f"{part.density:.3%}", f"{part.mean_source_degree:.2f}",
                    f"{part.mean_target_degree:.2f}", part.isolated_sources, part.isolated_targets,
                    None if part.reciprocity is None else f"{part.reciprocity:.1%}",
                )
                for line, part in zip(found.metagraph, found.relations, strict=True)
            ],
        )  # fmt: skip
        shares = list(found.relations[0].source_degrees)
        io.table(
            "Degrees (distinct partners, of all nodes of a type)",
            ("of", "over", *({"0": "least", "0.5": "median", "1": "most"}.get(share, share) for share in shares)),
            [
                (side, part.relation, *(int(values[share]) for share in shares))
                for part in found.relations
                for side, values in zip(
                    _sides(part.source, part.target), (part.source_degrees, part.target_degrees), strict=True
                )
            ],
        )
        io.line(
            f"{found.components:,} connected component{'' if found.components == 1 else 's'}, the largest with {found.largest_component:.1%} of the nodes; "
            f"{found.isolated:,} nodes without edges"
        )
        if found.first is not None:
            io.line(f"training events from {found.first:%Y-%m-%d %H:%M} to {found.last:%Y-%m-%d %H:%M} UTC")
        if plot is not None:
            io.line(f"degree plot written to {plot}")
        if metagraph is not None:
            io.line(f"picture of the node types and edge types written to {metagraph}")
        io.result({"store": store, **found.to_dict(), "plot": plot, "metagraph": metagraph})


@app.command(
    epilog=examples(
        "graphrec graph neighbors stores/demo u00017",
        "graphrec graph neighbors stores/demo i00003 --hops 1 --limit 40 --out around.png",
        "graphrec graph neighbors stores/music 289 --ntype item --out abba.svg",
    )
)
def neighbors(
    store: Annotated[Path, typer.Argument(help="A graph store, as graphrec build writes it.", metavar="STORE")],
    id: Annotated[str, typer.Argument(help="The id of a user, an item or an entity, as in the log.", metavar="ID")],
    ntype: Annotated[str | None, typer.Option("--ntype", help="user, item or entity, where several have the id.")] = None,
    hops: Annotated[int, typer.Option("--hops", help="How many steps to walk, 1 to 4.")] = 2,
    limit: Annotated[int, typer.Option("--limit", help="How many nodes a hop adds at most, the strongest first.")] = 20,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also draw it into this .png or .svg file.")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what one node is linked with in training: relation, direction, neighbour, weight and time, hop by hop."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.graph.neighbors import neighbourhood
        from graphrec.graph.neighbors_plot import plot_neighbourhood
        from graphrec.graph.picture import picture_format
        from graphrec.graph.store import GraphStore

        if out is not None:
            picture_format(out)  # before the graph is read
        found = neighbourhood(GraphStore.open(store), id, ntype, hops=hops, limit=limit)
        centre, nodes = found.centre, found.nodes
        rows = []
        for links in found.ways():
            first, neighbour = links[0], nodes[links[0].outer]
            via = nodes[first.inner].label + (f" and {len(links) - 1} more" if len(links) > 1 else "")
            weight = None if first.weight is None else f"{first.weight:g}"
            times = [link.time for link in links if link.time is not None]
            when = f"{max(times):%Y-%m-%d %H:%M}" if times else None
            arrow = f"──{first.relation}──>" if first.outward else f"<──{first.relation}──"
            rows.append((neighbour.hop, via, arrow, neighbour.ntype, str(neighbour.id), neighbour.title, weight, when))
        columns = ("hop", "from", "relation", "type", "id", "title", "weight", "latest")
        if rows:
            io.table(f"Around {centre.ntype} {centre.label}", columns, rows)
            reached = [
                (reach.hop, f"──{reach.relation}──>" if reach.outward else f"<──{reach.relation}──", reach.ntype, reach.found,
                 reach.shown) for reach in found.reaches
            ]  # fmt: skip
            io.table("Reached", ("hop", "relation", "type", "new nodes", "shown"), reached)
        else:
            io.line(f"{centre.ntype} {centre.label} has no edges in training")
        if out is not None:
            plot_neighbourhood(found, out)
            io.line(f"picture written to {out}")
        io.result({"store": store, **found.to_dict(), "picture": out})


def _sides(source: str, target: str) -> tuple[str, str]:
    """Names of a relation's two sides, which are told apart where both are of one type."""
    return (source, target) if source != target else (f"{source}, from", f"{target}, to")
