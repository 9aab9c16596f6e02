"""Every expert's feed-forward on its own rows, in a loop over experts or in grouped products.

Shape suffixes: D hidden size, F inner size of an expert, E experts, A assignments (rows) sorted by
expert, of which the first `count[0]` belong to expert 0, the next `count[1]` to expert 1.

Each is one autograd Function, because autograd through `up[e]` would make a full-size zero
gradient of all experts for each expert. The activation is recomputed in the backward pass, not
kept. An expert without rows gets zeros, not None, so that DDP finds every parameter used.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# What a kernel of grouped products wants the rows of its operands to be a multiple of (bytes).
GROUPED_ALIGNMENT = 16


def in_grouped_products(
    x_AD: Tensor, up_EDF: Tensor, gate_EDF: Tensor | None, down_EFD: Tensor, count_E: Tensor
) -> Tensor:
    """`down(silu(up(x)))` or, with a gate, `down(silu(gate(x)) * up(x))` of each row's expert.

    Args:
        x_AD: rows sorted by expert, in the dtype of the weights.
        count_E: rows of each expert, int64, on the device; their sum is A.
    """
    weights = (up_EDF, gate_EDF, down_EFD)
    y_AD: Tensor = GroupedFeedForward.apply(x_AD, *weights, count_E)  # type: ignore[no-untyped-call]
    return y_AD


def in_a_loop(
    x_AD: Tensor, up_EDF: Tensor, gate_EDF: Tensor | None, down_EFD: Tensor, count_E: Tensor
) -> Tensor:
    """The same as `in_grouped_products`, where the host knows how many rows each expert has."""
    weights = (up_EDF, gate_EDF, down_EFD)
    y_AD: Tensor = LoopedFeedForward.apply(x_AD, *weights, count_E.tolist())  # type: ignore[no-untyped-call]
    return y_AD


def runs_in_grouped_products(x_AD: Tensor, *, inner_size: int) -> bool:
    """Whether the experts run in grouped products: a matter of device, dtype and sizes only.

    On a CPU the loop is faster: an expert's rows stay in the cache from one product to the next.
    Elsewhere it would cost a few launches for each expert, and a wait of the host for the counts.
    In bf16 only: in other dtypes torch's grouped product is a loop too, in which the host waits for
    the counts, and its shapes are unknown to `torch.compile` (2.13).
    """
    if x_AD.device.type == "cpu" and not torch.compiler.is_compiling():
        return False
    row_bytes = (size * x_AD.element_size() for size in (x_AD.shape[1], inner_size))
    return x_AD.dtype == torch.bfloat16 and not any(b % GROUPED_ALIGNMENT for b in row_bytes)


class GroupedFeedForward(torch.autograd.Function):
    """All experts in one product, which reads on the device where the rows of each begin."""

    @staticmethod
    def forward(
        ctx: Any,
        x_AD: Tensor,
        up_EDF: Tensor,
        gate_EDF: Tensor | None,
        down_EFD: Tensor,
        count_E: Tensor,
    ) -> Tensor:
        end_E = count_E.cumsum(0).to(torch.int32)
        up_AF = F.grouped_mm(x_AD, up_EDF, offs=end_E)
        gate_AF = None if gate_EDF is None else F.grouped_mm(x_AD, gate_EDF, offs=end_E)
        inner_AF = F.silu(up_AF) if gate_AF is None else F.silu(gate_AF) * up_AF
        ctx.save_for_backward(x_AD, up_EDF, gate_EDF, down_EFD, up_AF, gate_AF, count_E, end_E)
        return F.grouped_mm(inner_AF, down_EFD, offs=end_E)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor | None, ...]:
        x_AD, up_EDF, gate_EDF, down_EFD, up_AF, gate_AF, count_E, end_E = ctx.saved_tensors
        starved_E11 = (count_E == 0).view(-1, 1, 1)

        def weight_gradient(rows_A: Tensor, grad_A: Tensor) -> Tensor:
            product = F.grouped_mm(rows_A.t(), grad_A, offs=end_E)
            # Some kernels leave a product over no rows unwritten (pytorch/pytorch#172439).
            return product.masked_fill(starved_E11, 0)

        grad_AD = grad_AD.contiguous()
        inner_grad_AF = F.grouped_mm(grad_AD, down_EFD.mT, offs=end_E)
        if gate_AF is None:
            down_grad_EFD = weight_gradient(F.silu(up_AF), grad_AD)
            up_grad_AF = torch.ops.aten.silu_backward(inner_grad_AF, up_AF)
            x_grad_AD = F.grouped_mm(up_grad_AF, up_EDF.mT, offs=end_E)
            return x_grad_AD, weight_gradient(x_AD, up_grad_AF), None, down_grad_EFD, None
        activated_AF = F.silu(gate_AF)
        down_grad_EFD = weight_gradient(activated_AF * up_AF, grad_AD)
        up_grad_AF = activated_AF * inner_grad_AF
        gate_grad_AF = torch.ops.aten.silu_backward(inner_grad_AF * up_AF, gate_AF)
        x_grad_AD = F.grouped_mm(up_grad_AF, up_EDF.mT, offs=end_E)
        x_grad_AD = x_grad_AD + F.grouped_mm(gate_grad_AF, gate_EDF.mT, offs=end_E)
        up_grad_EDF, gate_grad_EDF = (weight_gradient(x_AD, g) for g in (up_grad_AF, gate_grad_AF))
        return x_grad_AD, up_grad_EDF, gate_grad_EDF, down_grad_EFD, None


class LoopedFeedForward(torch.autograd.Function):
    """One expert after the other, each product written straight to its place."""

    @staticmethod
    def forward(
        ctx: Any,
        x_AD: Tensor,
        up_EDF: Tensor,
        gate_EDF: Tensor | None,
        down_EFD: Tensor,
        counts: list[int],
    ) -> Tensor:
        up_AF = x_AD.new_empty(len(x_AD), up_EDF.shape[2])
        gate_AF = None if gate_EDF is None else torch.empty_like(up_AF)
        y_AD = torch.empty_like(x_AD)
        experts = _each(counts, up_EDF, gate_EDF, down_EFD)
        rows = _rows(counts, x_AD, up_AF, gate_AF, y_AD)
        for (w_up, w_gate, w_down), (x, up, gate, y) in zip(experts, rows, strict=True):
            torch.mm(x, w_up, out=up)
            if gate is None:
                inner = F.silu(up)
            else:
                torch.mm(x, w_gate, out=gate)
                inner = F.silu(gate).mul_(up)
            torch.mm(inner, w_down, out=y)
        ctx.counts = counts
        ctx.save_for_backward(x_AD, up_EDF, gate_EDF, down_EFD, up_AF, gate_AF)
        return y_AD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor | None, ...]:
        x_AD, up_EDF, gate_EDF, down_EFD, up_AF, gate_AF = ctx.saved_tensors
        x_grad_AD = torch.empty_like(x_AD)
        weights = (up_EDF, gate_EDF, down_EFD)
        gradients = tuple(None if w is None else torch.empty_like(w) for w in weights)
        experts = _each(ctx.counts, *weights, *gradients)
        rows = _rows(ctx.counts, x_AD, up_AF, gate_AF, grad_AD, x_grad_AD)
        for weight, (x, up, gate, y_grad, x_grad) in zip(experts, rows, strict=True):
            w_up, w_gate, w_down, w_up_grad, w_gate_grad, w_down_grad = weight
            inner_grad = y_grad @ w_down.t()
            if gate is None:
                torch.mm(F.silu(up).t(), y_grad, out=w_down_grad)
                up_grad = torch.ops.aten.silu_backward(inner_grad, up)
                torch.mm(up_grad, w_up.t(), out=x_grad)
            else:
                activated = F.silu(gate)
                torch.mm((activated * up).t(), y_grad, out=w_down_grad)
                up_grad = activated.mul_(inner_grad)
                gate_grad = torch.ops.aten.silu_backward(inner_grad.mul_(up), gate)
                torch.mm(up_grad, w_up.t(), out=x_grad)
                torch.addmm(x_grad, gate_grad, w_gate.t(), out=x_grad)
                torch.mm(x.t(), gate_grad, out=w_gate_grad)
            torch.mm(x.t(), up_grad, out=w_up_grad)
        return x_grad_AD, *gradients, None


def _each(counts: list[int], *stacks: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Expert by expert, its matrix of each stack; None where there is no stack."""
    nothing = [None] * len(counts)
    return zip(*(nothing if stack is None else stack.unbind() for stack in stacks), strict=True)


def _rows(counts: list[int], *tensors: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Expert by expert, its rows of each tensor; None where there is no tensor."""
    nothing = [None] * len(counts)
    return zip(
        *(nothing if tensor is None else torch.split(tensor, counts) for tensor in tensors),
        strict=True,
    )
