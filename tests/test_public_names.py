"""The public names of the package are pinned: adding or removing one is a decision, not an accident."""

from __future__ import annotations

import inspect

import pytest

import graphrec

PUBLIC = [
    "ConsoleReporter",
    "GraphStore",
    "InteractionLog",
    "Recommender",
    "Reporter",
    "Run",
    "RunConfig",
    "add_features",
    "benchmark",
    "build",
    "compare",
    "evaluate",
    "evaluate_friends",
    "export",
    "fuse",
    "load",
    "load_config",
    "read_log",
    "recommend",
    "recommend_friends",
    "recommend_new_user",
    "similar",
    "train",
    "train_ranker",
    "tune",
    "with_new_items",
]


def test_the_public_names_are_these():
    assert sorted(graphrec.__all__) == PUBLIC
    assert dir(graphrec) == sorted([*PUBLIC, "__version__"])


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there_and_documented(name: str):
    public = getattr(graphrec, name)
    assert callable(public)
    assert public.__name__ == name
    assert inspect.getdoc(public)


def test_whatever_takes_progress_takes_true_for_the_console():
    reporting = [name for name in PUBLIC if "progress" in inspect.signature(getattr(graphrec, name)).parameters]
    assert len(reporting) == 13
    for name in reporting:
        function = getattr(graphrec, name)
        parameters = inspect.signature(function).parameters.values()
        values = [object() for one in parameters if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD]
        with pytest.raises(TypeError, match="progress must be True, False or a graphrec.Reporter, got 'loud'"):
            function(*values, progress="loud")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'biuld'"):
        graphrec.biuld  # noqa: B018


def test_the_version_is_that_of_the_installed_package():
    import importlib.metadata

    assert graphrec.__version__ == importlib.metadata.version("graphrec")
