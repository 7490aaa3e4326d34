"""The settings behind the tables of the README: one recipe a row, the same for every data set.

Where a data set wants another shape, the model finds it on a held-out part of its own training items (graph filter). The
settings of trained models were chosen on a validation part of train: `quality.py --validate` shows its figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from graphrec.errors import unknown_name
from graphrec.models import MODELS


@dataclass(frozen=True)
class Recipe:
    """A registered model with its settings."""

    model: str
    model_settings: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)


RECIPES = {
    # The graph filter with its shape chosen on items that are hidden in blocks: Gowalla's test items are dispersed as such blocks
    # are, Yelp2018's are not (split_shift.py).
    "graph-filter-block": Recipe("graph-filter", {"hold_out": "block"}),
    # In-batch softmax on cosines (Wu et al. 2022), one hop, spectral start. Temperature, dimension, rate and epochs were chosen
    # on held-out training items of Gowalla among 0.07 to 0.17; 64, 256 and 512; 1e-3 to 5e-3; and 2 to 10.
    "lightgcn-softmax": Recipe(
        "lightgcn",
        {
            "num_layers": 1,
            "embedding_dim": 512,
            "inputs": {"init": "spectral"},
            "head": {"name": "cosine", "ranking": "dot"},
            "loss": {"name": "sampled-softmax", "temperature": 0.08},
        },
        {"epochs": 2, "learning_rate": 2e-3, "schedule": "cosine", "sampler": "uniform-edge", "weight_decay": 0.0},
    ),
    # lightgcn-softmax ranked by cosine plus w log(popularity) in the place of the inner product, which gives back what in-batch
    # negatives, drawn by popularity, take away; in theory w is the temperature. One model on Gowalla's held-out training items,
    # ranked in different ways: inner product 0.2241 / 0.1265 (Recall@20 / NDCG@20), w = 0.06 0.2249 / 0.1267, 0.08 (the
    # temperature) 0.2271 / 0.1289. With 256 dimensions, temperature 0.09, 3 epochs: inner product 0.2186 / 0.1228, cosine alone
    # 0.1650 / 0.0877, w = 0.06 0.2190 / 0.1244, 0.09 0.2230 / 0.1277, and on a quarter of the users 0.12 falls off.
    "lightgcn-prior": Recipe(
        "lightgcn",
        {
            "num_layers": 1,
            "embedding_dim": 512,
            "inputs": {"init": "spectral"},
            "head": {"name": "cosine-prior", "popularity": 0.08},
            "loss": {"name": "sampled-softmax", "temperature": 0.08},
        },
        {"epochs": 2, "learning_rate": 2e-3, "schedule": "cosine", "sampler": "uniform-edge", "weight_decay": 0.0},
    ),
    # lightgcn-softmax with fewer dimensions, plus the graph filter as a fixed residual that is not trained and enters only the ranking.
    # Weight 0.5 is the best Recall@20 + NDCG@20 over two seeds among 0, 0.25, 0.5, 0.75, 1, 1.5 and 2, for 6,000 users' held-out
    # training items of Gowalla (0.5 to 1 differ by less than 0.0003), and these 256 dimensions did better with it there than
    # the 512 of lightgcn-softmax (0.2343 + 0.1353 on average against 0.2307 + 0.1345).
    "lightgcn-residual": Recipe(
        "lightgcn",
        {
            "num_layers": 1,
            "embedding_dim": 256,
            "inputs": {"init": "spectral"},
            "head": {"name": "cosine", "ranking": "dot"},
            "loss": {"name": "sampled-softmax", "temperature": 0.09},
            "residual": {"weight": 0.5},
        },
        {"epochs": 3, "learning_rate": 3e-3, "schedule": "cosine", "sampler": "uniform-edge", "weight_decay": 0.0},
    ),
    # He et al. 2020 with the settings of its public code, but a batch four times as large with a rate twice as high (the square root rule
    # for Adam: Malladi et al. 2022, arXiv:2205.10287), more epochs, and in the last 80 a tenth of the rate: 198,000 steps in the place
    # of 396,000.
    "lightgcn-bpr": Recipe(
        "lightgcn", {}, {"epochs": 2000, "batch_size": 8192, "learning_rate": 2e-3, "schedule": "step", "decay_epochs": 1920}
    ),
}
_FILTERED = RECIPES["lightgcn-residual"]
# lightgcn-residual at a higher temperature, for Yelp2018: without the filter 0.1210 / 0.0740 (Recall@20 / NDCG@20) on held-out training
# items there with 0.12, 0.1201 / 0.0731 with 0.09 (one seed).
_SOFTER = {"loss": {"name": "sampled-softmax", "temperature": 0.12}}
RECIPES["lightgcn-softer"] = replace(_FILTERED, model_settings={**_FILTERED.model_settings, **_SOFTER})
# lightgcn-residual with EASE in the place of the filter. Recall@20 + NDCG@20 of all users' held-out training items is 0.3668 with weight
# 0.25 and 0.3667 with 1, 0.3652 with the graph filter. The test items disagree, see README.md.
_EASE = {"residual": {"weight": 1.0, "filter": {"name": "ease", "regularisation": 0.04}}}
# EASE with the penalty of lightgcn-ease.
RECIPES["ease-fixed"] = Recipe("ease", {"regularisation": 0.04})
RECIPES["lightgcn-ease"] = replace(_FILTERED, model_settings={**_FILTERED.model_settings, **_EASE})


def names() -> list[str]:
    """All names that `find` knows."""
    return [*RECIPES, *MODELS]


def find(name: str) -> Recipe:
    """Return the recipe `name`, or a registered model with its defaults.

    Raises:
        ConfigError: neither a recipe nor a model has that name.
    """
    if name not in RECIPES and name not in MODELS:
        raise unknown_name("recipe or model", name, names())
    return RECIPES.get(name) or Recipe(name)


def some_of(text: str, known: Collection[str]) -> list[str]:
    """Return the names in `text`, which has commas between them, each once.

    Raises:
        ConfigError: one of them is not known.
    """
    chosen = list(dict.fromkeys(text.split(",")))
    for name in chosen:
        if name not in known:
            raise unknown_name("model", name, known)
    return chosen


def add_grid_options(parser: argparse.ArgumentParser, grid: Collection[str]) -> None:
    """Add --seeds, --models, some of `grid`, and --json."""
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, 0, 1, ... (default 3)")
    parser.add_argument("--models", default=",".join(grid), help=f"some of {', '.join(grid)}, separated by commas")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
