"""One small client for large language models: a `transformers` causal LM by name or path, or an OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from graphrec.features.llm_cache import AnswerCache
from graphrec.features.llm_settings import Answer, LLMSettings, Tell
from graphrec.progress import SILENT, Reporter


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

    def answer(self, prompts: Sequence[tuple[str, str]], tell: Tell) -> list[Answer]:
        """Answer (system, user) prompts, in their order; `tell`, of which the first call counts, says why it takes longer."""
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
            progress: receives the prompts that are not in the cache, and a note at the first request that is tried again.

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
        tell = _first_alone(progress)

        def ask(part: list[tuple[str, str]]) -> list[Answer]:
            return self._backend.answer([(system, prompt) for _, prompt in part], tell)

        started = time.monotonic()
        with progress.task(f"asking {self.settings.model}", total=len(wanted), unit="prompts") as task:
            for part, given in self._as_they_come(parts, ask):
                for (key, _), answer in zip(part, given, strict=True):
                    answers[key] = answer.text
                    self._cache.put(key, answer.text)
                    self._count(answer)
                task.advance(len(part))
        self.usage.seconds += time.monotonic() - started
        return [answers[key] for key in keys]

    def _as_they_come(
        self, parts: list[list[tuple[str, str]]], ask: Callable[[list[tuple[str, str]]], list[Answer]]
    ) -> Iterator[tuple[list[tuple[str, str]], list[Answer]]]:
        """Ask for the parts on as many threads as the backend allows, and yield each as soon as it is there.

        After a failure nothing more is sent, let alone paid; what is under way is waited for and yielded before it is raised.
        """
        if self._backend.workers == 1:
            for part in parts:
                yield part, ask(part)
            return
        with ThreadPoolExecutor(self._backend.workers) as pool:
            futures = {pool.submit(ask, part): part for part in parts}
            failure = None
            try:
                for future in as_completed(futures):
                    if future.cancelled():
                        continue
                    if future.exception() is None:
                        yield futures[future], future.result()
                    elif failure is None:
                        failure = future.exception()
                        for other in futures:
                            other.cancel()
            finally:
                for future in futures:
                    future.cancel()
            if failure is not None:
                raise failure

    def _count(self, answer: Answer) -> None:
        self.usage.retries += answer.tries - 1
        self.usage.prompt_tokens += answer.prompt_tokens
        self.usage.answer_tokens += answer.answer_tokens
        price = self.settings.prompt_price * answer.prompt_tokens + self.settings.answer_price * answer.answer_tokens
        self.usage.cost += price / 1e6

    def _key(self, prompt: str, system: str) -> str:
        content = json.dumps([self._backend.identity, system, prompt], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _first_alone(progress: Reporter) -> Tell:
    """Pass on the first message and no other, from whichever thread it comes."""
    lock, told = threading.Lock(), []

    def tell(message: str) -> None:
        with lock:
            told.append(message)
            first = len(told) == 1
        if first:
            progress.note(message)

    return tell


def _backend(settings: LLMSettings) -> Backend:
    if settings.endpoint is None:
        from graphrec.features.llm_local import LocalModel

        return LocalModel(settings)
    from graphrec.features.llm_http import Endpoint

    return Endpoint(settings)
