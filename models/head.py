"""The projection to the vocabulary and its cross-entropy.

Shape suffixes: B sequences, T tokens of a sequence, N = B * T tokens, D hidden size, V vocabulary,
C = tokens of one chunk, P = tokens of a piece of it.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.layers import at_least_fp32, autocast_dtype

# Logits that exist at a time, and, on a CPU, how many are made gradients of in one go: 2 MiB in
# fp32, which a second-level cache holds. On a processor with AMX a head took 61 ms with 2^22 and
# with 2^18 to 2^19 in one go, 70 to 81 ms with all of 2^21 or 2^22. A GPU wants larger products.
CPU_LOGITS_PER_CHUNK = 2**22
CPU_LOGITS_PER_PIECE = 2**19
GPU_LOGITS_PER_CHUNK = 2**27


class Head(nn.Module):
    """The projection to the vocabulary, and the cross-entropy without the (N, V) logits.

    `weight` is (V, D), (out, in), and is the embedding's own where the two are tied.
    """

    def __init__(self, hidden_size: int, *, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))
        nn.init.normal_(self.weight, std=0.02)

    def forward(
        self, x_BTD: Tensor, targets_BT: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The logits (B, T, V), or with targets the mean cross-entropy and the number correct."""
        if targets_BT is None:
            return F.linear(x_BTD, self.weight)
        dtype = autocast_dtype(x_BTD)
        cross_entropy, num_correct = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            x_BTD.flatten(0, 1).to(dtype),
            self.weight,
            targets_BT.flatten(),
            torch.is_grad_enabled(),
        )
        return cross_entropy, num_correct


class LinearCrossEntropy(torch.autograd.Function):
    """`mean_n(-log softmax(W x_n)[target_n])`, with the gradients made in the forward pass.

    The logits are the largest tensor of a small model. They are made a chunk of tokens at a
    time and turned at once into the gradients of x and W, which are only scaled by the incoming
    gradient in the backward pass (as in Liger Kernel, arXiv 2410.10989, section 3.2).

    The products are in the dtype of x, to which W is cast. The gradient of W adds up over the
    chunks in fp32, and is in the dtype of W: a sum of many chunks in 16 bits would lose the small.
    """

    @staticmethod
    def forward(
        ctx: Any, x_ND: Tensor, weight_VD: Tensor, target_N: Tensor, with_gradients: bool
    ) -> tuple[Tensor, Tensor]:
        dtype, weight_dtype = at_least_fp32(x_ND.dtype), weight_VD.dtype
        weight_VD = weight_VD.to(x_ND.dtype)
        on_cpu = x_ND.device.type == "cpu"
        logits_per_chunk = CPU_LOGITS_PER_CHUNK if on_cpu else GPU_LOGITS_PER_CHUNK
        chunk_size = max(1, min(logits_per_chunk // len(weight_VD), len(x_ND)))
        piece_size = max(1, CPU_LOGITS_PER_PIECE // len(weight_VD)) if on_cpu else chunk_size
        total = x_ND.new_zeros((), dtype=dtype)
        num_correct = torch.zeros((), dtype=torch.int64, device=x_ND.device)
        # Allocated once: to touch fresh memory takes as long as the product that fills it.
        memory_CV = x_ND.new_empty(chunk_size, len(weight_VD))
        if with_gradients:
            x_grad_ND = torch.empty_like(x_ND)
            weight_grad_VD = torch.zeros_like(weight_VD, dtype=dtype)
        for x_CD, target_C, x_grad_CD in zip(
            torch.split(x_ND, chunk_size),
            torch.split(target_N, chunk_size),
            torch.split(x_grad_ND if with_gradients else x_ND, chunk_size),
            strict=True,
        ):
            logits_CV = torch.mm(x_CD, weight_VD.t(), out=memory_CV[: len(x_CD)])
            pieces = zip(
                torch.split(logits_CV, piece_size), torch.split(target_C, piece_size), strict=True
            )
            for logits_PV, target_P in pieces:
                loss, correct = _turn_into_gradients(logits_PV, target_P.unsqueeze(1))
                total += loss
                num_correct += correct
            if with_gradients:
                torch.mm(logits_CV, weight_VD, out=x_grad_CD)
                _add_product(weight_grad_VD, logits_CV.t(), x_CD)
        if with_gradients:
            ctx.save_for_backward(x_grad_ND, weight_grad_VD)
            ctx.weight_dtype = weight_dtype
        ctx.mark_non_differentiable(num_correct)
        return total / len(x_ND), num_correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_grad_ND, weight_grad_VD = ctx.saved_tensors
        scale = grad / len(x_grad_ND)
        return x_grad_ND * scale, (weight_grad_VD * scale).to(ctx.weight_dtype), None, None


def _turn_into_gradients(logits_PV: Tensor, target_P1: Tensor) -> tuple[Tensor, Tensor]:
    """Put `softmax(logits) - one_hot(target)` in the place of the logits, computed in fp32.

    Returns:
        The sum of the cross-entropies, and how many targets are the likeliest.
    """
    x_PV = logits_PV.to(at_least_fp32(logits_PV.dtype))
    likeliest_P1 = _argmax(x_PV)
    behind_P1 = x_PV.gather(1, likeliest_P1) - x_PV.gather(1, target_P1)
    probability_PV = _softmax_(x_PV)
    # The largest logit has the probability exp(0) / sum.
    loss = (behind_P1 - probability_PV.gather(1, likeliest_P1).log()).sum()
    probability_PV.scatter_add_(1, target_P1, x_PV.new_full((), -1).expand_as(target_P1))
    if probability_PV is not logits_PV:
        logits_PV.copy_(probability_PV)
    return loss, (likeliest_P1 == target_P1).sum()


def _softmax_(x_PV: Tensor) -> Tensor:
    """The softmax of each row, in the memory of x."""
    if x_PV.device.type == "cpu":
        return torch.softmax(x_PV, 1, out=x_PV)
    return _softmax_in_four_passes_(x_PV)


def _softmax_in_four_passes_(x_PV: Tensor) -> Tensor:
    """For devices whose kernel of the softmax does not promise to work in place."""
    numerator_PV = x_PV.sub_(x_PV.amax(1, keepdim=True)).exp_()
    return numerator_PV.div_(numerator_PV.sum(1, keepdim=True))


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """`total += a @ b`, where the total may be in a wider dtype than the product."""
    if total.dtype == a.dtype:
        torch.addmm(total, a, b, out=total)  # not addmm_, which torch's flop counter does not know
    elif total.device.type == "cuda":
        total += torch.mm(a, b, out_dtype=total.dtype)  # not rounded in between
    else:
        total += torch.mm(a, b)


def _argmax(logits_CV: Tensor) -> Tensor:
    """`logits_CV.argmax(1, keepdim=True)`, but twice as fast on a CPU.

    There `argmax` takes four times as long as `amax`, so: the largest of each 64 neighbours first,
    then the argmax over these, then within the 64 that have the largest.
    """
    group = math.gcd(logits_CV.shape[1], 64)
    if logits_CV.device.type != "cpu" or group < 32:
        return logits_CV.argmax(1, keepdim=True)
    grouped_CVg = torch.unflatten(logits_CV, 1, (-1, group))
    best_C1 = grouped_CVg.amax(2).argmax(1, keepdim=True)
    best_Cg = grouped_CVg.take_along_dim(best_C1.unsqueeze(2), 1).squeeze(1)
    index_C1: Tensor = best_C1 * group + best_Cg.argmax(1, keepdim=True)
    return index_C1
