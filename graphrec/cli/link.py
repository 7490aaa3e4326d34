"""`graphrec link SOURCE`: predict links of a homogeneous graph, measured on links held out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from graphrec.cli.output import KEPT, Debug, Json, Output, Quiet, Seed, command
from graphrec.link import LINK_MODELS

if TYPE_CHECKING:
    from graphrec.link.base import LinkModel

EXAMPLES = (
    "graphrec link trust.txt.gz --model adamic-adar --model gae --model vgae",
    "graphrec link dataset/ogbl_collab --model masked-gae --set masked-gae.decoder=dot --metrics hits@50,auc --json",
    "graphrec link stores/demo --model vgae --for u00017 --k 5 --out links/vgae --vectors vectors.parquet",
    "graphrec link links/vgae --for u00042",
)


def link(
    source: Annotated[
        str,
        typer.Argument(
            help="An edge list, a graph store with social links, an ogbl folder (with its own split), or a saved predictor."
        ),
    ],
    model: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer evaluates it on Python 3.10
        typer.Option("--model", "-m", help=f"May be repeated: {', '.join(LINK_MODELS)}."),
    ] = None,
    assignments: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, as vgae.out_dim=32; model.KEY is for all."),
    ] = None,
    metrics: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--metrics", help="Names, separated by commas: auc, ap, mrr, hits@K."),
    ] = None,
    directed: Annotated[
        bool, typer.Option("--directed", help="(u, v) and (v, u) are different links. Not for an ogbl folder.")
    ] = False,
    valid_share: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--valid", help="Share of the edges held out to choose by, 0.05 unless given. Not for an ogbl folder."),
    ] = None,
    test_share: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--test", help="Share of the edges held out to measure on, 0.1 unless given. Not for an ogbl folder."),
    ] = None,
    nodes: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--for", help="List new links of this node, by original id. May be repeated."),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="New links for each --for.")] = 10,
    out: Annotated[Optional[str], typer.Option("--out", "-o", help="Save the predictor to this folder.")] = None,  # noqa: UP045
    vectors: Annotated[Optional[str], typer.Option("--vectors", help="Write node vectors to this Parquet file.")] = None,  # noqa: UP045
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what --out and --vectors name.")] = False,
    seed: Seed = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Predict links between nodes of one type: train, and measure on held-out links. A saved predictor only answers."""
    names = list(dict.fromkeys(model or ["gae"]))
    if (out or vectors or nodes) and len(names) > 1:
        raise typer.BadParameter("--for, --out and --vectors go with a single --model", param_hint="--model")
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.atomic import check_file
        from graphrec.config import assign
        from graphrec.errors import RunError
        from graphrec.graph.links import open_link_graph
        from graphrec.link.base import check_predictor_folder, is_predictor
        from graphrec.link.evaluate import create_all, default_metrics, predict_links, protocol
        from graphrec.link.metrics import check_metric

        if is_predictor(source):
            if model or assignments or metrics or out or directed or valid_share is not None or test_share is not None:
                rest = "leave --model, --set, --metrics, --directed, --valid, --test and --out out"
                raise typer.BadParameter(f"a saved predictor is not trained again; {rest}")
            io.result(_answer(io, source, nodes, k, vectors, overwrite))
            return
        wanted = None if metrics is None else [check_metric(name.strip()) for name in metrics.split(",")]
        models = create_all(names, assign({}, assignments or ()))  # wrong settings show before the source is read
        if out is not None:
            check_predictor_folder(out, overwrite)
        if vectors is not None:
            check_file(vectors, RunError, overwrite)
        io.kept = "nothing is kept: a predictor is shown and saved when it is finished, and has no checkpoints"
        shares = {"directed": directed, "valid_share": valid_share, "test_share": test_share, "seed": seed or 0}
        graph = open_link_graph(source, **shares, progress=io.reporter)
        wanted = wanted or default_metrics(graph)
        results = {
            one.name: predict_links(graph, one, metrics=wanted, seed=seed or 0, progress=io.reporter) for one in models
        }
        rows = [(name, *result.test.values(), result.seconds) for name, result in results.items()]
        io.table(f"{source}: {len(graph.test.positives):,} test links", ("model", *results[names[0]].test, "seconds"), rows)
        measured = protocol(graph, metrics=results[names[0]].test)
        io.line(measured["how"])
        answer = {
            name: {"valid": one.valid, "test": one.test, "seconds": one.seconds, "edge_weights": one.model.weighs(graph)}
            for name, one in results.items()
        }
        payload = {"source": source, "num_nodes": graph.num_nodes, "num_edges": len(graph.train), "models": answer,
                   "directed": graph.directed, "dropped": graph.dropped, "protocol": measured, "seed": seed or 0}  # fmt: skip
        fitted = results[names[-1]].model
        if out is not None:
            fitted.save(out, overwrite=overwrite)
            io.kept = KEPT
            io.line(f"{fitted.name} saved to {out}")
            payload["predictor"] = out
        io.result(payload | _asked(io, fitted, nodes, k, vectors))


def _answer(io: Output, folder: str, nodes: list[str] | None, k: int, vectors: str | None, overwrite: bool) -> dict[str, Any]:
    """What a saved predictor says."""
    from graphrec.atomic import check_file
    from graphrec.errors import RunError
    from graphrec.link.base import LinkModel

    if vectors is not None:
        check_file(vectors, RunError, overwrite)
    fitted = LinkModel.load(folder)
    sizes = {"num_nodes": fitted.known.num_nodes, "num_edges": len(fitted.known.train)}
    io.line(f"{fitted.name} of {fitted.known.source}: {sizes['num_nodes']:,} nodes, {sizes['num_edges']:,} training edges")
    return {"source": folder, "model": fitted.name, **sizes, **_asked(io, fitted, nodes, k, vectors)}


def _asked(io: Output, fitted: LinkModel, nodes: list[str] | None, k: int, vectors: str | None) -> dict[str, Any]:
    """New links and vectors, as far as they were asked for."""
    from graphrec.link.suggest import suggest, write_vectors

    payload: dict[str, Any] = {}
    if nodes:
        found = suggest(fitted, nodes, k)
        io.table("New links", found.columns, found.rows())
        payload["links"] = found.to_dicts()
    if vectors is not None:
        io.line(f"{write_vectors(fitted, vectors):,} vectors written to {vectors}")
        payload["vectors"] = vectors
    return payload
