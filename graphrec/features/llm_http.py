"""Language models behind an OpenAI-compatible HTTP endpoint."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from graphrec.errors import LanguageModelError
from graphrec.features.llm_settings import Answer, LLMSettings

_LONGEST_PAUSE = 60.0  # seconds, whatever the endpoint asks for
_LONGEST_BODY = 16 << 20  # bytes of one answer
_SHOWN = 300  # characters of a refusal


class _Again(Exception):
    """A request failed in a way that another try may mend.

    Attributes:
        pause: seconds that the endpoint asks to wait, or None.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Endpoint:
    """Sends `POST <endpoint>/chat/completions` and reads the first choice.

    The key is read from the environment for each request and stands in no message, log or cache.

    Args:
        settings: with an `endpoint`.
    """

    at_once = 1

    def __init__(self, settings: LLMSettings) -> None:
        self._settings = settings
        self._url = settings.endpoint.rstrip("/") + "/chat/completions"
        self.workers = settings.concurrency
        names = ("model", "endpoint", "max_tokens", "temperature", "seed")
        self.identity = {name: getattr(settings, name) for name in names}
        self._turn = threading.Lock()
        self._next_start = 0.0

    def answer(self, prompts: Sequence[tuple[str, str]]) -> list[Answer]:
        """Answer prompts one after the other.

        Raises:
            LanguageModelError: the endpoint refuses, or there is no usable answer after all tries.
        """
        return [self._one(system, prompt) for system, prompt in prompts]

    def _one(self, system: str, prompt: str) -> Answer:
        pause = self._settings.pause
        for attempt in range(1, self._settings.retries + 2):
            self._wait_for_turn()
            try:
                return self._request(system, prompt, attempt)
            except _Again as failure:
                if attempt > self._settings.retries:
                    raise LanguageModelError(
                        f"{self._url}: no usable answer after {attempt} tries, the last because of {failure}; "
                        "see whether the service is up, or raise llm.timeout or llm.retries"
                    ) from failure
                time.sleep(min(_LONGEST_PAUSE, pause if failure.pause is None else failure.pause))
                pause *= 2
        raise AssertionError("unreachable")

    def _request(self, system: str, prompt: str, attempt: int) -> Answer:
        settings = self._settings
        messages = [{"role": "system", "content": system}] if system else []
        body = {
            "model": settings.model,
            "messages": [*messages, {"role": "user", "content": prompt}],
            "max_tokens": settings.max_tokens,
            "temperature": settings.temperature,
            "seed": settings.seed,
        }
        reply = self._post(json.dumps(body).encode())
        try:
            decoded = json.loads(reply)
            text = decoded["choices"][0]["message"]["content"]
            usage = decoded.get("usage") or {}
            counts = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as problem:
            raise _Again(f"an answer that is not of the expected form ({type(problem).__name__})") from problem
        if not isinstance(text, str):
            raise _Again("an answer without text")
        return Answer(text.strip(), *counts, tries=attempt)

    def _post(self, body: bytes) -> bytes:
        key = os.environ.get(self._settings.key_variable, "")
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, body, headers)
        try:
            with urllib.request.urlopen(request, timeout=self._settings.timeout) as response:
                return response.read(_LONGEST_BODY)
        except urllib.error.HTTPError as refusal:
            raise self._refused(refusal, key) from None
        except (TimeoutError, ConnectionError, http.client.HTTPException) as problem:
            raise _Again(f"a broken connection or time-out ({type(problem).__name__})") from None
        except urllib.error.URLError as problem:
            raise _Again(f"no connection ({problem.reason})") from None

    def _refused(self, refusal: urllib.error.HTTPError, key: str) -> Exception:
        if refusal.code == 429 or refusal.code >= 500:
            return _Again(f"status {refusal.code}", _seconds(refusal.headers.get("Retry-After")))
        try:
            said = refusal.read(_LONGEST_BODY).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            said = ""
        said = " ".join((said.replace(key, "***") if key else said).split())[:_SHOWN]
        mend = "check the model's name and the endpoint"
        if refusal.code in (401, 403):
            mend = f"put a valid key into the environment variable {self._settings.key_variable}"
        return LanguageModelError(f"{self._url} refuses with status {refusal.code}: {said or 'no reason'}; {mend}")

    def _wait_for_turn(self) -> None:
        if self._settings.requests_per_minute is None:
            return
        with self._turn:
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + 60 / self._settings.requests_per_minute
        time.sleep(start - now)


def _seconds(header: Any) -> float | None:
    """The seconds of a Retry-After header; None where there is none, or a date."""
    try:
        return max(0.0, float(header))
    except (TypeError, ValueError):
        return None
