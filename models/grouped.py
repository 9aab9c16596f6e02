"""Every expert's feed-forward on its own rows, in a loop over experts or in grouped products.

Shape suffixes: D hidden size, F inner size of an expert, E experts, A assignments (rows) sorted by
expert, of which the first `count[0]` belong to expert 0, the next `count[1]` to expert 1.

Each is one autograd Function, because autograd through `up[e]` would make a full-size zero
gradient of all experts for each expert. The activation is recomputed in the backward pass, not
kept. An expert without rows gets zeros, not None, so that DDP finds every parameter used.
"""

import math
from collections.abc import Iterator, Sized
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# What a kernel of grouped products wants the rows of its operands to be a multiple of (bytes).
GROUPED_ALIGNMENT = 16
# The dtypes in which torch has its matrix products on a CPU from oneDNN, and the rows of its tiles.
CODE_FOR_EVERY_SIZE = (torch.bfloat16, torch.float16)
SMALLEST_STEP = 16


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
    """One expert after the other, each product written straight to its place.

    An expert's window may reach past its own rows (see `_windows`). What it writes there the next
    expert writes over, because its turn comes later; what it reads there has no part in a weight's
    gradient, because one of the two factors is set to zero.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_AD: Tensor,
        up_EDF: Tensor,
        gate_EDF: Tensor | None,
        down_EFD: Tensor,
        counts: list[int],
    ) -> Tensor:
        windows = _windows(counts, x_AD.dtype)
        num_rows = max(window.end for window in windows)
        up_AF = x_AD.new_empty(num_rows, up_EDF.shape[2])
        gate_AF = None if gate_EDF is None else torch.empty_like(up_AF)
        y_AD = x_AD.new_empty(num_rows, x_AD.shape[1])
        experts = _each(counts, up_EDF, gate_EDF, down_EFD)
        for (w_up, w_gate, w_down), window in zip(experts, windows, strict=True):
            x, up, gate, y = (window.of(rows) for rows in (x_AD, up_AF, gate_AF, y_AD))
            torch.mm(x, w_up, out=up)
            if gate is None:
                inner = F.silu(up)
            else:
                torch.mm(x, w_gate, out=gate)
                inner = F.silu(gate).mul_(up)
            torch.mm(inner, w_down, out=y)
        ctx.windows = windows
        ctx.save_for_backward(x_AD, up_EDF, gate_EDF, down_EFD, up_AF, gate_AF)
        return y_AD[: len(x_AD)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_AD: Tensor) -> tuple[Tensor | None, ...]:
        x_AD, up_EDF, gate_EDF, down_EFD, up_AF, gate_AF = ctx.saved_tensors
        x_grad_AD = x_AD.new_empty(len(up_AF), x_AD.shape[1])
        weights = (up_EDF, gate_EDF, down_EFD)
        gradients = tuple(None if w is None else torch.empty_like(w) for w in weights)
        experts = _each(ctx.windows, *weights, *gradients)
        rows = (x_AD, up_AF, gate_AF, grad_AD, x_grad_AD)
        for weight, window in zip(experts, ctx.windows, strict=True):
            w_up, w_gate, w_down, w_up_grad, w_gate_grad, w_down_grad = weight
            x, up, gate, y_grad, x_grad = (window.of(x) for x in rows)
            inner_grad = y_grad @ w_down.t()
            if gate is None:
                torch.mm(window.cut(F.silu(up)).t(), y_grad, out=w_down_grad)
                up_grad = window.cut(torch.ops.aten.silu_backward(inner_grad, up))
                torch.mm(up_grad, w_up.t(), out=x_grad)
            else:
                activated = F.silu(gate)
                torch.mm(window.cut(activated * up).t(), y_grad, out=w_down_grad)
                up_grad = window.cut(activated.mul_(inner_grad))
                gate_grad = torch.ops.aten.silu_backward(inner_grad.mul_(up), gate)
                torch.mm(up_grad, w_up.t(), out=x_grad)
                torch.addmm(x_grad, window.cut(gate_grad), w_gate.t(), out=x_grad)
                torch.mm(x.t(), gate_grad, out=w_gate_grad)
            torch.mm(x.t(), up_grad, out=w_up_grad)
        return x_grad_AD[: len(x_AD)], *gradients, None


class Window(NamedTuple):
    """The rows of one expert, and as many of those that follow as make its size a usual one."""

    begin: int
    num_own: int
    end: int

    def of(self, rows: Tensor | None) -> Any:
        """The window's rows of a tensor, with zeros after its last; None if there is no tensor."""
        if rows is None:
            return None
        missing = self.end - max(self.begin, len(rows))
        window = rows[self.begin : self.end]
        return window if missing <= 0 else F.pad(window, (0, 0, 0, missing))

    def cut(self, rows: Tensor) -> Tensor:
        """The window's rows themselves, with zeros in place of what is not the expert's own."""
        rows[self.num_own :].zero_()
        return rows


def _windows(counts: list[int], dtype: torch.dtype) -> list[Window]:
    """Where the rows of each expert are; in 16 bits, in sizes that come back from batch to batch.

    For them oneDNN makes machine code for every new size: 2 to 3 ms for a product that then takes
    0.1 ms. The step is about an eighth of the mean, so that about a sixteenth of the work is vain.
    """
    step = 1
    if dtype in CODE_FOR_EVERY_SIZE:
        step = max(SMALLEST_STEP, 2 ** (sum(counts) // len(counts) // 8).bit_length() // 2)
    windows, begin = [], 0
    for num_own in counts:
        windows.append(Window(begin, num_own, begin + math.ceil(num_own / step) * step))
        begin += num_own
    return windows


def _each(per_expert: Sized, *stacks: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Expert by expert, its matrix of each stack; None where there is no stack."""
    nothing = [None] * len(per_expert)
    return zip(*(nothing if stack is None else stack.unbind() for stack in stacks), strict=True)
