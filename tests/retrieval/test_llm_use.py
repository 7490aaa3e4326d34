from __future__ import annotations

import json

import pytest

from graphrec.errors import ConfigError, LanguageModelError
from graphrec.features.llm import LLM
from graphrec.features.llm_settings import Answer, LLMSettings
from graphrec.features.profiles import write_profiles
from graphrec.graph.store import GraphStore
from graphrec.models import create
from graphrec.retrieval.llm_copy import Evidence, TitleCheck, explain, plain, write_copy
from graphrec.retrieval.llm_rerank import permutation, rerank
from tests.models.conftest import checkerboard, make_store, named


class Scripted:
    """A backend that answers with what `reply` makes of the prompt."""

    at_once, workers = 1, 1

    def __init__(self, reply) -> None:
        self.identity, self.prompts, self._reply = {"model": "scripted"}, [], reply

    def answer(self, prompts, tell):
        self.prompts += [prompt for _, prompt in prompts]
        return [Answer(self._reply(prompt)) for _, prompt in prompts]


def scripted(reply) -> LLM:
    return LLM(LLMSettings(model="scripted"), Scripted(reply))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> GraphStore:
    train, test = checkerboard()
    return make_store(tmp_path_factory.mktemp("store") / "board", named(train), named(test), titles=True)


@pytest.fixture(scope="module")
def model(store):
    return create("item-knn").fit(store)


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        ("[3, 1, 2]", [2, 0, 1]),
        ("```json\n[1, 2, 3]\n```", [0, 1, 2]),
        ("Here you are: [3, 1, 2]", None),
        ("[3, 1]", None),
        ("[3, 1, 1]", None),
        ("[0, 1, 2]", None),
        ("[3, 1, 2, 4]", None),
        ("[3, 1, true]", None),
        ('["3", 1, 2]', None),
        ("[3.0, 1, 2]", None),
        ("3, 1, 2", None),
        ("[" * 200_000, None),
        ("", None),
    ],
)
def test_only_an_exact_permutation_counts(answer, order):
    assert permutation(answer, 3) == order


def test_lists_come_in_the_order_of_the_answer(model):
    llm = scripted(lambda prompt: json.dumps(list(range(8, 0, -1))))
    found = rerank(model, ["u003", "u001"], llm, k=3, candidates=8)
    plain_lists = model.recommend(["u003", "u001"], 8)
    assert (found.asked, found.kept) == (2, 0)
    for user in ("u003", "u001"):
        expected = plain_lists.filter(user_id=user)["item_id"].to_list()[::-1][:3]
        part = found.lists.filter(user_id=user)
        assert part["item_id"].to_list() == expected and part["rank"].to_list() == [1, 2, 3]
    assert found.lists["user_id"].unique(maintain_order=True).to_list() == ["u003", "u001"]
    prompt = llm._backend.prompts[0]
    assert f"1. {plain_lists['title'][0]}" in prompt and prompt.count("\n- Title of") >= 5


def test_an_answer_that_is_no_order_keeps_the_retrieval_and_is_counted(model):
    answers = iter(["[1, 2, 2, 4]", "I cannot", "[4, 3, 2, 1]"])
    found = rerank(model, ["u000", "u001", "u002"], scripted(lambda prompt: next(answers)), k=4, candidates=4)
    assert (found.asked, found.kept) == (3, 2)
    expected = model.recommend(["u000", "u001", "u002"], 4)["item_id"].to_list()
    got = found.lists["item_id"].to_list()
    assert got[:8] == expected[:8] and got[8:] == expected[8:][::-1]


def test_a_model_without_titles_cannot_be_reranked(tmp_path):
    train, test = checkerboard()
    untitled = create("popularity").fit(make_store(tmp_path / "s", named(train), named(test)))
    with pytest.raises(ConfigError, match="has none; build the store with an item table"):
        rerank(untitled, ["u000"], scripted(str))
    with pytest.raises(ConfigError, match=r"k must lie in 1\.\.20"):
        rerank(untitled, ["u000"], scripted(str), k=21)


TITLES = ["Dune", "The Left Hand of Darkness", "It", "Foundation and Empire", "Emma", "Because", "Toy Story (1995)", "Heat (1995)",
          "The Hunger Games (The Hunger Games, #1)", "Alien: Covenant"]  # fmt: skip
CASE = Evidence("Dune", ("The Left Hand of Darkness",), {"genre": "science fiction", "year": "1965"})


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('Since you chose "The Left Hand of Darkness", try "Dune".', None),
        ("Because the left hand of darkness is science fiction like Dune.", None),
        ("It is a science fiction classic.", None),
        ('Try "Dune", as good as "Solaris".', "quotes 'Solaris'"),
        ("Fans of foundation AND empire read Dune.", "names 'foundation AND empire'"),
        ("You will enjoy Emma and Dune.", "names 'Emma'"),
        ("Emma fans read Dune.", "names 'Emma'"),
        ("You chose well. Because of that, Dune.", None),
        ("You will like it like Because.", "names 'Because'"),
        ("If you loved Toy Story, try Dune.", "names 'Toy Story'"),
        ("Fans of Heat like Dune.", "names 'Heat'"),
        ("As in The Hunger Games, Dune has it all.", "names 'The Hunger Games'"),
        ("As good as Alien and Dune.", "names 'Alien'"),
        ("A book by Frank Herbert, like Dune.", "names 'Frank Herbert'"),
        ("Dune, with 12 awards.", "names '12'"),
        ("Dune is from 1965.", None),
        ("You will stay with emma.", None),
        ("", "1 to 600 characters, got 0"),
        ("Dune " * 200, "1 to 600 characters, got 1000"),
    ],
)
def test_texts_may_name_only_what_is_supplied(text, wrong):
    problem = TitleCheck(TITLES).problem(text, CASE)
    assert problem is None if wrong is None else wrong in problem


def test_a_refused_text_is_asked_for_again_and_then_replaced():
    answers = {1: ['Like "Solaris".', 'Like "Dune".'], 2: ["You will enjoy Emma.", "You will love Emma."]}

    def reply(prompt: str) -> str:
        return answers[2 if "The Left Hand" in prompt else 1].pop(0)

    llm = scripted(reply)
    first, second = write_copy(llm, [Evidence("Dune"), CASE], TitleCheck(TITLES))
    assert first.text == 'Like "Dune".' and first.by_model and first.problem is None
    assert second.text == plain(CASE) == 'Because you chose "The Left Hand of Darkness": "Dune".'
    assert not second.by_model and "'Emma'" in second.problem
    assert "refused: it quotes 'Solaris'" in llm._backend.prompts[2]
    assert plain(Evidence("Dune")) == 'Recommended for you: "Dune".'


def test_explanations_are_grounded_in_the_history(model):
    llm = scripted(lambda prompt: prompt.splitlines()[0].removeprefix("Recommended item: "))
    found = explain(model, "u004", llm, k=3)
    assert [row["item_id"] for row, _ in found] == model.recommend(["u004"], 3)["item_id"].to_list()
    assert all(copy.by_model and row["title"] in copy.text for row, copy in found)
    liked = {f"Title of {1000 + 7 * item}" for item in range(0, 30, 2)}
    history = llm._backend.prompts[0].splitlines()[1]
    assert history.count('"') == 10 and all(title in liked for title in history.split('"')[1::2])


def test_profiles_of_items_and_users_leave_out_the_test_side(store):
    llm = scripted(lambda prompt: f"profile of [{prompt}]")
    items = write_profiles(store, "item", llm, columns=["title"], limit=5)
    assert items.columns == ["item_id", "profile"] and items.height == 5
    assert items["profile"][0] == f"profile of [title: Title of {items['item_id'][0]}]"
    users = write_profiles(store, "user", llm, history=50)
    catalogue = store.catalogue()
    for user_id, profile in users.head(3).iter_rows():
        _, seen = catalogue.seen(catalogue.users.index_of([user_id]))
        assert profile.count("\n- title: ") == len(seen)
    with pytest.raises(ConfigError, match="no column 'titel'; it has title; did you mean 'title'"):
        write_profiles(store, "item", llm, columns=["titel"])
    with pytest.raises(ConfigError, match="of item or user nodes, got 'entity'"):
        write_profiles(store, "entity", llm)


def test_a_failing_service_loses_nothing(store, tmp_path):
    def reply(prompt: str) -> str:
        raise LanguageModelError("gone")

    with pytest.raises(LanguageModelError, match="gone"):
        write_profiles(store, "item", scripted(reply))
