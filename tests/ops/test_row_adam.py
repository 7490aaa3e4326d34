"""Adam on rows: what torch's Adam makes of the whole table with zeros for the other rows, once the rows are caught up."""

from __future__ import annotations

import pytest
import torch

from graphrec.ops import RowAdam


def sparse(rows: list[int], values: torch.Tensor, num_rows: int) -> torch.Tensor:
    return torch.sparse_coo_tensor(torch.tensor([rows]), values, (num_rows, values.shape[1]), check_invariants=True)


def run(steps, rates, scale=1.0, num_rows=6, check=lambda *_: None):
    """Two tables after the same sparse gradients, ours and torch's with dense ones, and our optimiser."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(num_rows, 3, dtype=torch.float64, generator=generator)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizer, adam = RowAdam([ours], lr=rates[0]), torch.optim.Adam([theirs], lr=rates[0])
    for rows, rate in zip(steps, rates, strict=True):
        gradient = sparse(rows, scale * torch.randn(len(rows), 3, dtype=torch.float64, generator=generator), num_rows)
        for one, table, value in ((optimizer, ours, gradient), (adam, theirs, gradient.to_dense())):
            one.param_groups[0]["lr"] = rate
            if one is optimizer:
                optimizer.catch_up(ours, torch.tensor(rows))
                check(ours, theirs, rows)
            table.grad = value
            one.step()
    return ours, theirs, optimizer


STEPS = [[0, 3], [3], [1, 3], [0, 1, 2, 3], [3, 0], [4], [3], [3], [2, 4]] * 12 + [[5]] + [[3]] * 400 + [[0, 1, 2, 5]]


def test_settled_rows_are_those_of_adam_on_the_whole_table():
    rates = [0.1 / (1 + step / 50) for step in range(len(STEPS))]  # a schedule
    ours, theirs, optimizer = run(STEPS, rates)
    assert not torch.allclose(ours[4], theirs[4], rtol=1e-4, atol=1e-4)  # it waits for being read
    optimizer.settle()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    for name in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(
            optimizer.state[ours][name], adam_state(theirs, STEPS, rates)[name], rtol=1e-9, atol=1e-12
        )
    before = ours.detach().clone()
    optimizer.settle()  # a second time there is nothing to make up for
    assert torch.equal(ours, before)


def adam_state(table, steps, rates):
    """The moments that torch's Adam has after these steps."""
    generator = torch.Generator().manual_seed(0)
    torch.randn(6, 3, dtype=torch.float64, generator=generator)
    state = {name: torch.zeros_like(table) for name in ("exp_avg", "exp_avg_sq")}
    for rows in steps:
        gradient = sparse(rows, torch.randn(len(rows), 3, dtype=torch.float64, generator=generator), 6).to_dense()
        state["exp_avg"] = 0.9 * state["exp_avg"] + 0.1 * gradient
        state["exp_avg_sq"] = 0.999 * state["exp_avg_sq"] + 0.001 * gradient**2
    return state


def test_what_a_step_reads_is_what_adam_would_have_there():
    def check(ours, theirs, rows):
        torch.testing.assert_close(ours[rows], theirs[rows], rtol=1e-6, atol=1e-7)

    run(STEPS, [0.05] * len(STEPS), check=check)


def test_tiny_gradients_beside_epsilon_stay_close():
    ours, theirs, optimizer = run(STEPS, [0.1] * len(STEPS), scale=1e-7)
    optimizer.settle()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)  # a fifth of one step


def test_a_row_that_was_never_touched_stays_where_it_was():
    table = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = RowAdam([table], lr=0.1)
    for _ in range(5):
        table.grad = sparse([1], torch.ones(1, 2), 3)
        optimizer.step()
    optimizer.settle()
    assert torch.equal(table[[0, 2]], torch.ones(2, 2)) and bool((table[1] < 1).all())


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
    optimizers[0].settle()
    torch.testing.assert_close(*tables)


def test_gradients_sparse_in_single_values_and_slow_second_moments_are_refused():
    table = torch.nn.Parameter(torch.zeros(2, 2))
    table.grad = torch.sparse_coo_tensor(torch.tensor([[0], [1]]), torch.ones(1), (2, 2), check_invariants=True)
    with pytest.raises(ValueError, match="whole rows, got 2 sparse dimensions"):
        RowAdam([table]).step()
    with pytest.raises(ValueError, match=r"must be below the second, got betas = \(0.9, 0.8\)"):
        RowAdam([table], betas=(0.9, 0.8))
