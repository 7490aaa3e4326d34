"""Language models that run in this process, through `transformers`."""

from __future__ import annotations

from collections.abc import Sequence

from graphrec.errors import LanguageModelError, MissingExtraError
from graphrec.features.llm_settings import Answer, LLMSettings, Tell
from graphrec.features.pretrained import identify


class LocalModel:
    """A causal language model, by the name or path that `transformers` loads; on the GPU in bfloat16 where there is one.

    A tokenizer with a chat template gets the conversation through it, another one the plain text.

    Args:
        settings: without an `endpoint`.

    Raises:
        MissingExtraError: `transformers` is not installed.
        LanguageModelError: the model cannot be loaded.
    """

    workers = 1

    def __init__(self, settings: LLMSettings) -> None:
        try:
            import torch
            import transformers
        except ImportError:
            raise MissingExtraError("transformers", "text", "a local language model") from None
        self._settings, self._torch = settings, torch
        self.at_once = settings.batch_size
        on_gpu = torch.cuda.is_available()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(settings.model, padding_side="left")
            self._model = transformers.AutoModelForCausalLM.from_pretrained(
                settings.model, dtype=torch.bfloat16 if on_gpu else torch.float32
            )
        except (OSError, ValueError, KeyError, ImportError) as problem:
            raise LanguageModelError(
                f"the language model {settings.model!r} cannot be loaded ({str(problem).splitlines()[0]}); give the name of a "
                "causal language model that is on this machine or can be downloaded, a folder that holds one, or an endpoint"
            ) from problem
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token
        self._model.to("cuda" if on_gpu else "cpu").eval()
        names = ("max_tokens", "temperature", "seed")
        self.identity = {**identify(settings.model, self._model), **{name: getattr(settings, name) for name in names}}
        if settings.temperature > 0:
            self.identity["batch_size"] = settings.batch_size  # draws of one batch come from one stream

    def answer(self, prompts: Sequence[tuple[str, str]], tell: Tell) -> list[Answer]:
        """Answer prompts as one batch; there is nothing to tell.

        Raises:
            LanguageModelError: a prompt is longer than the model can read.
        """
        torch, settings = self._torch, self._settings
        texts = [self._conversation(system, prompt) for system, prompt in prompts]
        inputs = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not self._has_template)
        inputs = inputs.to(self._model.device)
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        width = inputs["input_ids"].shape[1]
        self._check_length(max(lengths))
        draws = {"do_sample": True, "temperature": settings.temperature} if settings.temperature > 0 else {}
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with torch.inference_mode(), torch.random.fork_rng(devices):
            torch.manual_seed(settings.seed)  # within fork_rng: the caller's stream goes on as if nothing had been drawn
            output = self._model.generate(
                **inputs,
                max_new_tokens=settings.max_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
                **({"do_sample": False} | draws),
            )
        answers = []
        for row, length in zip(output[:, width:], lengths, strict=True):
            count = int((row != self._tokenizer.pad_token_id).sum())
            answers.append(Answer(self._tokenizer.decode(row, skip_special_tokens=True).strip(), length, count))
        return answers

    @property
    def _has_template(self) -> bool:
        return bool(getattr(self._tokenizer, "chat_template", None))

    def _conversation(self, system: str, prompt: str) -> str:
        if not self._has_template:
            return f"{system}\n\n{prompt}\n" if system else f"{prompt}\n"
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _check_length(self, longest: int) -> None:
        limit = getattr(self._model.config, "max_position_embeddings", None)
        if limit is not None and longest + self._settings.max_tokens > limit:
            raise LanguageModelError(
                f"{self._settings.model} reads and writes at most {limit:,} tokens, and a prompt has {longest:,} beside the "
                f"{self._settings.max_tokens:,} of llm.max_tokens; give fewer candidates or a shorter history"
            )
