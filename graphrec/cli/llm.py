"""`graphrec llm`: what a language model can add: re-ranked lists, texts that say why, profiles of items and users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Optional

import typer

from graphrec.cli.output import Debug, Json, Output, Quiet, command, examples, verb_group

if TYPE_CHECKING:
    from graphrec.features.llm_settings import LLMSettings

app = verb_group(
    "Ask a language model: a causal LM that transformers knows by name or path, or with --endpoint an OpenAI-compatible "
    "service. Its key is read from the environment variable OPENAI_API_KEY, or the one of --key-variable. With --set: max_tokens, "
    "temperature, seed, timeout, retries, pause, requests_per_minute, concurrency, batch_size, prompt_price, answer_price."
)

Run = Annotated[str, typer.Argument(help="A run folder, or a model folder written by save.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Name or folder of the model; its name at the endpoint.")]
Endpoint = Annotated[
    Optional[str],  # noqa: UP045 - typer evaluates it on Python 3.10
    typer.Option("--endpoint", help="Base address of a service, such as http://localhost:8000/v1."),
]
Cache = Annotated[str, typer.Option("--cache", help="The file that keeps answers, so that none is asked twice.")]
KeyVariable = Annotated[str, typer.Option("--key-variable", help="The environment variable with the endpoint's key.")]
Assignments = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting of the client, as timeout=30. May be repeated."),
]
_CACHE, _KEY_VARIABLE = "llm-answers.sqlite", "OPENAI_API_KEY"


@app.command(
    epilog=examples(
        "graphrec llm rerank runs/demo u00017 u00042 --model Qwen/Qwen2.5-0.5B-Instruct",
        "graphrec llm rerank runs/demo u00017 --model gpt-4o-mini --endpoint https://api.openai.com/v1 --json",
        "graphrec llm rerank runs/demo u00017 --model m --endpoint http://localhost:8000/v1 --set timeout=20 --set requests_per_minute=60",
    )
)
def rerank(
    run: Run,
    users: Annotated[list[str], typer.Argument(metavar="USER...", help="User ids as they stand in the log.")],
    model: Model,
    endpoint: Endpoint = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Items per user.")] = 10,
    candidates: Annotated[int, typer.Option("--candidates", min=1, help="Items per user that are ordered.")] = 20,
    cache: Cache = _CACHE,
    key_variable: KeyVariable = _KEY_VARIABLE,
    assignments: Assignments = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Let a language model order each user's best candidates by their titles."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.features.llm import LLM
        from graphrec.retrieval.llm_rerank import rerank as rerank_lists

        llm = LLM(_settings(model, endpoint, cache, key_variable, assignments))
        found = rerank_lists(run, dict.fromkeys(users), llm, k, candidates=candidates, progress=io.reporter)
        for part in found.lists.partition_by("user_id", maintain_order=True):
            shown = part.drop("user_id")
            io.table(f"user {part['user_id'][0]}", shown.columns, shown.rows())
        if found.kept:
            io.line(f"{found.kept} of {found.asked} lists keep their order: the answer was no order of the candidates")
        _usage(io, llm)
        io.result({"lists": found.lists.to_dicts(), "asked": found.asked, "kept": found.kept, "usage": llm.usage.as_dict()})


@app.command(
    epilog=examples("graphrec llm why runs/demo u00017 --k 3 --model Qwen/Qwen2.5-0.5B-Instruct"),
)
def why(
    run: Run,
    user: Annotated[str, typer.Argument(help="A user id as it stands in the log.")],
    model: Model,
    endpoint: Endpoint = None,
    k: Annotated[int, typer.Option("--k", "-k", help="Items.")] = 5,
    cache: Cache = _CACHE,
    key_variable: KeyVariable = _KEY_VARIABLE,
    assignments: Assignments = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Recommend to a user and say why, in words that name only what the user has chosen."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from graphrec.features.llm import LLM
        from graphrec.retrieval.llm_copy import explain

        llm = LLM(_settings(model, endpoint, cache, key_variable, assignments))
        found = explain(run, user, llm, k, progress=io.reporter)
        rows = [(row["rank"], row["item_id"], row["title"], copy.text, copy.by_model) for row, copy in found]
        io.table(f"user {user}", ("rank", "item_id", "title", "why", "by the model"), rows)
        refused = [copy.problem for _, copy in found if copy.problem]
        if refused:
            io.line(f"{len(refused)} texts were refused twice and replaced by a plain sentence, the first because {refused[0]}")
        _usage(io, llm)
        answers = [{**row, "why": copy.text, "by_model": copy.by_model, "problem": copy.problem} for row, copy in found]
        io.result({"user_id": user, "items": answers, "usage": llm.usage.as_dict()})


@app.command(
    epilog=examples(
        "graphrec llm profiles stores/demo --of item --columns title,category --model Qwen/Qwen2.5-0.5B-Instruct",
        "graphrec llm profiles stores/demo --of user --out user-profiles.parquet --model llama --endpoint http://localhost:8000/v1",
    )
)
def profiles(
    store: Annotated[str, typer.Argument(help="The graph store.")],
    model: Model,
    endpoint: Endpoint = None,
    of: Annotated[str, typer.Option("--of", help="item or user.")] = "item",
    columns: Annotated[str, typer.Option("--columns", help="Columns of the item table to go by; all if left out.")] = "",
    limit: Annotated[Optional[int], typer.Option("--limit", min=1, help="Describe only so many.")] = None,  # noqa: UP045
    out: Annotated[str, typer.Option("--out", "-o", help="The Parquet file to write.")] = "profiles.parquet",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file of --out.")] = False,
    cache: Cache = _CACHE,
    key_variable: KeyVariable = _KEY_VARIABLE,
    assignments: Assignments = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a short profile of each item or user, from attributes and training histories, for a text encoder to read."""
    with command(json=json, quiet=quiet, debug=debug) as io:
        from pathlib import Path

        from graphrec.atomic import atomic_file
        from graphrec.errors import RunError
        from graphrec.features.llm import LLM
        from graphrec.features.profiles import write_profiles
        from graphrec.graph.store import GraphStore

        if Path(out).exists() and not overwrite:
            raise RunError(f"{out} already exists; choose another file or give --overwrite")
        opened = GraphStore.open(store)
        llm = LLM(_settings(model, endpoint, cache, key_variable, assignments))
        chosen = [name.strip() for name in columns.split(",") if name.strip()] or None
        frame = write_profiles(opened, of, llm, columns=chosen, limit=limit, progress=io.reporter)
        with atomic_file(out, RunError) as temporary:
            frame.write_parquet(temporary)
        io.table("Profiles", frame.columns, frame.head(5).rows())
        io.line(f"{frame.height:,} profiles written to {out}")
        _usage(io, llm)
        io.result({"file": out, "rows": frame.height, "usage": llm.usage.as_dict()})


def _settings(model: str, endpoint: str | None, cache: str, key_variable: str, assignments: list[str] | None) -> LLMSettings:
    from graphrec.config import assign
    from graphrec.features.llm_settings import LLMSettings
    from graphrec.settings import parse

    values = {"model": model, "endpoint": endpoint, "cache": cache, "key_variable": key_variable}
    given = [assignment if assignment.startswith("llm.") else f"llm.{assignment}" for assignment in assignments or ()]
    return parse(LLMSettings, assign({"llm": values}, given)["llm"], "llm")


def _usage(io: Output, llm: object) -> None:
    used = llm.usage
    io.line(
        f"{used.asked:,} prompts, {used.cached:,} from the cache; {used.prompt_tokens:,} + {used.answer_tokens:,} tokens, "
        f"{used.retries} tries more than once, {used.seconds:.1f} s" + (f", cost {used.cost:.4f}" if used.cost else "")
    )
