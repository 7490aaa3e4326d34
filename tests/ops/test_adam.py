"""Adam against the formula in float64 and against torch's own, states exchanged both ways."""

from __future__ import annotations

import pytest
import torch

from graphrec.ops.adam import FusedAdam, adam_step

SHAPES = [(1,), (7,), (64, 3), (0, 4), (129, 65)]


def parameters(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def run(optimizer, values, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(100 + step)
        for value in values:
            value.grad = torch.randn(value.shape, generator=generator).to(value.dtype)
        optimizer.step()


def assert_same(one, other, dtype) -> None:
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.5)])
def test_steps_follow_the_formula(implementation, dtype, weight_decay, betas):
    value = torch.randn(1000, generator=torch.Generator().manual_seed(1)).to(dtype)
    moments = torch.zeros_like(value), torch.zeros_like(value)
    p, m, v = value.double().clone(), torch.zeros(1000).double(), torch.zeros(1000).double()
    for step in range(1, 6):
        gradient = torch.randn(1000, generator=torch.Generator().manual_seed(step)).to(dtype)
        kept = gradient.clone()
        adam_step(
            value, gradient, *moments, step=step, rate=0.01, betas=betas, epsilon=1e-6, weight_decay=weight_decay
        )
        assert torch.equal(gradient, kept)
        g = kept.double() + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        p = p - 0.01 * (m / (1 - betas[0] ** step)) / ((v / (1 - betas[1] ** step)).sqrt() + 1e-6)
    assert_same([value.double(), moments[0].double(), moments[1].double()], [p, m, v], dtype)


def test_a_gradient_may_be_rounded(implementation):
    """float32 parameters beside a bfloat16 gradient take the step of its values."""
    generator = torch.Generator().manual_seed(1)
    state = [torch.rand(5000, generator=generator) for _ in range(4)]
    rounded = state[1].bfloat16()
    ours, wide = [state[0].clone(), rounded, *(x.clone() for x in state[2:])], [x.clone() for x in state]
    wide[1] = rounded.float()
    for values in (ours, wide):
        adam_step(*values, step=2, rate=0.1, weight_decay=0.1)
    for one, other in zip(ours, wide, strict=True):
        assert torch.equal(one.float(), other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.01}])
def test_it_is_torchs_adam(implementation, dtype, options):
    ours, theirs = parameters(dtype), parameters(dtype)
    run(FusedAdam(ours, **options), ours, 20)
    run(torch.optim.Adam(theirs, **options), theirs, 20)
    assert_same(ours, theirs, dtype)


@pytest.mark.parametrize(("first", "second"), [(FusedAdam, torch.optim.Adam), (torch.optim.Adam, FusedAdam)])
def test_each_goes_on_from_the_others_state(first, second):
    start, whole = parameters(), parameters()
    before = first(start, lr=0.02)
    run(before, start, 5)
    copies = [torch.nn.Parameter(value.detach().clone()) for value in start]
    after = second(copies, lr=0.5)
    after.load_state_dict(before.state_dict())
    run(after, copies, 5, first=5)
    run(torch.optim.Adam(whole, lr=0.02), whole, 10)
    assert_same(copies, whole, torch.float32)
    assert {*after.state[copies[0]]} == {"step", "exp_avg", "exp_avg_sq"}
    assert float(after.state[copies[0]]["step"]) == 10


@pytest.mark.parametrize(
    ("other", "setting"),
    [
        (torch.optim.AdamW, "decoupled_weight_decay"),
        (lambda values: torch.optim.Adam(values, amsgrad=True), "amsgrad"),
        (lambda values: torch.optim.Adam(values, maximize=True), "maximize"),
    ],
)
def test_a_state_of_another_rule_is_refused(other, setting):
    values = parameters()
    before = other(values)
    run(before, values, 1)
    after = FusedAdam(values)
    after.load_state_dict(before.state_dict())
    with pytest.raises(ValueError, match=f"the loaded state has {setting} = True"):
        run(after, values, 1)


def test_groups_closures_and_parameters_without_gradient():
    values = parameters()
    optimizer = FusedAdam([{"params": values[:2], "lr": 0.0}, {"params": values[2:]}], lr=0.1)
    kept = [value.detach().clone() for value in values]
    values[0].grad, values[4].grad = torch.ones(1), torch.ones(129, 65)

    def closure() -> float:
        assert torch.is_grad_enabled()
        return 7.0

    assert optimizer.step(closure) == 7.0
    assert all(torch.equal(values[at], kept[at]) for at in range(4)) and not optimizer.state[values[1]]
    torch.testing.assert_close(values[4].detach(), kept[4] - 0.1)  # the first step is the rate, whatever the gradient


def test_strided_gradients_reruns_and_threads():
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            value = torch.nn.Parameter(torch.linspace(-1, 1, 300 * 64).reshape(300, 64))
            value.grad = torch.randn(64, 300, generator=torch.Generator().manual_seed(2)).T
            FusedAdam([value]).step()
            results.append(value.detach())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_what_does_not_fit_is_named():
    value = torch.ones(4, 2)
    for change, message in (
        ({"gradient": torch.ones(3, 2)}, r"gradient must be as the parameter, torch.float32 \(4, 2\) on cpu, got"),
        ({"first_moment": value.double()}, r"first_moment must be .* got torch.float64"),
        ({"second_moment": value.bfloat16()}, r"second_moment must be .* got torch.bfloat16"),
        ({"second_moment": torch.ones(2, 4).T}, r"second_moment must be contiguous, got strides \(1, 4\)"),
        ({"step": 0}, r"step counts from 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            names = ("parameter", "gradient", "first_moment", "second_moment")
            adam_step(**{name: value.clone() for name in names} | {"step": 1} | change)
    half = value.bfloat16()
    with pytest.raises(ValueError, match="float32 or float64, got torch.bfloat16"):
        adam_step(half, half, half, half, step=1)
    for options in ({"lr": -1.0}, {"betas": (0.9, 1.0)}, {"eps": -1.0}):
        with pytest.raises(ValueError, match="at least 0 and betas in"):
            FusedAdam([torch.nn.Parameter(value)], **options)
    sparse = torch.nn.Parameter(value)
    sparse.grad = value.to_sparse()
    with pytest.raises(ValueError, match="gradients must be dense"):
        FusedAdam([sparse]).step()


def test_the_operator_is_registered_correctly():
    value, gradient, first, second = (torch.rand(5, 3) for _ in range(4))
    torch.library.opcheck(
        torch.ops.graphrec.adam.default, (value, gradient, first, second, 1e-3, 0.9, 0.999, 1e-8, 0.0, 2)
    )
