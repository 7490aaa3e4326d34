"""Music listening with friends, tags and names as one graph: build, look, train, and ask what each edge type is worth.

    python examples/music.py --data DIR [--out FOLDER] [--epochs N] [--seeds N]

DIR holds the Last.fm set of HetRec 2011 (`user_artists.dat`, `artists.dat`, `tags.dat`, `user_taggedartists.dat`,
`user_friends.dat`, plain or .gz); all five are needed. Out of it comes one store with every kind of edge:

    user    ──play──>        item      how often a user listened to an artist; what is recommended
    user    ──tag──>         item      that a user put a tag on an artist, with the date
    user    ──follows──>     user      friends
    item    ──shares_tags──> item      the five artists with the most similar rarer tags
    item    ──tagged──>      entity    tags that two users or more put on an artist

and a text feature of names and tags. A tenth of the plays is the test, a tenth the validation; tags of a user on a held-out artist
are held out too, but what users together call an artist is known. FOLDER (music-output) receives tables, run files, the store,
pictures, a run and the ablation. Nothing here is tuned: with few epochs the figures say what each part is worth early on.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

import graphrec
from graphrec.atomic import atomic_file
from graphrec.cli.output import Output
from graphrec.errors import GraphrecError, LogError
from graphrec.graph.info import graph_info, plot_degrees
from graphrec.graph.metagraph import plot_metagraph
from graphrec.graph.neighbors import neighbourhood
from graphrec.graph.neighbors_plot import plot_neighbourhood
from graphrec.graph.store import GraphStore

FILES = {
    "user_artists.dat": ("who listens to what", ["userID", "artistID", "weight"]),
    "artists.dat": ("names", ["id", "name", "url", "pictureURL"]),
    "tags.dat": ("words of the tags", ["tagID", "tagValue"]),
    "user_taggedartists.dat": ("who put which tag where", ["userID", "artistID", "tagID", "day", "month", "year"]),
    "user_friends.dat": ("friends", ["userID", "friendID"]),
}
NEIGHBOURS, WIDEST_TAG, LEAST_USERS = 5, 300, 2  # of shares_tags; artists of its tags; users who agree on a tag
RUN_FILE = """# Written by examples/music.py.
[paths]
store = "{out}/store"
run = "{out}/run"

[log]
path = "{out}/tables/events.parquet"
items = "{out}/tables/artists.parquet"
social = "{out}/tables/friends.parquet"
triples = "{out}/tables/tagged.parquet"
item_relations = "{out}/tables/shares_tags.parquet"

[build]
target_behavior = "play"
split = {{method = "random", valid = 0.1, test = 0.1}}

[features]
cache = "{out}/vectors"
[features.item.words]
template = "{{title}}. {{tags}}"
encoder = {{name = "tfidf", dim = 64}}

[model]
name = "composed"
encoder = {{name = "joint-lightgcn", num_layers = 2}}
inputs = {{name = "id+features", item = ["words"]}}

[train]
epochs = {epochs}
batch_size = 2048
learning_rate = 0.005
eval_every = {epochs}
"""


def main(data: Path, out: Path, epochs: int, seeds: int) -> None:
    """Do all of it and print the tables."""
    started, io = time.perf_counter(), Output(json=False, quiet=False)
    tables = prepare(read_files(data), io)
    for name, table in tables.items():
        (out / "tables").mkdir(parents=True, exist_ok=True)
        table.write_parquet(out / "tables" / f"{name}.parquet")
    run_file = out / "music.toml"
    with atomic_file(run_file, LogError) as temporary:
        temporary.write_text(RUN_FILE.format(out=out.as_posix(), epochs=epochs), encoding="utf-8")
    config = graphrec.load_config(run_file)
    log = graphrec.read_log(config.log, rejected=out / "rejected.parquet", progress=io.reporter)
    store = graphrec.build(log, config.paths.store, config.build, overwrite=True, progress=io.reporter)
    graphrec.add_features(store, config.features, io.reporter)
    dropped = [(*reason.split(": "), count) for reason, count in store.manifest.side_rejected.items()]
    io.table("Rows of the tables that do not fit the training graph", ("table", "why", "rows"), dropped)
    look(store, out / "pictures", io)
    run = graphrec.train(
        store, config.model.name, config.paths.run, config.train, model_settings=config.model.settings, overwrite=True,
        progress=io.reporter,
    )  # fmt: skip
    weights = run.summary().get("relations", {})
    io.table("How much each relation carries into each node type", ("relation", "share"), sorted(weights.items()))
    result = graphrec.benchmark(
        store.folder, [str(run_file)], out / "ablation", seeds=seeds, ablate="relations", progress=io.reporter
    )
    io.table("What leaving it out loses, per user, paired", *result.tested)
    io.line(f"Pictures in {out / 'pictures'}, report in {result.files['html']}; {time.perf_counter() - started:.0f} seconds.")


def read_files(data: Path) -> dict[str, pl.DataFrame]:
    """Read the five files as they are; LogError names every one that is not there."""
    found = {name: next((p for p in (data / name, data / f"{name}.gz") if p.is_file()), None) for name in FILES}
    missing = [f"{name} ({FILES[name][0]})" for name, path in found.items() if path is None]
    if missing:
        raise LogError(
            f"{data} lacks {', '.join(missing)}, plain or .gz; all of {', '.join(FILES)} are needed, from hetrec2011-lastfm-2k"
        )
    return {name: _read(path, FILES[name][1]) for name, path in found.items()}


def _read(path: Path, columns: list[str]) -> pl.DataFrame:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    lines = [line.rstrip("\r").split("\t") for line in text.split("\n") if line.strip()]
    lines = lines[1:] if lines and lines[0][0] == columns[0] else lines
    bad = next((number for number, line in enumerate(lines, 1) if len(line) != len(columns)), None)
    if bad is not None or not lines:
        got = "no rows" if bad is None else f"{len(lines[bad - 1])} fields in row {bad}"
        raise LogError(f"{path} should have the tab-separated columns {', '.join(columns)}, got {got}; get the file again")
    frame = pl.DataFrame(lines, schema=columns, orient="row")
    text_columns = {"name", "url", "pictureURL", "tagValue"}
    try:
        return frame.with_columns(pl.col(name).cast(pl.Int64) for name in columns if name not in text_columns)
    except pl.exceptions.PolarsError as problem:
        raise LogError(f"{path}: a column of numbers holds something else: {problem}; get the file again") from problem


def prepare(files: dict[str, pl.DataFrame], io: Output) -> dict[str, pl.DataFrame]:
    """Turn the files into the tables of a log; whatever is left out is counted aloud."""
    plays, tagging = files["user_artists.dat"], files["user_taggedartists.dat"]
    tagging = tagging.join(files["tags.dat"], on="tagID", how="left")
    nameless = tagging["tagValue"].null_count()
    tagging = tagging.drop_nulls("tagValue").with_columns(tag=pl.concat_str(pl.lit("tag:"), pl.col("tagValue").str.strip_chars()))
    day = pl.date(pl.col("year"), pl.col("month"), pl.col("day")).cast(pl.Datetime("us", "UTC"))
    tagged_on = tagging.group_by(user_id="userID", item_id="artistID").agg(timestamp=day.min(), weight=pl.len().cast(pl.Float64))
    events = pl.concat([
        plays.select(user_id="userID", item_id="artistID", behavior=pl.lit("play"),
                     timestamp=pl.lit(None, pl.Datetime("us", "UTC")), weight=pl.col("weight").cast(pl.Float64)),
        tagged_on.select("user_id", "item_id", pl.lit("tag").alias("behavior"), "timestamp", "weight"),
    ]).sort("user_id", "item_id", "behavior")  # fmt: skip
    agreed = tagging.group_by("artistID", "tag").agg(users=pl.col("userID").n_unique())
    kept = agreed.filter(pl.col("users") >= LEAST_USERS).sort("artistID", "users", "tag", descending=[False, True, False])
    words = kept.group_by("artistID", maintain_order=True).agg(tags=pl.col("tag").str.strip_prefix("tag:").str.join(", "))
    artists = files["artists.dat"].select(item_id="id", title="name").join(words, left_on="item_id", right_on="artistID", how="left")
    tables = {
        "events": events,
        "artists": artists.sort("item_id"),
        "friends": files["user_friends.dat"].select(src="userID", dst="friendID"),
        "tagged": kept.select(head=pl.col("artistID").cast(pl.String), relation=pl.lit("tagged"), tail="tag"),
        "shares_tags": alike(agreed),
    }
    io.table("Tables", ("table", "rows"), [(name, len(table)) for name, table in tables.items()])
    io.line(
        f"Left out: {nameless:,} tag assignments without the word of their tag; {len(agreed) - len(kept):,} of {len(agreed):,} pairs of "
        f"artist and tag that fewer than {LEAST_USERS} users agree on (they count in shares_tags)."
    )
    return tables


def alike(agreed: pl.DataFrame) -> pl.DataFrame:
    """For each artist the `NEIGHBOURS` others of the largest cosine over tags of at most `WIDEST_TAG` artists."""
    rare = agreed.filter(pl.len().over("tag").is_between(2, WIDEST_TAG))
    artists, rows = np.unique(rare["artistID"].to_numpy(), return_inverse=True)
    tags, columns = np.unique(rare["tag"].to_numpy(), return_inverse=True)
    matrix = sp.csr_matrix((np.log1p(rare["users"].to_numpy()), (rows, columns)), shape=(len(artists), len(tags)))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    matrix = sp.diags(1 / np.maximum(lengths, 1e-12)) @ matrix
    cosine = (matrix @ matrix.T).tocsr()
    cosine.setdiag(0)
    links = []
    for artist in range(len(artists)):
        row = slice(cosine.indptr[artist], cosine.indptr[artist + 1])
        near, value = cosine.indices[row], cosine.data[row]
        best = np.lexsort((near, -value))[:NEIGHBOURS]
        links += [(int(artists[artist]), "shares_tags", int(artists[other])) for other in near[best[value[best] > 0]]]
    return pl.DataFrame(links, schema=["src", "relation", "dst"], orient="row")


def look(store: GraphStore, folder: Path, io: Output) -> None:
    """Draw the types, the degrees, and what surrounds the most played artist and a typical user with friends."""
    folder.mkdir(parents=True, exist_ok=True)
    info = graph_info(store)
    io.table("Graph", ("edge type", "edges", "mean degree", "both ways"),
             [(line, part.edges, part.mean_source_degree, part.reciprocity)
              for line, part in zip(info.metagraph, info.relations, strict=True)])  # fmt: skip
    plot_metagraph(info, folder / "types.png", "Plays, tags, friends and names of Last.fm")
    plot_degrees(store, folder / "degrees.png")
    artist = store.ids("item").gather([int(np.argmax(np.diff(store.train_matrix().tocsc().indptr)))])[0]
    source = store.graph().edges(etype="follows")[0].numpy()
    friends = np.bincount(source, minlength=store.num_users)
    typical = int(np.argmin(np.abs(friends - np.median(friends[friends > 0]))))
    for node_id, ntype in ((artist, "item"), (store.ids("user").gather([typical])[0], "user")):
        plot_neighbourhood(neighbourhood(store, node_id, ntype, hops=2, limit=18), folder / f"{ntype}-{node_id}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the five .dat files, plain or .gz")
    parser.add_argument("--out", type=Path, default=Path("music-output"), help="where everything goes (music-output)")
    parser.add_argument("--epochs", type=int, default=20, help="of every training (20)")
    parser.add_argument("--seeds", type=int, default=1, help="of the ablation (1)")
    given = parser.parse_args()
    try:
        if given.epochs < 1:
            raise LogError(f"--epochs must be at least 1, got {given.epochs}")
        main(given.data, given.out, given.epochs, given.seeds)
    except GraphrecError as problem:
        sys.exit(f"error: {problem}")
