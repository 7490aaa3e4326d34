"""The contract every export format keeps, and what `export` itself promises."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from graphrec.atomic import check_free
from graphrec.errors import ConfigError, RunError, StoreError, UnsupportedError
from graphrec.graph.manifest import MARKER
from graphrec.models.score_sum import ScoreSum
from graphrec.progress import Reporter, Task
from graphrec.registry import resolve
from graphrec.retrieval import EXPORTERS, export_faiss
from graphrec.retrieval.export import export
from graphrec.retrieval.vectors import Exporter, Written
from graphrec.training.train import train
from tests.models.conftest import make_store
from tests.notes import Notes


def best_items(model, user: int, k: int = 10) -> list:
    scores = model.score(np.array([user]))[0].numpy()
    return model.catalogue.items.ids_of(np.argsort(-scores, kind="stable")[:k]).tolist()


def run_example(name: str, folder: Path, monkeypatch) -> list:
    monkeypatch.chdir(folder)
    scope: dict = {}
    exec(resolve("export format", EXPORTERS, name).example, scope)  # noqa: S102 - running our own README is the point
    return scope["top_items"]


@pytest.mark.parametrize("name", EXPORTERS)
def test_example_reproduces_the_models_ranking(name, model, tmp_path, monkeypatch):
    export(model, tmp_path / "out", name)
    assert run_example(name, tmp_path / "out", monkeypatch) == best_items(model, 0)


@pytest.mark.parametrize("name", EXPORTERS)
def test_example_is_at_most_five_lines_and_in_the_readme(name, model, tmp_path):
    export(model, tmp_path / "out", name)
    example = resolve("export format", EXPORTERS, name).example
    readme = (tmp_path / "out" / "README.txt").read_text(encoding="utf-8")
    assert len(example.splitlines()) <= 5
    assert all(line in readme for line in example.splitlines())


def test_readers_get_the_same_vectors_and_ids(model, tmp_path):
    import faiss
    from safetensors.numpy import load_file

    out = export(model, tmp_path / "out").folder
    tensors = load_file(out / "safetensors" / "embeddings.safetensors")
    for ntype, ids in (("user", model.catalogue.users.series), ("item", model.catalogue.items.series)):
        frame = pl.read_parquet(out / "parquet" / f"{ntype}.parquet")
        assert frame.schema == {f"{ntype}_id": ids.dtype, "vector": pl.List(pl.Float32)}
        assert frame[f"{ntype}_id"].to_list() == ids.to_list()
        expected = model.embeddings()[ntype]
        np.testing.assert_array_equal(np.array(frame["vector"].to_list(), dtype=np.float32), expected)
        np.testing.assert_array_equal(np.load(out / "npy" / f"{ntype}.npy"), expected)
        assert np.load(out / "npy" / f"{ntype}_ids.npy").tolist() == ids.to_list()
        np.testing.assert_array_equal(tensors[ntype], expected)
        index = faiss.read_index(str(out / "faiss" / f"{ntype}.faiss"))
        np.testing.assert_array_equal(index.reconstruct_n(0, index.ntotal), expected)
        for form in ("safetensors", "faiss"):
            id_file = pl.read_parquet(out / form / f"{ntype}_ids.parquet")
            assert id_file["row"].to_list() == list(range(len(ids)))
            assert id_file[f"{ntype}_id"].to_list() == ids.to_list()
    described = json.loads((out / "npy" / "embeddings.json").read_text())
    assert described["item"]["id_dtype"] == ("string" if ids.dtype == pl.String else "int64")


def test_a_format_cannot_change_what_the_next_one_writes_nor_the_model(model, tmp_path, monkeypatch):
    def write(tables, folder, settings, progress):
        tables[1].vectors /= np.linalg.norm(tables[1].vectors, axis=1, keepdims=True)
        return Written()

    own = Exporter("unit vectors", write, "")
    monkeypatch.setattr(sys.modules[__name__], "OWN", own, raising=False)
    monkeypatch.setitem(EXPORTERS, "own", f"{__name__}:OWN")
    before = model.item.copy()
    with pytest.raises(ValueError, match="read-only"):
        export(model, tmp_path / "out", ["own", "npy"])
    np.testing.assert_array_equal(model.item, before)
    model.item[0] = 1  # it is the tables that are read-only, not what the model has


def test_the_manifest_names_run_and_data(tmp_path):
    pairs = [(user, item) for user in range(6) for item in range(user % 2, 8, 2)]
    run = train(make_store(tmp_path / "store", pairs, [(0, 1)]), "bpr-mf", tmp_path / "run", {"epochs": 1})
    for source in (run, tmp_path / "run"):
        manifest = export(source, tmp_path / "out", "npy", overwrite=True).manifest
        assert (manifest["run"], manifest["store"]) == (str(tmp_path / "run"), run.config.store)
        assert str(tmp_path / "run") in (tmp_path / "out" / "README.txt").read_text()
    alone = export(tmp_path / "run" / "model", tmp_path / "out", "npy", overwrite=True).manifest
    assert (alone["run"], alone["store"]) == (None, None)


def test_parquet_with_more_rows_than_one_row_group(tmp_path, monkeypatch, factors):
    monkeypatch.setattr("graphrec.retrieval.export_parquet._ROWS_PER_GROUP", 7)
    model = factors()
    export(model, tmp_path / "out", "parquet")
    frame = pl.read_parquet(tmp_path / "out" / "parquet" / "item.parquet")
    assert frame["item_id"].to_list() == model.catalogue.items.series.to_list()
    np.testing.assert_array_equal(np.array(frame["vector"].to_list(), dtype=np.float32), model.item)


def test_manifest_describes_and_checks_every_file(tmp_path, factors):
    model = factors()
    done = export(model, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest == done.manifest
    assert (manifest["model"], manifest["dim"], manifest["metric"]) == ("factors", 4, "inner_product")
    assert manifest["counts"] == {"user": 6, "item": 40}
    on_disk = {path.relative_to(done.folder).as_posix() for path in done.folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == on_disk - {"manifest.json"}
    for path in done.files:
        entry = manifest["files"][path.relative_to(done.folder).as_posix()]
        assert entry == {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.mark.parametrize("index", ["flat", "hnsw", "ivf"])
def test_faiss_indexes_agree_with_exact_search(index, tmp_path, monkeypatch, factors):
    model = factors(num_users=50, num_items=2000, dim=8)
    done = export(model, tmp_path / "out", "faiss", index)
    parameters = done.manifest["formats"]["faiss"]["item"]
    assert parameters["index"] == index
    told = [note for note in done.manifest["notes"] if "of the exact top 10 of 50 users" in note]
    assert len(told) == (index != "flat")
    if told:
        assert parameters["recall_at_10_of_exact"] >= 0.95
        assert f"finds {parameters['recall_at_10_of_exact']:.1%}" in told[0]
        assert told[0] in (done.folder / "README.txt").read_text() and "raise" not in told[0]
    assert len(set(run_example("faiss", done.folder, monkeypatch)) & set(best_items(model, 0))) >= 7


def test_index_settings_are_kept_in_the_file(tmp_path, factors):
    import faiss

    model = factors(num_items=400)
    export(model, tmp_path / "hnsw", "faiss", "hnsw", hnsw_ef_search=77)
    assert faiss.read_index(str(tmp_path / "hnsw" / "faiss" / "item.faiss")).hnsw.efSearch == 77
    done = export(model, tmp_path / "ivf", "faiss", "ivf", ivf_lists=5, ivf_probes=2)
    index = faiss.read_index(str(tmp_path / "ivf" / "faiss" / "item.faiss"))
    assert (index.nlist, index.nprobe, index.metric_type) == (5, 2, faiss.METRIC_INNER_PRODUCT)
    assert [note.partition(",")[0] for note in done.manifest["notes"]] == ["faiss ivf: an approximate index"]


def test_ivf_visits_the_fewest_lists_that_find_enough(tmp_path, factors):
    import faiss

    model = factors(num_users=50, num_items=2000, dim=8)
    chosen = export(model, tmp_path / "out", "faiss", "ivf").manifest["formats"]["faiss"]["item"]
    assert faiss.read_index(str(tmp_path / "out" / "faiss" / "item.faiss")).nprobe == chosen["probes"]
    assert 1 < chosen["probes"] < chosen["lists"]
    fewer = export(model, tmp_path / "fewer", "faiss", "ivf", ivf_probes=chosen["probes"] - 1).manifest
    assert fewer["formats"]["faiss"]["item"]["recall_at_10_of_exact"] < 0.95
    assert "for more raise [export] ivf_probes, or take the flat index" in fewer["notes"][-1]


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_an_index_is_measured_within_its_step(tmp_path, factors, monkeypatch, index):
    told = []

    class Steps(Reporter):
        @contextmanager
        def task(self, description, total=None, unit="it"):
            step = Task()
            step.show = lambda **fields: told.append(fields["step"])
            yield step
            told.append(f"{description} over")

    measured = export_faiss._measured
    monkeypatch.setattr(export_faiss, "_measured", lambda *given: (told.append("measured"), measured(*given))[1])
    export(factors(num_items=400), tmp_path / "out", "faiss", index, progress=Steps())
    steps = ["building", "measuring against exact search", "measured", f"faiss {index} item over"]
    assert told == ["building", "faiss flat user over", *steps]


def test_ivf_with_too_few_items_is_mended_and_says_so(tmp_path, capfd, factors):
    model, notes = factors(num_items=40), Notes()
    done = export(model, tmp_path / "out", "faiss", "ivf", ivf_lists=64, progress=notes)
    assert done.manifest["formats"]["faiss"]["item"]["lists"] == 1
    assert done.manifest["formats"]["faiss"]["item"]["recall_at_10_of_exact"] == 1.0
    assert notes.lines == done.manifest["notes"] and "instead of 64" in notes.lines[0]
    assert "instead of 64" in (tmp_path / "out" / "README.txt").read_text()
    assert "WARNING" not in capfd.readouterr().err


def test_ivf_of_one_item(tmp_path, factors):
    model = factors(num_users=1, num_items=1)
    done = export(model, tmp_path / "out", "faiss", "ivf")
    assert done.manifest["formats"]["faiss"]["item"]["lists"] == 1


def test_vectors_that_rank_as_the_model_say_so(factors, tmp_path):
    done = export(factors(), tmp_path / "out", "npy")
    assert done.manifest["top10_agreement_with_model"] == 1.0
    assert done.manifest["notes"] == []


def test_vectors_that_hold_a_part_of_the_score_are_noted(factors, tmp_path):
    model = factors()
    popular = torch.arange(40, dtype=torch.float32)
    model._score = lambda users: torch.from_numpy(model.user[users] @ model.item.T) + popular
    done = export(model, tmp_path / "out", "npy")
    assert 0 < done.manifest["top10_agreement_with_model"] < 1
    assert "hold only a part" in done.manifest["notes"][0]
    assert "hold only a part" in (tmp_path / "out" / "README.txt").read_text()


def test_ties_of_the_model_do_not_count_against_the_vectors(factors, tmp_path):
    model = factors()
    model.item[:] = model.item[:1]
    assert export(model, tmp_path / "out", "npy").manifest["top10_agreement_with_model"] == 1.0


def test_models_without_vectors_say_what_to_do(popularity, tmp_path):
    with pytest.raises(UnsupportedError, match=r"popularity has no embeddings.*graphrec recommend RUN --all"):
        export(popularity, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_member_without_vectors_is_named(popularity, factors, tmp_path):
    inner = ScoreSum.of([factors(), popularity], (0.5, 0.5))
    with pytest.raises(UnsupportedError, match="sum has no embeddings to export: popularity, which it is made of, scores items from"):
        export(ScoreSum.of([inner, factors()], (0.5, 0.5)), tmp_path / "out")


def test_vectors_that_are_not_finite_are_refused(tmp_path, factors):
    model = factors()
    model.item[3, 1] = np.nan
    with pytest.raises(RunError, match=r"1 of 40 item vectors .* item i00003; .*learning_rate"):
        export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_format_index_and_setting_are_named(tmp_path, factors):
    model = factors()
    with pytest.raises(ConfigError, match="unknown export format 'parket'.*did you mean 'parquet'"):
        export(model, tmp_path / "out", ["parket"])
    with pytest.raises(ConfigError, match="index.*'hsnw'"):
        export(model, tmp_path / "out", index="hsnw")
    with pytest.raises(ConfigError, match="ivf_list: unknown key.*did you mean 'ivf_lists'"):
        export(model, tmp_path / "out", ivf_list=3)
    assert os.listdir(tmp_path) == []


def test_an_export_is_replaced_only_when_asked_and_only_if_it_is_one(tmp_path, factors):
    model = factors()
    export(model, tmp_path / "out", "npy")
    with pytest.raises(RunError, match="already exists"):
        export(model, tmp_path / "out", "npy")
    export(model, tmp_path / "out", "parquet", overwrite=True)
    assert not (tmp_path / "out" / "npy").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="holds no manifest.json"):
        export(model, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_an_export_and_a_store_do_not_replace_one_another(tmp_path, factors):
    store = make_store(tmp_path / "store", [("a", "x"), ("b", "x"), ("b", "y")], [("a", "y")]).folder
    kept = sorted(path.name for path in store.iterdir())
    with pytest.raises(RunError, match="holds no README.txt, so it is not overwritten"):
        export(factors(), store, overwrite=True)
    assert sorted(path.name for path in store.iterdir()) == kept
    made = export(factors(), tmp_path / "out", "npy")
    with pytest.raises(StoreError, match="holds no splits, so it is not overwritten"):
        check_free(made.folder, StoreError, True, MARKER)
    assert (made.folder / "npy").is_dir()


def write_lines(tables, folder, settings, progress):
    for table in tables:
        (folder / f"{table.ntype}.txt").write_text("\n".join(map(str, table.ids)))
    return Written()


LINES = Exporter("ids, one a line", write_lines, "top_items = []")
SILENT = Exporter("nothing", lambda *_: None, "top_items = []")


def test_a_format_of_ones_own_is_among_the_default_ones(tmp_path, monkeypatch, factors):
    monkeypatch.setitem(EXPORTERS, "lines", f"{__name__}:LINES")
    assert list(export(factors(), tmp_path / "out").manifest["formats"]) == ["parquet", "npy", "safetensors", "faiss", "lines"]
    assert (tmp_path / "out" / "lines" / "item.txt").is_file()


def test_a_format_that_returns_nothing_is_named(tmp_path, monkeypatch, factors):
    monkeypatch.setitem(EXPORTERS, "silent", f"{__name__}:SILENT")
    with pytest.raises(TypeError, match=r"the export format silent: write must return a .*Written, got NoneType; return Written\(\)"):
        export(factors(), tmp_path / "out", "silent")
    assert not (tmp_path / "out").exists()


def test_an_export_shows_itself_on_one_line(tmp_path, factors):
    shown = repr(export(factors(), tmp_path / "out", "npy"))
    assert shown == f"Export({str(tmp_path / 'out')!r}, model='factors', formats=['npy'])"


def test_a_failing_format_leaves_nothing(tmp_path, monkeypatch, factors):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("graphrec.retrieval.export_faiss._build", fail)
    with pytest.raises(RunError, match="disk is full while writing"):
        export(factors(), tmp_path / "out")
    assert [name for name in os.listdir(tmp_path) if not name.endswith(".lock")] == []
