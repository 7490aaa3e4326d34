"""Recommendation texts by a language model ("why this for you"), grounded in evidence and checked against it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphrec.errors import ConfigError
from graphrec.features.llm import LLM
from graphrec.progress import SILENT, Reporter
from graphrec.retrieval.llm_rerank import history_titles, one_line, titles_of
from graphrec.retrieval.source import Source, open_model

SYSTEM = (
    "You write one or two short sentences that tell a user why an item is recommended. Use only the evidence given. Put each "
    "title that you name in double quotes, exactly as given, and name no other item, person or number."
)
_QUOTED = re.compile("[\"\u201c\u201e\u00ab]([^\"\u201c\u201d\u201e\u00ab\u00bb]{2,200})[\"\u201d\u201c\u00bb]")
_WORD = re.compile(r"\w+")
_BEHIND = re.compile(r"\s*[(\[][^()\[\]]*[)\]]\s*$|\s*:\s.*$")  # a year or series in brackets, a subtitle
_ENDS_SENTENCE = re.compile(r"(?:^|[.!?\u2026:][\"\u201d\u201c\u00bb')]*\s+|\n)[\"\u201c\u201e\u00ab'(]*$")
_OPENERS = frozenset([
    "after", "another", "based", "because", "both", "discover", "enjoy", "fans", "following", "from", "given",
    "having", "here", "just", "like", "looking", "love", "loved", "more", "perfect", "readers", "recommended",
    "similar", "since", "that", "these", "they", "this", "those", "try", "when", "while", "with", "your", "yours",
])  # they begin sentences, and a title that is one of them is not meant there  # fmt: skip
_LONGEST = 600  # characters of a text that is still a short one


@dataclass(frozen=True)
class Evidence:
    """What a text may be built from.

    Attributes:
        title: of the item that is recommended.
        history: titles that the user has chosen.
        facts: further facts about the item or the user, by name ("genre": "jazz").
    """

    title: str
    history: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Copy:
    """A checked text.

    Attributes:
        text: what to show.
        by_model: False where both answers failed the check and a plain sentence stands instead.
        problem: what was wrong with the last answer that failed, or None.
    """

    text: str
    by_model: bool
    problem: str | None = None


class TitleCheck:
    """Finds the catalogue's titles in a text.

    A title of several words counts wherever its words follow each other, whatever their case; a title of one word only
    where it stands with its own spelling and has at least 4 letters, because shorter ones are words of any sentence. A title
    counts without its year, series or subtitle too. Numbers, and two capitalised words in a row, which are as a rule a
    person's name, must stand in the evidence.

    Args:
        titles: of the whole catalogue.
    """

    def __init__(self, titles: Iterable[str]) -> None:
        self._single: set[str] = set()
        self._several: dict[str, list[tuple[str, ...]]] = {}  # by first word
        for title in {form for whole in titles for form in (whole, _BEHIND.sub("", whole))}:
            words = _WORD.findall(title)
            if len(words) == 1 and len(words[0]) >= 4:
                self._single.add(words[0])
            elif len(words) > 1:
                folded = tuple(word.casefold() for word in words)
                self._several.setdefault(folded[0], []).append(folded)

    def problem(self, text: str, evidence: Evidence) -> str | None:
        """Say what the text names beyond the evidence, or None where it names nothing else."""
        if not text or len(text) > _LONGEST:
            return f"the text must have 1 to {_LONGEST} characters, got {len(text)}"
        supplied = [evidence.title, *evidence.history]
        allowed_words = set(_WORD.findall(" ".join([*supplied, *evidence.facts, *evidence.facts.values()])))
        folded_supplied = [_folded(one) for one in [*supplied, *evidence.facts.values()]]
        for quoted in _QUOTED.findall(text):
            if not any(_contains(one, _folded(quoted)) for one in folded_supplied):
                return f"it quotes {quoted!r}, which is not in the evidence"
        found_words = list(_WORD.finditer(text))
        words = [match.group() for match in found_words]
        folded = [word.casefold() for word in words]
        opens = [bool(_ENDS_SENTENCE.search(text, 0, match.start())) for match in found_words]
        for place, word in enumerate(words):
            if word not in allowed_words:
                named = word in self._single and not (opens[place] and folded[place] in _OPENERS)
                if named or any(letter.isdigit() for letter in word):
                    return f"it names {word!r}, which is not in the evidence"
                following = words[place + 1] if place + 1 < len(words) and not opens[place + 1] else ""
                if _is_name(word) and not opens[place] and _is_name(following) and following not in allowed_words:
                    return f"it names {word + ' ' + following!r}, which is not in the evidence"
            for title in self._several.get(folded[place], ()):
                found = tuple(folded[place : place + len(title)]) == title
                if found and not any(_contains(one, title) for one in folded_supplied):
                    return f"it names {' '.join(words[place : place + len(title)])!r}, which is not in the evidence"
        return None


def write_copy(
    llm: LLM, evidence: Sequence[Evidence], check: TitleCheck, *, progress: Reporter = SILENT
) -> list[Copy]:
    """Write one text for each piece of evidence. A text that fails the check is asked for once more, then replaced.

    Args:
        llm: who writes.
        evidence: what each text may be built from.
        check: knows the titles that could be named by mistake.
        progress: receives the prompts.

    Raises:
        LanguageModelError: the language model cannot be had.
    """
    prompts = [_prompt(one) for one in evidence]
    texts = llm.complete_all(prompts, SYSTEM, progress=progress)
    problems = [check.problem(text, one) for text, one in zip(texts, evidence, strict=True)]
    again = [number for number, problem in enumerate(problems) if problem]
    second = [f"{prompts[number]}\n\nAn earlier text was refused: {problems[number]}." for number in again]
    for number, text in zip(again, llm.complete_all(second, SYSTEM, progress=progress), strict=True):
        found = check.problem(text, evidence[number])
        if found is None:
            texts[number], problems[number] = text, None
        else:
            texts[number], problems[number] = plain(evidence[number]), found
    return [Copy(text, problem is None, problem) for text, problem in zip(texts, problems, strict=True)]


def explain(
    source: Source, user: Any, llm: LLM, k: int = 5, *, history: int = 5, progress: Reporter = SILENT
) -> list[tuple[dict[str, Any], Copy]]:
    """Recommend `k` items to a user and say of each why, from the titles of the user's training items.

    Args:
        source: a run, a model, or the folder of either; the store must have had titles.
        user: original user id.
        llm: who writes.
        k: list length, 1..I.
        history: titles of the user that each text may name.
        progress: receives the prompts.

    Returns:
        For each item its row of `recommend` by column, and the text.

    Raises:
        ConfigError: the model has no titles, or `k` is out of range.
        UnknownIdError: the user does not occur in the training data.
        LanguageModelError: the language model cannot be had.
    """
    if history < 1:
        raise ConfigError(f"history must be at least 1, got {history}")
    model = open_model(source)
    titles = titles_of(model.catalogue)
    rows = model.recommend([user], k).to_dicts()
    known = tuple(history_titles(model.catalogue, rows[0]["user_id"], history)) if rows else ()
    evidence = [Evidence(one_line(row["title"]), known) for row in rows]
    return list(zip(rows, write_copy(llm, evidence, TitleCheck(titles), progress=progress), strict=True))


def plain(evidence: Evidence) -> str:
    """The sentence that needs no model."""
    if not evidence.history:
        return f'Recommended for you: "{evidence.title}".'
    known = " and ".join(f'"{title}"' for title in evidence.history[:2])
    return f'Because you chose {known}: "{evidence.title}".'


def _prompt(evidence: Evidence) -> str:
    lines = [f'Recommended item: "{one_line(evidence.title)}"']
    lines += [f"{name}: {one_line(value)}" for name, value in evidence.facts.items()]
    lines.append("The user has chosen: " + ("; ".join(f'"{one_line(t)}"' for t in evidence.history) or "nothing yet"))
    return "\n".join([*lines, "Why this for the user?"])


def _is_name(word: str) -> bool:
    return len(word) > 1 and word[0].isupper() and not word.isupper()


def _folded(text: str) -> tuple[str, ...]:
    return tuple(word.casefold() for word in _WORD.findall(text))


def _contains(whole: tuple[str, ...], part: tuple[str, ...]) -> bool:
    return any(whole[start : start + len(part)] == part for start in range(len(whole) - len(part) + 1))
