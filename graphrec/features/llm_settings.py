"""Which language model answers and how, and what an answer is: shared by the client and its two ways to a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import Field, model_validator

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
    """Seconds that the endpoint has for an answer; after them a request counts as failed."""
    retries: int = Field(default=4, ge=0)
    """Further tries after a time-out, a missing or broken connection or answer, or the status 408, 429 or 5xx; 0 gives up at once."""
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


Tell = Callable[[str], None]
"""Takes what the user should know while answers are waited for."""


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
