from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

from graphrec.ops import Relation


def dense(relation: Relation) -> np.ndarray:
    """The matrix, once from each of the two forms, which must agree."""
    shape = relation.num_dst, relation.num_src
    forms = []
    for indptr, indices, size in (
        (relation.indptr, relation.indices, shape),
        (relation.t_indptr, relation.t_indices, shape[::-1]),
    ):
        ones = np.ones(len(indices))
        forms.append(scipy.sparse.csr_matrix((ones, indices.numpy(), indptr.numpy()), shape=size).toarray())
        assert indptr.dtype == torch.int64 and indices.dtype == torch.int32
    assert (forms[0] == forms[1].T).all()
    np.testing.assert_array_equal(relation.rows[relation.t_edges].numpy(), relation.t_indices.numpy())
    return forms[0]


@pytest.fixture
def relation() -> Relation:
    rng = np.random.default_rng(3)
    return Relation.from_coo(rng.integers(0, 6, 20), rng.integers(0, 4, 20), 7, 5)  # a row and a column without edges


def test_as_homogeneous_is_the_block_matrix(relation):
    a = dense(relation)
    expected = np.block([[np.zeros((7, 7)), a], [a.T, np.zeros((5, 5))]])
    np.testing.assert_array_equal(dense(relation.as_homogeneous()), expected)
    assert relation.as_homogeneous() is relation.as_homogeneous()


def test_with_self_loops_has_one_on_each_node():
    rng = np.random.default_rng(4)
    square = Relation.from_coo(rng.integers(0, 6, 20), rng.integers(0, 6, 20), 7, 7)
    matrix = dense(square)
    assert 0 < np.trace(matrix) < 7, "some loops are there already"
    expected = matrix.copy()
    np.fill_diagonal(expected, 1)
    np.testing.assert_array_equal(dense(square.with_self_loops()), expected)
    assert square.with_self_loops() is square.with_self_loops()
    np.testing.assert_array_equal(dense(Relation.from_coo([], [], 2, 2).with_self_loops()), np.eye(2))


def test_self_loops_need_one_kind_of_nodes(relation):
    with pytest.raises(ValueError, match="the same nodes, got 7 rows and 5 columns"):
        relation.with_self_loops()


def test_with_targets_puts_the_rows_themselves_behind_the_columns(relation):
    np.testing.assert_array_equal(dense(relation.with_targets()), np.hstack([dense(relation), np.eye(7)]))
    np.testing.assert_array_equal(dense(Relation.from_coo([], [], 2, 3).with_targets()), np.hstack([np.zeros((2, 3)), np.eye(2)]))


@pytest.mark.parametrize("rows", [[], [3], [6, 0, 5, 2]])
def test_take_rows_is_the_slice(relation, rows):
    index = torch.tensor(rows, dtype=torch.int64)
    np.testing.assert_array_equal(dense(relation.take_rows(index)), dense(relation)[rows])


def test_arrays_that_do_not_fit_each_other_are_named(relation):
    parts = relation.indptr, relation.indices, relation.t_indptr, relation.t_indices
    with pytest.raises(ValueError, match=r"Relation: indptr must be contiguous torch.int64 \(9,\), got torch.int64 \(8,\); build"):
        Relation(*parts, 8, 5)
    with pytest.raises(ValueError, match=r"t_indices must be contiguous torch.int32 \(\d+,\), got torch.int64"):
        Relation(*parts[:3], relation.t_indices.long(), 7, 5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"indices": torch.tensor([0, 1, 1, 5], dtype=torch.int32)}, r"Relation: indices must be in 0\.\.3, got 0\.\.5"),
        ({"t_indices": torch.tensor([0, 0, 1, -1], dtype=torch.int32)}, r"Relation: t_indices must be in 0\.\.2, got -1\.\.1"),
        ({"indptr": torch.tensor([0, 2, 3, 9])}, "Relation: indptr must ascend from 0 to 4, the number of edges, got 0 to 9"),
        ({"indptr": torch.tensor([0, 3, 2, 4])}, "Relation: indptr must ascend .* it descends in between"),
        ({"t_indptr": torch.tensor([1, 1, 3, 4, 4])}, "Relation: t_indptr must ascend .* got 1 to 4"),
        ({"indices": torch.tensor([1, 0, 1, 2], dtype=torch.int32)}, "Relation: indices must ascend within a row, got 1 before 0 in row 0"),
        ({"t_indices": torch.tensor([0, 1, 0, 2], dtype=torch.int32)}, "t_indices must ascend within a row, got 1 before 0 in row 1"),
        ({"indices": torch.tensor([0, 1, 2, 2], dtype=torch.int32)}, "must have the same edges, got 1 of 1 in indices and 2 by the other"),
        ({"t_indices": torch.tensor([0, 1, 1, 2], dtype=torch.int32)}, "got 1 of 0 in t_indices and 2 by the other form; build it with"),
        ({"t_indptr": torch.tensor([0, 0, 2, 4, 4])}, "same edges, got 1 of 0 in indices and 0 by the other form"),
        ({"t_indices": torch.empty(4, dtype=torch.int32, device="meta")}, "t_indices must be where indices is, on cpu, got meta"),
        ({"weight": torch.ones(1)}, r"Relation: weight must be contiguous torch.float32 \(4,\) .* got torch.float32 \(1,\)"),
        ({"weight": torch.ones(4, dtype=torch.float64)}, "weight must be contiguous torch.float32 .* got torch.float64"),
        ({"weight": torch.ones(4, requires_grad=True)}, r"without a gradient, got torch.float32 \(4,\) that learns; .* edge_weight"),
        ({"weight": torch.tensor([1, 2, -1, 0.0])}, r"weight must be finite and at least 0, got -1\.\.2"),
        ({"weight": torch.tensor([1, torch.nan, 1, 0])}, "weight must be finite and at least 0, got nan"),
        ({"weight": torch.tensor([1, torch.inf, 1, 0])}, r"weight must be finite and at least 0, got 0\.\.inf"),
        ({"weight": torch.ones(4, device="meta")}, "weight must be where indices is, on cpu, got meta"),
    ],
)
def test_values_that_would_be_misread_are_named(change, message):
    made = Relation.from_coo([0, 0, 1, 2], [0, 1, 1, 2], 3, 4)
    parts = {name: getattr(made, name) for name in ("indptr", "indices", "t_indptr", "t_indices", "num_dst", "num_src")}
    assert Relation(**parts).num_edges == 4
    with pytest.raises(ValueError, match=message):
        Relation(**parts | change)


def test_weights_of_edge_lists_are_put_in_the_relations_order():
    dst, src, weight = [2, 0, 0, 2, 0], [1, 3, 1, 0, 1], [0.5, 2.0, 3.0, 0.0, 1.0]  # edge (0, 1) twice
    relation = Relation.from_coo(dst, src, 3, 4, torch.tensor(weight, requires_grad=True))
    expected = np.zeros((3, 4))
    np.add.at(expected, (dst, src), weight)
    assert relation.num_edges == 4 and not relation.weight.requires_grad
    got = np.zeros((3, 4))
    got[relation.rows.numpy(), relation.indices.numpy()] = relation.weight.numpy()
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(ValueError, match=r"weight must be \(5,\), one an edge, got \(4,\)"):
        Relation.from_coo(dst, src, 3, 4, weight[:4])
    with pytest.raises(ValueError, match="finite and at least 0, got -1"):
        Relation.from_coo([0, 0], [0, 0], 1, 1, [-1.0, 3.0])


def test_edge_lists_of_other_than_integers_are_refused():
    for bad in ([0.7, 1.9], ["0", "1"]):
        with pytest.raises(ValueError, match="from_coo: dst must be integers, got "):
            Relation.from_coo(bad, [0, 1], 2, 2)
