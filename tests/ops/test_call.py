"""What a native library is handed: entries that lie where it runs, in a dtype that it takes."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from graphrec import _kernels
from graphrec.ops import (
    Relation,
    backend,
    bpr,
    gat,
    gatv2,
    hetero_spmm,
    push,
    sampled_softmax,
    sddmm,
    select_topk,
    spmm,
    spmm_forward,
    topk_scores,
)
from graphrec.ops.adam import adam_step


@pytest.fixture
def relation() -> Relation:
    return Relation.from_coo([0, 0, 1, 2], [0, 1, 1, 2], 3, 4)


def test_a_tensor_on_another_device_is_named(relation, variant):
    """torch's meta device stands for any other: its tensors have no entries that a test could read by mistake."""
    x, scale, heads = torch.ones(4, 2), torch.ones(3, device="meta"), torch.ones(4, 1, 2)
    for name, run in {
        "spmm": lambda: spmm(relation, x, left=scale),
        "spmm_forward": lambda: spmm_forward(relation, x, scale, None, 1.0, None, 1.0, None),
        "push": lambda: push(relation, torch.ones(1, 3), left=scale),
        "sddmm": lambda: sddmm(relation, torch.ones(3, 2), x.to("meta")),
        "gat": lambda: gat(relation, torch.ones(3, 1), torch.ones(4, 1, device="meta"), heads),
        "hetero_spmm": lambda: hetero_spmm([(relation, "item", "user")], {"item": x}, [scale]),
    }.items():
        with pytest.raises(ValueError, match=f"{name.removesuffix('_forward')}: all tensors must be on .* meta"):
            run()


def test_tensors_without_entries_are_refused(relation, variant):
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(TypeError, match="spmm: takes tensors with entries, got a FakeT"):
        spmm_forward(relation, torch.ones(4, 2), None, None, 1.0, None, 1.0, None)


def test_a_kernel_starts_on_the_device_of_its_tensors(monkeypatch):
    """Without a GPU: a device that only counts where it is entered."""
    current = []

    @contextmanager
    def device(wanted):
        current.append(wanted)
        yield
        current.pop()

    seen = []
    loaded = SimpleNamespace(graphrec_cuda_nothing=lambda *_: seen.append(list(current)) or 0)
    library = object.__new__(_kernels.Library)
    library.kind, library.variant, library._loaded = "cuda", None, loaded
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda wanted: SimpleNamespace(cuda_stream=7))
    library.call("nothing", (1, 2.0, None), torch.device("cuda:1"))
    library.call("nothing", (), torch.device("cpu"))  # emulated
    assert seen == [[torch.device("cuda:1")], []]


def test_a_dtype_that_no_kernel_takes_needs_the_reference(relation, monkeypatch):
    x = torch.ones(4, 2, dtype=torch.float16)
    for wish in ("auto", "reference"):
        monkeypatch.setattr(_kernels, "_wish", lambda wish=wish: wish)
        assert torch.equal(spmm(relation, x), torch.tensor([[2, 2], [1, 1], [1, 1]], dtype=torch.float16))
    monkeypatch.setattr(_kernels, "_wish", lambda: "native")
    with pytest.raises(ValueError, match="take torch.float32, torch.float64, torch.bfloat16, got torch.float16; convert it"):
        spmm(relation, x)
    assert spmm(relation, x.float()).dtype == torch.float32


def test_the_backend_of_a_device_is_that_of_its_type(monkeypatch):
    built = {"cpu": SimpleNamespace(variant="avx2", kind="cpu"), "cuda": SimpleNamespace(variant=None, kind="cuda")}
    monkeypatch.setattr(_kernels, "library", built.get)
    names = {"cpu": "native-avx2", "cpu:0": "native-avx2", "cuda": "native-cuda", "cuda:0": "native-cuda"}
    assert {name: backend(name) for name in names} == names
    assert backend() == "native-avx2" and backend(torch.device("cuda", 1)) == "native-cuda"
    monkeypatch.setattr(_kernels, "library", lambda device_type: None)
    assert backend("cuda:0") == "reference"


@pytest.mark.parametrize("name", ["gpu", "", "xpu", "meta", None, 1.5])
def test_a_device_without_operators_has_no_backend(name):
    with pytest.raises(ValueError, match=r'device_type must be "cpu" or "cuda", got .*; operators run on these two alone'):
        backend(name)


def unaligned(x: torch.Tensor) -> torch.Tensor:
    """The same values, one entry past where a vector register would like them to start."""
    return torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape).copy_(x).requires_grad_(x.requires_grad)


def all_but_spmm(relation: Relation, dtype: torch.dtype, place) -> dict[str, list[torch.Tensor]]:
    """What every operator but `spmm` computes, with its gradients, of inputs that `place` has put somewhere."""
    generator = torch.Generator().manual_seed(1)
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def made(*shape: int, kind: torch.dtype = dtype) -> torch.Tensor:
        return place(torch.randn(shape, generator=generator).to(kind).requires_grad_())

    user, item, heads, scores = made(20, 66), made(30, 66), made(30, 2, 33), (made(20, 2, kind=wide), made(30, 2, kind=wide))
    vectors, targets, ids = made(2, 33), made(20, 2, 33), place(torch.arange(12))
    negatives, hits, log_weight = place(torch.arange(24).view(12, 2)), torch.tensor([[1], [2]]), place(torch.zeros(12, dtype=wide))
    results = {
        "sddmm": (sddmm(relation, user, item), user, item),
        "hetero_spmm": (hetero_spmm([(relation, "item", "user")], {"item": item})["user"], item),
        "gat": (gat(relation, *scores, heads, dropout=0.3, seed=1), *scores, heads),
        "gatv2": (gatv2(relation, targets, heads, vectors), targets, heads, vectors),
        "bpr": (bpr(user, item, ids, ids, negatives), user, item),
        "sampled_softmax": (sampled_softmax(user, item, ids, ids, ids, log_weight, hits, 0.5), user, item),
    }
    if dtype != torch.bfloat16:
        signals = made(3, 20)
        results["push"] = push(relation, signals, place(torch.rand(20, generator=generator).to(dtype))), signals
        state = [made(71).detach() for _ in range(2)] + [place(torch.rand(71, generator=generator).to(dtype)) for _ in range(2)]
        adam_step(*state, step=3)
    found = {name: [y.detach(), *torch.autograd.grad(y.square().sum(), inputs)] for name, (y, *inputs) in results.items()}
    if dtype != torch.bfloat16:
        found["adam"] = state
    if dtype == torch.float32:
        found["topk_scores"] = [*topk_scores(user, item, 9)]
        found["select_topk"] = [*select_topk(made(20, 30).detach(), 9)]
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_does_not_matter_where_the_inputs_start(implementation, dtype):
    rng = np.random.default_rng(2)
    relation = Relation.from_coo(rng.integers(0, 19, 90), rng.integers(0, 30, 90), 20, 30)
    placed = all_but_spmm(relation, dtype, unaligned)
    for name, parts in all_but_spmm(relation, dtype, lambda x: x).items():
        for one, other in zip(parts, placed[name], strict=True):
            assert bool(one.isfinite().all()), name
            torch.testing.assert_close(other, one, msg=lambda text, name=name: f"{name}: {text}")
