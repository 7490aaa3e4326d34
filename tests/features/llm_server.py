"""A language model endpoint that misbehaves on demand, and a tiny random model of our own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

Reply = Callable[["Server", dict[str, Any]], tuple[int, str | bytes | Iterator[bytes], dict[str, str]]]


class Server:
    """An OpenAI-compatible service whose replies a test scripts.

    Attributes:
        url: its base address.
        script: replies for the next requests, first come first served; the last one stays for all further ones.
        seen: the requests so far: their bodies, with the header `Authorization` as "authorization".
        starts: when each came, in seconds of the monotonic clock.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.script: list[Reply] = [says("hello")]
        self.seen: list[dict[str, Any]] = []
        self.starts: list[float] = []
        self.lock = threading.Lock()

    def next_reply(self) -> Reply:
        with self.lock:
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]


def says(text: str | Callable[[str], str], prompt_tokens: int = 10, answer_tokens: int = 4) -> Reply:
    """A good answer: a text, or what `text` makes of the prompt."""

    def reply(server: Server, body: dict[str, Any]) -> tuple[int, str, dict[str, str]]:
        said = text(body["messages"][-1]["content"]) if callable(text) else text
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": answer_tokens}
        return 200, json.dumps({"choices": [{"message": {"content": said}}], "usage": usage}), {}

    return reply


def fails(status: int, body: str = "{}", **headers: str) -> Reply:
    """A refusal."""
    return lambda server, request: (status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def raw(body: str) -> Reply:
    """Status 200 with a body of no use."""
    return lambda server, request: (200, body, {})


def slow(seconds: float) -> Reply:
    """A good answer that comes too late."""

    def reply(server: Server, body: dict[str, Any]) -> tuple[int, str | bytes, dict[str, str]]:
        time.sleep(seconds)
        return says("late")(server, body)

    return reply


@pytest.fixture
def server() -> Iterator[Server]:
    """A running service on a free port of this machine."""
    scripted: Server

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with scripted.lock:
                scripted.starts.append(time.monotonic())
                scripted.seen.append({**body, "authorization": self.headers.get("Authorization"), "path": self.path})
            status, content, headers = scripted.next_reply()(scripted, body)
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                content = content.encode() if isinstance(content, str) else content
                for part in [content] if isinstance(content, bytes) else content:
                    self.wfile.write(part)
                    self.wfile.flush()
            except (BrokenPipeError, ConnectionResetError):  # the client gave up, as a slow reply makes it do
                pass

        def log_message(self, *parts: object) -> None:
            """Keep the test's output clean."""

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scripted = Server(f"http://127.0.0.1:{http_server.server_address[1]}/v1")
    thread = threading.Thread(target=http_server.serve_forever, daemon=True)
    thread.start()
    yield scripted
    http_server.shutdown()
    http_server.server_close()
    thread.join()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a causal language model of two layers, random weights and a tokenizer of a few words."""
    transformers = pytest.importorskip("transformers", reason="needs the extra text")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<unk>", "<pad>", "<eos>", *["the", "user", "has", "chosen", "candidates", "order", "of", "all", "item", "say", "a", "b", "c", "d", "e", "1", "2", "3", "[", "]", ","]]
    vocabulary = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=vocabulary, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>"
    )
    config = transformers.GPT2Config(
        vocab_size=len(words), n_positions=96, n_embd=16, n_layer=2, n_head=2, bos_token_id=2, eos_token_id=2, pad_token_id=1
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.GPT2LMHeadModel(config)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
