"""Row-wise Adam: a row by itself is stepped as Adam steps it, and the other rows are left alone."""

from __future__ import annotations

import pytest
import torch

from graphrec.ops import RowAdam


def sparse(rows: list[int], values: torch.Tensor, num_rows: int) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, (num_rows, values.shape[1]), check_invariants=True)


def test_every_row_is_stepped_as_adam_on_that_row_alone():
    start = torch.randn(5, 3, dtype=torch.float64)
    table = torch.nn.Parameter(start.clone())
    alone = [torch.nn.Parameter(row.clone()) for row in start]
    optimizer = RowAdam([table], lr=0.1)
    others = [torch.optim.Adam([row], lr=0.1) for row in alone]
    for rows in ([0, 3], [3], [1, 3], [0, 1, 2, 3], [3, 0]):
        values = torch.randn(len(rows), 3, dtype=torch.float64)
        table.grad = sparse(rows, values, 5)
        optimizer.step()
        for row, value in zip(rows, values, strict=True):
            alone[row].grad = value
            others[row].step()
    torch.testing.assert_close(table.detach(), torch.stack([row.detach() for row in alone]), rtol=1e-10, atol=1e-12)
    assert torch.equal(table[4], start[4])
    assert optimizer.state[table]["step"].tolist() == [3, 2, 1, 5, 0]


def test_a_row_named_twice_gets_the_sum_of_its_gradients():
    tables = [torch.nn.Parameter(torch.zeros(2, 2)) for _ in range(2)]
    for table, rows in zip(tables, ([1, 1], [1]), strict=True):
        table.grad = sparse(rows, torch.full((len(rows), 2), 3.0 / len(rows)), 2)
        RowAdam([table], lr=0.1).step()
    assert torch.equal(*tables) and bool((tables[0][1] != 0).all())


def test_dense_gradients_are_stepped_as_adam():
    tables = [torch.nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3)) for _ in range(2)]
    optimizers = [RowAdam([tables[0]], lr=0.01), torch.optim.Adam([tables[1]], lr=0.01)]
    for _ in range(3):
        for table, optimizer in zip(tables, optimizers, strict=True):
            table.grad = table.detach() * 2 + 1
            optimizer.step()
    torch.testing.assert_close(*tables)


def test_gradients_sparse_in_single_values_are_refused():
    table = torch.nn.Parameter(torch.zeros(2, 2))
    table.grad = torch.sparse_coo_tensor(torch.tensor([[0], [1]]), torch.ones(1), (2, 2), check_invariants=True)
    with pytest.raises(ValueError, match="whole rows, got 2 sparse dimensions"):
        RowAdam([table]).step()
