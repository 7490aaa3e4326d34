"""Side tables of a log joined to the graph: attributes, links, triples and media, with what does not fit set aside."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl

from graphrec.errors import LogError, StoreError
from graphrec.graph.held_links import hold_out_links
from graphrec.graph.heterograph import Edges, EdgeType, reverse_name
from graphrec.graph.ids import IdMap, distinct
from graphrec.logs.table import InteractionLog, Media

FOLLOWS: EdgeType = ("user", "follows", "user")
NEW_ITEMS = "item-new"
"""Where a store keeps what the log says of items without a training event, as if it were a node type: they are no nodes of the
graph, but with text or media they can be recommended (`graphrec.features`)."""
NEW_LINKS = "item-new-links"
"""Where a store keeps the triples between items without a training event and entities of the graph."""
HELD_LINKS = "splits/links.parquet"
"""Where a store keeps the links between users that were held out."""

MENDS = {
    "user not in training": "give the user an event, lower k_core, or correct the id",
    "item not in training": "give the item an event, lower k_core, or correct the id",
    "user linked to itself": "remove the row; a link joins two users",
    "item linked to itself": "remove the row; a link joins two items",
    "triple from a node to itself": "remove the row; head and tail are two nodes",
    "link listed before": "keep one row a link",
    "link weight not finite or below 0": "give the link a weight of at least 0, or remove the row",
    "triple listed before": "keep one row a triple",
    "user listed before": "keep one row a user",
    "item listed before": "keep one row an item",
    "src or dst missing or no such kind of id": "fill in both ends, as the log writes its ids",
    "no head or tail": "fill in both ends",
    "no relation": "name the relation of the row",
}
"""Why a row of a side table was not used, and what to do about it."""


@dataclass
class SideTables:
    """Side tables in terms of node indices.

    Attributes:
        tables: node type to attributes; row i belongs to node i, null where the log says nothing.
        edges: edges per type.
        entities: ids of the knowledge graph's nodes that are not items, or None without triples.
        features: (node type, name) to a float32 array (n, F) and how many of its rows the log gave; others are zero.
        rejected: rows that do not fit: table, row (from 0), reason, raw (the row as JSON).
        held_links: links between users that are kept out of the graph: src, dst (original ids), weight; None without any.
    """

    tables: dict[str, pl.DataFrame] = field(default_factory=dict)
    edges: dict[EdgeType, Edges] = field(default_factory=dict)
    entities: IdMap | None = None
    features: dict[tuple[str, str], tuple[np.ndarray, int]] = field(default_factory=dict)
    rejected: list[pl.DataFrame] = field(default_factory=list)
    held_links: pl.DataFrame | None = None

    def reject(self, table: str, rows: pl.DataFrame, bad: dict[str, np.ndarray]) -> np.ndarray:
        """Set aside the rows of every mask in `bad` (reason to bool (n,)); return the mask of the rows that stay."""
        good = np.ones(len(rows), dtype=bool)
        for reason, mask in bad.items():
            positions = np.flatnonzero(mask & good)
            good[positions] = False
            if len(positions):
                raw = rows[positions].select(pl.struct(pl.all()).struct.json_encode())[:, 0]
                columns = {"table": table, "row": pl.Series(positions, dtype=pl.Int64), "reason": reason, "raw": raw}
                self.rejected.append(pl.DataFrame(columns).select("table", "row", "reason", "raw"))
        return good

    def rejections(self) -> pl.DataFrame:
        """All rows set aside, as one table."""
        schema = {"table": pl.String, "row": pl.Int64, "reason": pl.String, "raw": pl.String}
        return pl.concat([pl.DataFrame(schema=schema), *self.rejected])


def join_sides(
    log: InteractionLog, users: IdMap, items: IdMap, all_items: IdMap, hold_out: float | None = None, seed: int = 0
) -> SideTables:
    """Join the side tables of `log` to the nodes of the training graph.

    Rows that name a user or item outside the training graph are set aside. In triples an id that is no item at all
    is an entity; an item of the log that training lacks is not turned into one.

    Args:
        log: the log.
        users, items: the nodes of the training graph.
        all_items: every item id in the events of the log.
        hold_out: share of the linked pairs of users to keep out of the graph; None for none.
        seed: of that draw.

    Raises:
        LogError: no id of a media file is an item of the log.
        StoreError: links are to be held out and there are none, or too few.
    """
    sides = SideTables()
    known = [all_items]
    if log.items is not None and (log.media or log.triples is not None):
        known.append(IdMap.fit(log.items[:, 0].drop_nulls(), "item"))
    for name, table, ids in (("users", log.users, users), ("items", log.items, items)):
        if table is not None:
            sides.tables[ids.name] = _align(sides, name, table, ids)
    if log.items is not None:
        new = _new_rows(log.items, items)
        if len(new):
            sides.tables[NEW_ITEMS] = new
    if hold_out is not None and log.social is None:
        raise StoreError(
            f"hold_out_links = {hold_out} holds out links between users, and the log has none; name their table with [log] social, "
            "or leave the setting out"
        )
    if log.social is not None:
        _add_social(sides, log.social, users, hold_out, seed)
    if log.item_relations is not None:
        _add_item_relations(sides, log.item_relations, items)
    if log.triples is not None:
        _add_triples(sides, log.triples, items, known)
    for name, media in log.media.items():
        _check_media(log, name, known)
        _add_media(sides, name, media, items)
    return sides


def check_names(log: InteractionLog, behaviors: list[str]) -> None:
    """Check that no relation of a side table has the name of another kind of edges: models choose edges by name alone.

    Triples and item relations may share names, for both are knowledge of items.

    Args:
        log: the log.
        behaviors: of its events.

    Raises:
        StoreError: a name would stand for two kinds of edges.
    """
    taken = {"target": "the name that settings give to the target behaviour"}
    taken |= {reverse_name(name): f"the name of the reverse edges of the behaviour {name!r}" for name in behaviors}
    taken |= {name: "a behaviour of the events" for name in behaviors}
    name = FOLLOWS[1]
    if log.social is not None:
        if name in behaviors:
            raise StoreError(
                f"{name!r} is a behaviour of the events and the name of the links of the social table, and models choose edges by "
                f"name; rename the behaviour in the log, such as {name + '_item'!r}, or leave the social table out"
            )
        taken[name] = "the name of the links of the social table"
    for kind, table in (("triples", log.triples), ("item_relations", log.item_relations)):
        found = [] if table is None else table["relation"].cast(pl.String).drop_nulls().unique().sort()
        for name in found:
            if name in taken:
                raise StoreError(
                    f"{kind}: the relation {name!r} is {taken[name]} too, and models choose edges by name; rename it in the "
                    f"table, or the column that it is made of, such as {name + '_of'!r}"
                )


def _align(sides: SideTables, name: str, table: pl.DataFrame, ids: IdMap) -> pl.DataFrame:
    index = ids.find(table[:, 0])
    repeated = _repeated(index)
    good = sides.reject(name, table, {f"{ids.name} not in training": index < 0, f"{ids.name} listed before": repeated})
    attributes = table.drop(table.columns[0]).with_columns(pl.Series("__index", index)).filter(pl.Series(good))
    every = pl.DataFrame({table.columns[0]: ids.series, "__index": np.arange(len(ids))})
    return every.join(attributes, on="__index", how="left", maintain_order="left").drop("__index")


def _new_rows(table: pl.DataFrame, ids: IdMap) -> pl.DataFrame:
    """Rows of ids that training lacks, by ascending id; the first row of an id counts."""
    key = table.columns[0]
    rows = table.filter(pl.Series(ids.find(table[key]) < 0)).drop_nulls(key)
    return rows.unique(key, keep="first", maintain_order=True).sort(key)


def _add_social(sides: SideTables, table: pl.DataFrame, users: IdMap, hold_out: float | None, seed: int) -> None:
    source, target = users.find(table["src"]), users.find(table["dst"])
    bad = {"src or dst missing or no such kind of id": _empty(table["src"], table["dst"])}
    bad |= {"user not in training": (source < 0) | (target < 0), "user linked to itself": source == target}
    bad["link listed before"] = _repeated(source, target)
    weight = table["weight"].cast(pl.Float32).fill_null(1.0)
    bad["link weight not finite or below 0"] = ~(np.isfinite(weight.to_numpy()) & (weight.to_numpy() >= 0))
    good = pl.Series(sides.reject("social", table, bad))
    kept = table.with_columns(weight).filter(good)
    if hold_out is not None:
        kept, sides.held_links = hold_out_links(kept, hold_out, seed)
    ends = (users.find(kept[end]) for end in ("src", "dst"))
    sides.edges[FOLLOWS] = _sorted_edges(*ends, kept["weight"].to_numpy())


def _add_item_relations(sides: SideTables, table: pl.DataFrame, items: IdMap) -> None:
    source, target = items.find(table["src"]), items.find(table["dst"])
    names, code = _relation_codes(table["relation"])
    bad = {"src or dst missing or no such kind of id": _empty(table["src"], table["dst"]), "no relation": code < 0}
    bad |= {"item not in training": (source < 0) | (target < 0), "item linked to itself": source == target}
    bad["link listed before"] = _repeated(source, code, target)
    good = sides.reject("item_relations", table, bad)
    for number, relation in enumerate(names):
        rows = good & (code == number)
        if rows.any():
            sides.edges["item", relation, "item"] = _sorted_edges(source[rows], target[rows])


def _add_triples(sides: SideTables, table: pl.DataFrame, items: IdMap, known: list[IdMap]) -> None:
    head, tail = table["head"], table["tail"]
    head_item, tail_item = items.find(head), items.find(tail)
    lost = [(index < 0) & np.any([ids.find(ends) >= 0 for ids in known], axis=0)
            for ends, index in ((head, head_item), (tail, tail_item))]  # fmt: skip
    names, code = _relation_codes(table["relation"])
    bad = {"no head or tail": _empty(head, tail), "no relation": code < 0, "item not in training": lost[0] | lost[1]}
    text = head.dtype != tail.dtype
    ends = [end.cast(pl.String) if text else end for end in (head, tail)]
    bad["triple from a node to itself"] = (ends[0] == ends[1]).fill_null(False).to_numpy()
    bad["triple listed before"] = _repeated(*table)
    good = sides.reject("triples", table, bad)
    is_entity = [pl.Series(good & (index < 0)) for index in (head_item, tail_item)]
    sides.entities = IdMap.fit(
        pl.concat([end.filter(mask) for end, mask in zip(ends, is_entity, strict=True)]), "entity"
    )
    links = _new_links(table, lost, [sides.entities.find(end) for end in ends], code)
    if len(links):
        sides.tables[NEW_LINKS] = links
    source = np.where(head_item < 0, sides.entities.find(ends[0]), head_item)
    target = np.where(tail_item < 0, sides.entities.find(ends[1]), tail_item)
    kind = code * 4 + (head_item < 0) * 2 + (tail_item < 0)  # relation, head type, tail type
    for number in distinct(kind[good]):
        rows = good & (kind == number)
        etype = ("entity" if number & 2 else "item", names[number // 4], "entity" if number & 1 else "item")
        rows = source[rows], target[rows]
        before = sides.edges.get(etype)
        if before is not None:  # item relations and triples may share a name; their edges then share a type
            rows = tuple(np.concatenate(ends) for ends in zip(rows, (before.source, before.target), strict=True))
            once = ~_repeated(*rows)
            rows = rows[0][once], rows[1][once]
        sides.edges[etype] = _sorted_edges(*rows)


def _new_links(table: pl.DataFrame, lost: list[np.ndarray], entity: list[np.ndarray], code: np.ndarray) -> pl.DataFrame:
    """Triples whose one end is an item that training lacks and whose other end is an entity of the graph.

    Columns: item_id as in the triples, relation, entity (its index), item_is_head; each row once, by ascending item.
    """
    parts = []
    for end, other in ((0, 1), (1, 0)):
        rows = np.flatnonzero(lost[end] & ~lost[other] & (entity[other] >= 0) & (code >= 0))
        ids = table[rows, ("head", "tail")[end]]
        columns = {"item_id": ids, "relation": table[rows, "relation"].cast(pl.String), "entity": entity[other][rows]}
        parts.append(pl.DataFrame(columns).with_columns(item_is_head=pl.lit(end == 0)))
    parts = [part for part in parts if len(part)] or parts[:1]
    if len({part.schema["item_id"] for part in parts}) > 1:
        parts = [part.with_columns(pl.col("item_id").cast(pl.String)) for part in parts]
    return pl.concat(parts).unique().sort("item_id", "relation", "entity", "item_is_head")


def _check_media(log: InteractionLog, name: str, known: list[IdMap]) -> None:
    """Refuse vectors that belong to no item of the events or of the item table."""
    ids = log.media[name].ids
    if any((one.find(ids) >= 0).any() for one in known):
        return
    table = None if log.settings is None else log.settings.media.get(name)
    counts = [f"{len(one):,} {of}" for one, of in zip(known, ("of the log", "of its item table"), strict=False)]
    mend = "write the ids as the log does"
    if table is not None and table.ids is None and table.path.endswith(".npy"):
        file = f'{{path = "{table.path}", ids = "ids.txt"}}'
        mend = f"without ids row r is the item id r; name a file of one id a row: [log.media] {name} = {file}"
    raise LogError(
        f"{'vectors' if table is None else table.path} (media {name}): none of the {len(ids):,} rows is one of the items "
        f"({' and '.join(counts)}): the ids of the rows are {_few(ids)}, those of the items {_few(known[0].series)}; {mend}"
    )


def _few(ids: pl.Series) -> str:
    return ", ".join(map(str, ids[:3])) + (", …" if len(ids) > 3 else "")


def _add_media(sides: SideTables, name: str, media: Media, items: IdMap) -> None:
    index = items.find(media.ids)
    good = sides.reject(f"media {name}", media.ids.to_frame("item_id"), {"item not in training": index < 0})
    sides.features["item", name] = _placed(media.vectors, index, good, len(items))
    if NEW_ITEMS in sides.tables:
        new = IdMap(sides.tables[NEW_ITEMS][:, 0], NEW_ITEMS)
        index = new.find(media.ids)
        sides.features[NEW_ITEMS, name] = _placed(media.vectors, index, index >= 0, len(new))


def _placed(vectors: np.ndarray, index: np.ndarray, good: np.ndarray, rows: int) -> tuple[np.ndarray, int]:
    """The vectors at their rows, zeros elsewhere, and how many there are."""
    placed = np.zeros((rows, vectors.shape[1]), dtype=np.float32)
    placed[index[good]] = vectors[good]
    return placed, int(good.sum())


def _relation_codes(relation: pl.Series) -> tuple[list[str], np.ndarray]:
    relation = relation.cast(pl.String)
    names = relation.drop_nulls().unique().sort()
    return names.to_list(), relation.cast(pl.Enum(names)).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()


def _empty(left: pl.Series, right: pl.Series) -> np.ndarray:
    return (left.is_null() | right.is_null()).to_numpy()


def _repeated(*columns: np.ndarray | pl.Series) -> np.ndarray:
    frame = pl.DataFrame({str(number): column for number, column in enumerate(columns)})
    return ~frame.select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()


def _sorted_edges(source: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> Edges:
    order = np.lexsort((target, source))
    return Edges(
        source[order].astype(np.int32), target[order].astype(np.int32), None if weight is None else weight[order]
    )
