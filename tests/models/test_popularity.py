from __future__ import annotations

from graphrec.models import create
from tests.models.conftest import make_store


def test_items_come_in_order_of_their_training_users(tmp_path):
    train = [("a", "x"), ("b", "x"), ("c", "x"), ("a", "y"), ("b", "y"), ("c", "w"), ("d", "z")]
    store = make_store(tmp_path / "store", train, [("d", "w"), ("c", "y"), ("a", "w")])
    listed = create("popularity").fit(store).recommend(["d", "a"], 3)
    assert listed.select("user_id", "item_id", "score").rows() == [
        ("d", "x", 3.0), ("d", "y", 2.0), ("d", "w", 1.0), ("a", "w", 1.0), ("a", "z", 1.0)
    ]  # fmt: skip
