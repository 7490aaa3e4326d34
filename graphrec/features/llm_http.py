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
from graphrec.features.llm_settings import Answer, LLMSettings, Tell

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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for a refusal: whoever it leads to must not get the key."""

    def redirect_request(self, *parts: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


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

    def answer(self, prompts: Sequence[tuple[str, str]], tell: Tell) -> list[Answer]:
        """Answer prompts one after the other, and tell why and for how long a request is tried again.

        Raises:
            LanguageModelError: the endpoint refuses, there is no usable answer after all tries, or the key is no key.
        """
        return [self._one(system, prompt, tell) for system, prompt in prompts]

    def _one(self, system: str, prompt: str, tell: Tell) -> Answer:
        pauses = _pauses(self._settings)
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
                if failure.pause is not None:
                    pauses[attempt - 1] = min(_LONGEST_PAUSE, failure.pause)
                tell(
                    f"{self._url}: {failure}; trying again, up to {len(pauses) - attempt + 1} times, with pauses of "
                    f"{sum(pauses[attempt - 1 :]):g} s in all, and waiting {self._settings.timeout:g} s for each answer at most; with "
                    "llm.retries = 0 it gives up at once"
                )
                time.sleep(pauses[attempt - 1])
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
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as problem:
            raise _Again(f"an answer that is not of the expected form ({type(problem).__name__})") from problem
        if not isinstance(text, str):
            raise _Again("an answer without text")
        text = text.encode("utf-8", "replace").decode()  # JSON may hold halves of surrogate pairs
        return Answer(text.strip(), *counts, tries=attempt)

    def _post(self, body: bytes) -> bytes:
        key = self._key()
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url, body, headers)
        try:
            started = time.monotonic()
            with _OPENER.open(request, timeout=self._settings.timeout) as response:
                return self._read(response, started)
        except urllib.error.HTTPError as refusal:
            raise self._refused(refusal, key) from None
        except (TimeoutError, ConnectionError, http.client.HTTPException) as problem:
            raise _Again(f"a broken connection or time-out ({type(problem).__name__})") from None
        except urllib.error.URLError as problem:
            raise _Again(f"no connection ({problem.reason})") from None

    def _key(self) -> str:
        """The key, or "" where there is none."""
        name = self._settings.key_variable
        key = os.environ.get(name, "").strip()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise LanguageModelError(
                f"the environment variable {name} holds white space or a character that no key has; set it to the key alone"
            )
        return key

    def _read(self, response: http.client.HTTPResponse, started: float) -> bytes:
        """The body, as long as it comes in time."""
        parts, size = [], 0
        while size < _LONGEST_BODY and (part := response.read1(1 << 16)):
            parts.append(part)
            size += len(part)
            if time.monotonic() - started > self._settings.timeout:
                raise TimeoutError
        return b"".join(parts)

    def _refused(self, refusal: urllib.error.HTTPError, key: str) -> Exception:
        if refusal.code in (408, 429) or refusal.code >= 500:
            return _Again(f"status {refusal.code}", _seconds(refusal.headers.get("Retry-After")))
        try:
            said = refusal.read(_LONGEST_BODY).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            said = ""
        said = " ".join((said.replace(key, "***") if key else said).split())[:_SHOWN]
        mend = "check the model's name and the endpoint"
        if 300 <= refusal.code < 400:
            mend = "it leads elsewhere, where the key is not sent; give the address that answers itself"
        elif refusal.code in (401, 403):
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


def _pauses(settings: LLMSettings) -> list[float]:
    """Seconds before each further try."""
    found, pause = [], settings.pause
    for _ in range(settings.retries):
        found.append(min(_LONGEST_PAUSE, pause))
        pause *= 2
    return found


def _seconds(header: Any) -> float | None:
    """The seconds of a Retry-After header; None where there is none, or a date."""
    try:
        return max(0.0, float(header))
    except (TypeError, ValueError):
        return None
