"""One small client for large language models: a `transformers` causal LM by name or path, or an OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from pydantic import Field, model_validator

from graphrec.features.llm_cache import AnswerCache
from graphrec.progress import SILENT, Reporter
from graphrec.settings import Settings


class LLMSettings(Settings):
    """Which language model answers, and how."""

    model: str = Field(min_length=1)
    """The name at the endpoint; without an endpoint a name or local path that `transformers` knows."""
    endpoint: str | None = None
    """Base address of an OpenAI-compatible service, up to and without `/chat/completions`: "https://host/v1"."""
    key_variable: str = Field(default="OPENAI_API_KEY", min_length=1)
    """The environment variable that holds the endpoint's key; unset, no key is sent. The key itself is no setting."""
    max_tokens: int = Field(default=256, ge=1)
    """The longest answer, in the model's tokens."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """0 always takes the likeliest token, so that a second run gives the same answers."""
    seed: int = Field(default=0, ge=0)
    """Of the draws where the temperature is above 0; endpoints may ignore it."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds without a byte from the endpoint after which a request counts as failed."""
    retries: int = Field(default=4, ge=0)
    """Further tries after a time-out, a broken connection or answer, or the status 429 or 5xx."""
    pause: float = Field(default=1.0, ge=0)
    """Seconds before the first further try, doubled before each next one; the endpoint's Retry-After wins, up to 60."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Starts of requests to the endpoint, evenly spaced; None sends as fast as answers come."""
    concurrency: int = Field(default=4, ge=1, le=64)
    """Requests to the endpoint under way at a time."""
    batch_size: int = Field(default=8, ge=1)
    """Prompts that a local model answers at a time."""
    prompt_price: float = Field(default=0.0, ge=0)
    """Cost of a million prompt tokens, in the unit that the usage report shall have."""
    answer_price: float = Field(default=0.0, ge=0)
    """Cost of a million answer tokens."""
    cache: str | None = None
    """File that keeps answers, made if missing; None keeps them for this process only."""

    @model_validator(mode="after")
    def _is_an_address(self) -> LLMSettings:
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError("endpoint must begin with http:// or https://, such as http://localhost:8000/v1")
        return self


@dataclass(frozen=True)
class Answer:
    """What a model said.

    Attributes:
        text: stripped of white space at both ends.
        prompt_tokens, answer_tokens: as the model or the endpoint counted them; 0 where it does not say.
        tries: requests that it took.
    """

    text: str
    prompt_tokens: int = 0
    answer_tokens: int = 0
    tries: int = 1


@dataclass
class Usage:
    """What the answers of one client cost so far; answers from the cache cost nothing.

    Attributes:
        asked: prompts given.
        cached: of these, answered from the cache.
        retries: requests sent again.
        prompt_tokens, answer_tokens: of the answers that were not cached.
        seconds: spent waiting for answers.
        cost: by the prices of the settings.
    """

    asked: int = 0
    cached: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


class Backend(Protocol):
    """Answers prompts; `identity` names everything about it that changes an answer."""

    identity: dict[str, Any]
    at_once: int
    workers: int

    def answer(self, prompts: Sequence[tuple[str, str]]) -> list[Answer]:
        """Answer (system, user) prompts, in their order."""
        ...


class LLM:
    """Asks a language model, remembers its answers and counts what they cost.

    Args:
        settings: which model and how.
        backend: answers instead of the model that the settings name.

    Raises:
        LanguageModelError: the local model cannot be loaded.
        MissingExtraError: a local model is asked for and `transformers` is not installed.
    """

    def __init__(self, settings: LLMSettings, backend: Backend | None = None) -> None:
        self.settings, self.usage = settings, Usage()
        self._backend = backend or _backend(settings)
        self._cache = AnswerCache(settings.cache)

    def complete(self, prompt: str, system: str = "") -> str:
        """Answer one prompt; see `complete_all`."""
        return self.complete_all([prompt], system)[0]

    def complete_all(self, prompts: Sequence[str], system: str = "", *, progress: Reporter = SILENT) -> list[str]:
        """Answer prompts. Equal prompts are asked once, and each answer is kept as soon as it is there.

        Args:
            prompts: what the user says, one conversation each.
            system: the instruction that stands before each of them.
            progress: receives the prompts that are not in the cache.

        Returns:
            The answers, in the order of `prompts`.

        Raises:
            LanguageModelError: the endpoint refuses, or gives no usable answer after all tries. Answers that came before
                are in the cache, so that a second call goes on from there.
        """
        keys = [self._key(prompt, system) for prompt in prompts]
        answers = self._cache.get(keys)
        open_ones = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in answers}
        self.usage.asked += len(prompts)
        self.usage.cached += len(prompts) - len(open_ones)
        size = self._backend.at_once
        wanted = list(open_ones.items())
        parts = [wanted[start : start + size] for start in range(0, len(wanted), size)]
        started = time.monotonic()
        with progress.task(f"asking {self.settings.model}", total=len(wanted), unit="prompts") as task:
            for part, given in self._in_order(parts, lambda part: [(system, prompt) for _, prompt in part]):
                for (key, _), answer in zip(part, given, strict=True):
                    answers[key] = answer.text
                    self._cache.put(key, answer.text)
                    self._count(answer)
                task.advance(len(part))
        self.usage.seconds += time.monotonic() - started
        return [answers[key] for key in keys]

    def _in_order(
        self, parts: list[list[tuple[str, str]]], prompts_of: Callable[[list[tuple[str, str]]], list[tuple[str, str]]]
    ) -> Iterator[tuple[list[tuple[str, str]], list[Answer]]]:
        """Answer the parts on as many threads as the backend allows; yield them in order."""
        if self._backend.workers == 1:
            for part in parts:
                yield part, self._backend.answer(prompts_of(part))
            return
        with ThreadPoolExecutor(self._backend.workers) as pool:
            futures = [pool.submit(self._backend.answer, prompts_of(part)) for part in parts]
            try:
                for part, future in zip(parts, futures, strict=True):
                    yield part, future.result()
            finally:
                for future in futures:  # after a failure nothing more is sent, let alone paid
                    future.cancel()

    def _count(self, answer: Answer) -> None:
        self.usage.retries += answer.tries - 1
        self.usage.prompt_tokens += answer.prompt_tokens
        self.usage.answer_tokens += answer.answer_tokens
        price = self.settings.prompt_price * answer.prompt_tokens + self.settings.answer_price * answer.answer_tokens
        self.usage.cost += price / 1e6

    def _key(self, prompt: str, system: str) -> str:
        content = json.dumps([self._backend.identity, system, prompt], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode()).hexdigest()


def _backend(settings: LLMSettings) -> Backend:
    if settings.endpoint is None:
        from graphrec.features.llm_local import LocalModel

        return LocalModel(settings)
    from graphrec.features.llm_http import Endpoint

    return Endpoint(settings)
