"""The grouped products that a GPU runs, on a CPU: like the loop, and no host waits for them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from models import MoETransformer, moe
from models.grouped import (
    GroupedFeedForward,
    LoopedFeedForward,
    _windows,
    runs_in_grouped_products,
)

# Largest relative error: the order of sums in fp32, the rounding of inner results in bf16.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.01}


def operands(dtype: torch.dtype, *, rows: int, gated: bool) -> tuple[Tensor | None, ...]:
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    x_AD, up_EDF, gate_EDF = values(rows, 16), values(4, 16, 8), values(4, 16, 8)
    return x_AD, up_EDF, gate_EDF if gated else None, values(4, 8, 16)


@pytest.mark.parametrize("counts", [[5, 3, 7, 9], [0, 11, 0, 13], [24, 0, 0, 0], [0, 0, 0, 24]])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_are_the_loop_over_experts_forward_and_backward(
    dtype: torch.dtype, gated: bool, counts: list[int]
) -> None:
    inputs = operands(dtype, rows=24, gated=gated)
    wanted = [x for x in inputs if x is not None]
    in_groups = GroupedFeedForward.apply(*inputs, torch.tensor(counts))
    in_a_loop = LoopedFeedForward.apply(*inputs, counts)
    direction = torch.randn(24, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    ours = (in_groups, *torch.autograd.grad(in_groups, wanted, direction))
    theirs = (in_a_loop, *torch.autograd.grad(in_a_loop, wanted, direction))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype == dtype
        assert (a - b).float().norm() <= TOLERANCE[dtype] * b.float().norm()


@pytest.mark.parametrize("gated", [False, True])
def test_an_experts_window_reaches_past_its_rows_and_nothing_comes_of_it(gated: bool) -> None:
    counts = [17, 0, 5, 31, 0]
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).bfloat16().requires_grad_()

    x_AD, direction = values(53, 16), values(53, 16).detach()
    weights = [values(5, 16, 8), values(5, 16, 8) if gated else None, values(5, 8, 16)]
    wanted = [x for x in (x_AD, *weights) if x is not None]
    torch.use_deterministic_algorithms(True)  # fills memory that nobody has written with NaN
    try:
        y_AD = LoopedFeedForward.apply(x_AD, *weights, counts)
        ours = (y_AD, *torch.autograd.grad(y_AD, wanted, direction))
    finally:
        torch.use_deterministic_algorithms(False)
    alone = []
    for e, x_nD in enumerate(x_AD.split(counts)):
        up, gate, down = (None if w is None else w[e] for w in weights)
        inner = x_nD @ up if gate is None else torch.nn.functional.silu(x_nD @ gate) * (x_nD @ up)
        alone.append((inner if gated else torch.nn.functional.silu(inner)) @ down)
    expected = torch.cat(alone)
    theirs = (expected, *torch.autograd.grad(expected, wanted, direction))
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).float().norm() <= TOLERANCE[torch.bfloat16] * b.float().norm()


def test_experts_meet_few_different_sizes_in_bf16_and_no_row_more_in_fp32() -> None:
    counts = [539, 601, 0, 439, 1, 602]
    for dtype, sizes in ((torch.bfloat16, [544, 608, 0, 448, 32, 608]), (torch.float32, counts)):
        windows = _windows(counts, dtype)
        assert [window.end - window.begin for window in windows] == sizes
        assert [window.num_own for window in windows] == counts
        assert [window.begin for window in windows] == [0, 539, 1140, 1140, 1579, 1580]


def test_an_expert_without_rows_gets_zeros_whatever_the_kernel_left_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = torch.nn.functional.grouped_mm

    def leaves_empty_groups_unwritten(a: Tensor, b: Tensor, *, offs: Tensor) -> Tensor:
        product = real(a, b, offs=offs)
        if product.dim() == 3:
            product[offs.diff(prepend=offs.new_zeros(1)) == 0] = torch.nan
        return product

    monkeypatch.setattr(torch.nn.functional, "grouped_mm", leaves_empty_groups_unwritten)
    inputs = operands(torch.float32, rows=24, gated=True)
    GroupedFeedForward.apply(*inputs, torch.tensor([0, 11, 0, 13])).sum().backward()
    for weight in inputs[1:]:
        assert weight is not None
        assert weight.grad is not None
        assert torch.equal(weight.grad[[0, 2]], torch.zeros_like(weight.grad[[0, 2]]))
        assert weight.grad[[1, 3]].abs().amin() >= 0, "and nothing else is touched"


def test_device_dtype_and_sizes_alone_choose_how_experts_run() -> None:
    def chosen(device: str, dtype: torch.dtype, *, inner_size: int = 8) -> bool:
        x_AD = torch.empty(3, 16, device=device, dtype=dtype)
        return runs_in_grouped_products(x_AD, inner_size=inner_size)

    assert chosen("meta", torch.bfloat16)  # like a GPU, a device that is no CPU
    assert not chosen("meta", torch.bfloat16, inner_size=12)
    assert not chosen("meta", torch.float32)
    assert not chosen("cpu", torch.bfloat16)


class ForbidWaiting(TorchDispatchMode):
    """Raises where a GPU's host would wait for a number of the device, or for a shape."""

    waits = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero", "equal")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.name().removeprefix("aten::").split(".")[0]
        assert name not in self.waits, f"{func} makes the host wait for the device"
        return func(*args, **(kwargs or {}))


def train_in_bf16(model: MoETransformer, batch: tuple[Tensor, Tensor]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*batch)
    output.loss.backward()


def test_a_training_step_in_grouped_products_never_waits_for_the_device(
    small_model: Callable[..., MoETransformer],
    batch: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: Tensor) -> list[int]:
        raise AssertionError("tolist makes the host wait for the device")

    monkeypatch.setattr(Tensor, "tolist", refuse)  # on a CPU it reads memory, without an operator
    model = small_model(activation="swiglu")
    with pytest.raises(AssertionError, match="makes the host wait"), ForbidWaiting():
        train_in_bf16(model, batch)  # the loop needs the counts as numbers
    model.zero_grad()
    monkeypatch.setattr(moe, "runs_in_grouped_products", lambda *_, **__: True)
    with ForbidWaiting():
        train_in_bf16(model, batch)
    assert all(parameter.grad is not None for parameter in model.parameters())
