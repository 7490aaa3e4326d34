"""The emulation itself: what it computes, what it refuses, and that it shows missing barriers and races."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from graphrec import _kernels

from .conftest import ORDERS, ROOT, Emulated


@pytest.fixture(scope="module")
def small(build) -> Emulated:
    return Emulated(build(sources=[Path(__file__).with_name("emulation.cu"), ROOT / "kernels" / "cuda" / "library.cu"]))


def call(name: str, *arguments) -> None:  # type: ignore[no-untyped-def]
    _kernels.call(name, torch.empty(0), *arguments)


def test_grid_block_and_thread_indices(small):
    def compute() -> list[torch.Tensor]:
        out = torch.full((3 * 2 * 2 * 5 * 4 * 3,), -1)
        call("indices", out)
        return [out]

    z, y, x, tz, ty, tx = torch.meshgrid(*map(torch.arange, (2, 2, 3, 3, 4, 5)), indexing="ij")
    expected = tx + 10 * ty + 100 * tz + 1000 * x + 10000 * y + 100000 * z
    assert torch.equal(small.run(compute)[0], expected.reshape(-1))


def reverse(with_barrier: int) -> list[torch.Tensor]:
    x = torch.arange(192.0)
    call("reversed", x, with_barrier)
    return [x]


def test_a_barrier_makes_all_orders_equal(small):
    assert torch.equal(small.run(lambda: reverse(1))[0], torch.arange(192.0).view(2, 96).flip(1).reshape(-1))


def test_a_missing_barrier_shows_in_every_order(small, capfd):
    results = [small.once(lambda: reverse(0), order, races=False)[0] for order in ORDERS]
    assert all(x.isnan().any() for x in results) and not torch.equal(results[0], results[1])
    for order in ORDERS:
        with pytest.raises(ValueError, match="refused the launch"):
            small.once(lambda: reverse(0), order)
        assert re.search("at emulation.cu:1[68] with no barrier between: a race for shared memory", capfd.readouterr().err)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        pytest.param(0, "writes at {} what thread .* wrote at {} .*shared memory", id="two-writes"),
        pytest.param(1, "(reads|writes) at {} what thread .* (wrote|read) at {} .*shared", id="write-after-reading"),
        pytest.param(2, "(reads|writes) at {} what thread .* (wrote|read) at {} .*shared", id="shuffles-order-nothing"),
        pytest.param(3, "(reads|writes) at {} what thread .* (wrote|read) at {} .*shared", id="lanes-outside-the-mask"),
        pytest.param(4, "(reads|changes) at {} what (thread .*|other threads) (read|changed) at {} .*shared", id="atomic-and-plain"),
        pytest.param(5, "(reads|writes) at {} what thread .* (wrote|read) at {} .*global", id="global"),
        pytest.param(6, "writes at {} what another block wrote at {}.*global", id="blocks-write"),
        pytest.param(7, "(reads|writes) at {} what another block (wrote|read) at {}.*global", id="a-block-reads"),
        pytest.param(8, "(reads|writes) at {} what another block (wrote|read) at {}.*global", id="blocks-count"),
        pytest.param(9, "(changes|writes) at {} what (thread .*|other threads) (wrote|changed) at .*shared", id="reset-and-atomic"),
        pytest.param(10, "(changes|reads) at {} what another block (read|changed) at {}.*global", id="blocks-atomic-and-plain"),
    ],
)
def test_races_end_the_launch(small, capfd, order, mode, message):
    with pytest.raises(ValueError, match="refused the launch"):
        small.once(lambda: call("races", mode, torch.zeros(128), torch.zeros(1, dtype=torch.int32)), order)
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message.replace("{}", r"emulation\.cu:\d+"), line), line


def test_what_is_ordered_is_no_race(small):
    def compute() -> list[torch.Tensor]:
        x, counter = torch.zeros(128), torch.zeros(1, dtype=torch.int32)
        call("orders", x, torch.zeros(128, dtype=torch.uint8), counter)
        return [x, counter]

    for order in ORDERS:
        x, counter = small.once(compute, order)
        assert counter.item() == 128 and torch.equal(x[:64], x[64:])


@pytest.mark.parametrize("width", [32, 8, 2])
def test_shuffles(small, width):
    def compute() -> list[torch.Tensor]:
        out, wide = torch.empty(4, 32), torch.empty(4, 32, dtype=torch.float64)
        call("shuffles", out, wide, width)
        return [out, wide]

    out, wide = small.run(compute)
    lane = torch.arange(32)
    start, end = lane // width * width, lane // width * width + width
    xor, down, up = lane ^ 3, lane + 3, lane - 3
    expected = [
        start + 5 % width,
        torch.where(xor < end, xor, lane),
        torch.where(down < end, down, lane),
        torch.where(up >= start, up, lane),
    ]
    assert torch.equal(out.long(), torch.stack(expected)) and torch.equal(wide, out.double())


def test_votes_of_some_lanes(small):
    def compute() -> list[torch.Tensor]:
        out = torch.zeros(2, 8, dtype=torch.int64)
        call("votes", out)
        return [out]

    assert small.run(compute)[0].tolist() == [[0b01001001] * 8, [1 + 2] * 8]


def test_atomics_and_counting_barriers(small):
    def compute() -> list[torch.Tensor]:
        out, total = torch.zeros(3, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        call("counts", out, torch.zeros(1, dtype=torch.int32), total)
        return [out]

    assert small.run(compute)[0].tolist() == [101, 101 * 50, 51]


def test_each_block_finds_nan_in_shared_memory(small):
    def compute() -> list[torch.Tensor]:
        out = torch.zeros(6)
        call("poison", out)
        return [out.isnan()]

    assert small.run(compute)[0].all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (0, "7 of 64 threads reached __syncthreads .*57 ended without it"),
        (1, "wait in different barriers"),
        (2, "a shuffle with mask 0xffffffff, which lacks lanes"),
        (3, "shuffles from lane 9, which is not in mask 0x0000000f"),
        (4, "mask 0x0000000e, which leaves itself out"),
        (5, "with mask 0xffffffff, which lacks lanes"),
        (6, "index [3-6][0-9] is out of bounds"),
        (7, "wrote outside its 256 bytes of dynamic shared memory"),
        (8, "is not aligned to 16 bytes"),
    ],
)
def test_mistakes_end_the_launch(small, capfd, order, mode, message):
    with pytest.raises(ValueError, match="the CUDA device refused the launch"):
        small.once(lambda: call("mistakes", mode, torch.zeros(64)), order)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("graphrec emulation: ")
    assert re.search(message, line), line
    assert torch.equal(small.run(lambda: reverse(1))[0][:96], torch.arange(96.0).flip(0))  # the next launch runs


@pytest.mark.parametrize(
    ("grid", "block", "shared", "allowed", "accepted"),
    [
        (1, 1024, 48 << 10, 0, True),
        (0, 1, 64, 0, False),
        (1, 1025, 64, 0, False),
        (1, 0, 64, 0, False),
        (1, 1, (48 << 10) + 1, 0, False),
        (1, 1, 227 << 10, 227 << 10, True),
        (1, 1, 64, (227 << 10) + 1, False),
    ],
)
def test_sizes_that_no_device_takes(small, grid, block, shared, allowed, accepted):
    def compute() -> list[torch.Tensor]:
        call("sizes", grid, block, shared, allowed, torch.zeros(2))
        return []

    if accepted:
        small.run(compute)
    else:
        with pytest.raises(ValueError, match="refused the launch"):
            small.run(compute)
