from __future__ import annotations

import logging
import shutil
import sqlite3
import time

import pytest
import torch

from graphrec.errors import ConfigError, LanguageModelError
from graphrec.features.llm import LLM
from graphrec.features.llm_settings import LLMSettings
from graphrec.settings import parse
from tests.features.llm_server import fails, raw, says, server, slow, tiny_model  # noqa: F401 - two are fixtures
from tests.notes import Notes

KEY = "sk-very-secret-1234"


def client(endpoint, **settings) -> LLM:
    return LLM(LLMSettings(model="test", endpoint=endpoint.url, **{"pause": 0.01, **settings}))


def test_a_request_holds_what_the_settings_say(server, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    llm = client(server, max_tokens=7, temperature=0.5, prompt_price=3.0, answer_price=10.0)
    assert llm.complete("What?", "Be brief.") == "hello"
    (request,) = server.seen
    assert request["path"] == "/v1/chat/completions"
    assert request["authorization"] == f"Bearer {KEY}"
    assert request["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What?"}]
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("test", 7, 0.5)
    assert (llm.usage.asked, llm.usage.prompt_tokens, llm.usage.answer_tokens) == (1, 10, 4)
    assert llm.usage.cost == pytest.approx((3 * 10 + 10 * 4) / 1e6)


def test_without_a_key_none_is_sent(server, monkeypatch):  # noqa: F811
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    client(server).complete("What?")
    assert server.seen[0]["authorization"] is None
    assert [message["role"] for message in server.seen[0]["messages"]] == ["user"]


@pytest.mark.parametrize(
    "trouble",
    [fails(408), fails(429), fails(500), fails(503), raw("{broken"), raw('{"choices": []}'), raw("[]"), slow(1.0),
     raw('{"choices": [{"message": {"content": null}}]}'), raw("[" * 200_000)],
    ids=["408", "429", "500", "503", "broken json", "no choice", "a list", "slow", "no text", "too deep"],
)  # fmt: skip
def test_trouble_that_passes_is_waited_out(server, trouble):  # noqa: F811
    server.script = [trouble, trouble, says("at last")]
    llm = client(server, timeout=0.3)
    assert llm.complete("What?") == "at last"
    assert llm.usage.retries == 2 and len(server.seen) == 3


def test_trouble_that_stays_is_one_clear_error(server):  # noqa: F811
    server.script = [fails(500)]
    with pytest.raises(LanguageModelError, match=r"no usable answer after 3 tries, the last because of status 500; see whether"):
        client(server, retries=2).complete("What?")
    assert len(server.seen) == 3


def test_the_first_further_try_is_told_with_how_long_it_may_take(server):  # noqa: F811
    for script, more, said in (
        ([fails(503)], {"retries": 3, "pause": 0.01, "timeout": 7}, "status 503; trying again, up to 3 times, with pauses of 0.07 s in all"),
        ([fails(429, Retry_After="0.2"), says("now")], {"retries": 2}, "status 429; trying again, up to 2 times, with pauses of 0.22 s in all"),
    ):
        server.script, notes = script, Notes()
        llm = client(server, concurrency=4, **more)
        try:
            llm.complete_all([f"p{number}" for number in range(8)], progress=notes)
        except LanguageModelError as failure:
            assert "after 4 tries" in str(failure)
        assert len(notes.lines) == 1 and notes.lines[0].startswith(f"{server.url}/chat/completions: {said}"), notes.lines
        assert f"waiting {more.get('timeout', 60)} s for each answer at most; with llm.retries = 0" in notes.lines[0]


def test_without_further_tries_and_without_trouble_nothing_is_told(server):  # noqa: F811
    notes = Notes()
    client(server).complete_all(["What?"], progress=notes)
    server.script = [fails(503)]
    with pytest.raises(LanguageModelError, match="after 1 tries"):
        client(server, retries=0).complete_all(["Who?"], progress=notes)
    assert not notes.lines


def test_retry_after_wins_over_the_pause(server):  # noqa: F811
    server.script = [fails(429, Retry_After="0.4"), says("now")]
    client(server, pause=0.0).complete("What?")
    assert server.starts[1] - server.starts[0] >= 0.4


def test_nobody_there():
    llm = LLM(LLMSettings(model="test", endpoint="http://127.0.0.1:9/v1", retries=1, pause=0.0))
    with pytest.raises(LanguageModelError, match="after 2 tries, the last because of no connection"):
        llm.complete("What?")


@pytest.mark.parametrize(("status", "mend"), [(401, "environment variable MY_KEY"), (404, "check the model's name")])
def test_a_refusal_is_not_repeated_and_never_shows_the_key(server, monkeypatch, caplog, capsys, status, mend):  # noqa: F811
    monkeypatch.setenv("MY_KEY", KEY)
    server.script = [fails(status, f'{{"error": "the key {KEY} is wrong"}}')]
    with caplog.at_level(logging.DEBUG), pytest.raises(LanguageModelError, match=mend) as caught:
        client(server, key_variable="MY_KEY").complete("What?")
    assert len(server.seen) == 1 and server.seen[0]["authorization"] == f"Bearer {KEY}"
    printed = capsys.readouterr()
    for text in (str(caught.value), repr(caught.getrepr()), caplog.text, printed.out, printed.err):
        assert KEY not in text
    assert "the key *** is wrong" in str(caught.value)


def test_the_key_is_not_sent_where_a_redirect_leads(server, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.script = [fails(302, Location=f"{server.url}/elsewhere")]
    with pytest.raises(LanguageModelError, match="status 302.*where the key is not sent"):
        client(server).complete("What?")
    assert len(server.seen) == 1


def test_a_key_is_stripped_and_one_that_is_none_stays_hidden(server, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    client(server).complete("What?")
    assert server.seen[0]["authorization"] == f"Bearer {KEY}"
    for bad in (f"{KEY}\n{KEY}", f"{KEY} x", f"{KEY}\u00e9"):
        monkeypatch.setenv("OPENAI_API_KEY", bad)
        with pytest.raises(LanguageModelError, match="variable OPENAI_API_KEY holds") as caught:
            client(server).complete("And now?")
        assert KEY not in repr(caught.getrepr())
    assert len(server.seen) == 1


def test_an_answer_that_drips_is_given_up(server):  # noqa: F811
    def drip(size: int, pause: float):
        body = says("late")(server, {})[1].encode()

        def parts():
            for start in range(0, len(body), size):
                time.sleep(pause)
                yield body[start : start + size]

        return lambda *request: (200, parts(), {})

    server.script = [drip(1, 0.05), says("in time")]
    started = time.monotonic()
    assert client(server, timeout=0.3).complete("What?") == "in time"
    assert time.monotonic() - started < 2


def test_half_a_surrogate_pair_is_replaced(server, tmp_path):  # noqa: F811
    server.script = [raw('{"choices": [{"message": {"content": "a \\ud800 b"}}]}')]
    assert client(server, cache=str(tmp_path / "a.sqlite")).complete("What \ud800?") == "a ? b"


def test_after_a_failure_what_was_answered_is_kept(server, tmp_path):  # noqa: F811
    def reply(number, body):
        return fails(400)(number, body) if body["messages"][-1]["content"] == "p0" else says("good")(number, body)

    server.script = [reply]
    path = str(tmp_path / "answers.sqlite")
    prompts = [f"p{number}" for number in range(8)]
    with pytest.raises(LanguageModelError, match="status 400"):
        client(server, cache=path, concurrency=4).complete_all(prompts)
    answered = len(server.seen) - 1
    again = client(server, cache=path)
    server.script = [says("good")]
    assert again.complete_all(prompts) == ["good"] * 8
    assert again.usage.cached == answered >= 3


def test_answers_are_asked_once_in_their_order_and_kept_across_processes(server, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    path = tmp_path / "cache" / "answers.sqlite"
    server.script = [says(lambda prompt: prompt.upper())]
    prompts = [f"p{number % 7}" for number in range(20)]
    llm = client(server, cache=str(path))
    assert llm.complete_all(prompts) == [prompt.upper() for prompt in prompts]
    assert len(server.seen) == 7 and llm.usage.cached == 13
    again = client(server, cache=str(path))
    assert again.complete_all(prompts) == [prompt.upper() for prompt in prompts]
    assert len(server.seen) == 7 and again.usage.cached == 20 and again.usage.cost == 0
    client(server, cache=str(path), temperature=0.3).complete("p1")
    client(server, cache=str(path)).complete("p1", "another instruction")
    assert len(server.seen) == 9, "other settings or another instruction are another question"
    assert KEY.encode() not in path.read_bytes()


def test_an_interrupted_call_goes_on_where_it_stood(server, tmp_path):  # noqa: F811
    path = str(tmp_path / "answers.sqlite")
    server.script = [says("one"), says("two"), fails(400)]
    with pytest.raises(LanguageModelError, match="status 400"):
        client(server, cache=path, concurrency=1).complete_all(["a", "b", "c", "d"])
    server.script, seen = [says("rest")], len(server.seen)
    assert client(server, cache=path).complete_all(["a", "b", "c", "d"]) == ["one", "two", "rest", "rest"]
    assert len(server.seen) == seen + 2


def test_requests_keep_to_the_rate(server):  # noqa: F811
    started = time.monotonic()
    client(server, requests_per_minute=600, concurrency=4).complete_all([f"p{number}" for number in range(6)])
    assert time.monotonic() - started >= 0.5
    gaps = [later - earlier for earlier, later in zip(sorted(server.starts), sorted(server.starts)[1:], strict=False)]
    assert min(gaps) > 0.03


def test_a_damaged_cache_is_named(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"not a database at all, but long enough to be taken for one" * 50)
    with pytest.raises(LanguageModelError, match=f"{path.name} cannot be used"):
        LLM(LLMSettings(model="test", endpoint="http://localhost/v1", cache=str(path)))
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT * FROM answers")


@pytest.mark.parametrize(
    ("values", "problem"),
    [({}, "model: required"), ({"model": "m", "endpoint": "localhost:8000"}, "endpoint must begin with http"),
     ({"model": "m", "api_key": KEY}, "api_key: unknown key"), ({"model": "m", "timeout": 0}, "timeout: ")],
)  # fmt: skip
def test_bad_settings_are_refused(values, problem):
    with pytest.raises(ConfigError, match=problem):
        parse(LLMSettings, values, "llm")


def test_other_weights_in_the_same_folder_are_another_model(tiny_model, tmp_path):  # noqa: F811
    import transformers

    folder, path = tmp_path / "model", str(tmp_path / "answers.sqlite")
    shutil.copytree(tiny_model, folder)
    first = LLM(LLMSettings(model=str(folder), max_tokens=6, cache=path))
    first.complete("item say a")
    torch.manual_seed(1)
    transformers.GPT2LMHeadModel(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    again = LLM(LLMSettings(model=str(folder), max_tokens=6, cache=path))
    again.complete("item say a")
    assert again.usage.cached == 0


def test_a_local_model_answers_alike_alone_and_in_a_batch(tiny_model):  # noqa: F811
    prompts = ["the user has chosen a b c", "item", "order of all candidates : 1 2 3 , say a"]
    llm = LLM(LLMSettings(model=str(tiny_model), max_tokens=6, batch_size=3))
    before = torch.get_rng_state()
    together = llm.complete_all(prompts)
    assert torch.equal(torch.get_rng_state(), before)
    alone = [LLM(LLMSettings(model=str(tiny_model), max_tokens=6, batch_size=1)).complete(prompt) for prompt in prompts]
    assert together == alone and any(together)
    assert llm.usage.prompt_tokens == 7 + 1 + 11
    assert 0 < llm.usage.answer_tokens <= 18


def test_draws_of_a_local_model_follow_the_seed(tiny_model):  # noqa: F811
    def drawn(seed: int) -> list[str]:
        settings = LLMSettings(model=str(tiny_model), max_tokens=12, temperature=1.5, seed=seed)
        return LLM(settings).complete_all(["the user", "say a b"])

    assert drawn(1) == drawn(1) != drawn(2)


def test_local_models_that_cannot_be_had_are_named(tiny_model, tmp_path, monkeypatch):  # noqa: F811
    with pytest.raises(LanguageModelError, match="'.*nothing-here' cannot be loaded .* or an endpoint"):
        LLM(LLMSettings(model=str(tmp_path / "nothing-here")))
    with pytest.raises(LanguageModelError, match="at most 96 tokens, and a prompt has 201"):
        LLM(LLMSettings(model=str(tiny_model), max_tokens=8)).complete("a " * 201)
