"""The projection to the vocabulary and its cross-entropy.

Shape suffixes: B sequences, T tokens of a sequence, N = B * T tokens, D hidden size, V vocabulary,
C = tokens of one chunk.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from models.layers import at_least_fp32, autocast_dtype

# Logits that exist at a time. On a CPU 2^21 fp32 numbers are 8 MiB, which a last-level cache holds;
# from 2^20 to 2^22 the time was the same, below and above it rose. A GPU wants larger products.
CPU_LOGITS_PER_CHUNK = 2**21
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
        chunk_size = max(1, logits_per_chunk // len(weight_VD))
        total = x_ND.new_zeros((), dtype=dtype)
        num_correct = torch.zeros((), dtype=torch.int64, device=x_ND.device)
        if with_gradients:
            x_grad_ND = torch.empty_like(x_ND)
            weight_grad_VD = torch.zeros_like(weight_VD, dtype=dtype)
        for start in range(0, len(x_ND), chunk_size):
            chunk = slice(start, start + chunk_size)
            target_C1 = target_N[chunk].unsqueeze(1)
            logits_CV = (x_ND[chunk] @ weight_VD.t()).to(dtype)
            likeliest_C1 = _argmax(logits_CV)
            num_correct += (likeliest_C1 == target_C1).sum()
            largest_C1 = logits_CV.gather(1, likeliest_C1)
            target_logit_C1 = logits_CV.gather(1, target_C1) - largest_C1
            # In place from here on: the logits become the numerators of the softmax, then
            # d loss / d logits = (softmax - one_hot(target)) / N.
            exponential_CV = logits_CV.sub_(largest_C1).exp_()
            sum_C1 = exponential_CV.sum(1, keepdim=True)
            total += (sum_C1.log() - target_logit_C1).sum()
            if with_gradients:
                grad_CV = exponential_CV.div_(sum_C1.mul_(len(x_ND)))
                minus_one_C1 = grad_CV.new_full((), -1 / len(x_ND)).expand_as(target_C1)
                grad_CV = grad_CV.scatter_add_(1, target_C1, minus_one_C1).to(x_ND.dtype)
                torch.mm(grad_CV, weight_VD, out=x_grad_ND[chunk])
                _add_product(weight_grad_VD, grad_CV.t(), x_ND[chunk])
        if with_gradients:
            ctx.save_for_backward(x_grad_ND, weight_grad_VD)
            ctx.weight_dtype = weight_dtype
        ctx.mark_non_differentiable(num_correct)
        return total / len(x_ND), num_correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_grad_ND, weight_grad_VD = ctx.saved_tensors
        weight_grad_VD = (weight_grad_VD * grad).to(ctx.weight_dtype)
        return x_grad_ND * grad, weight_grad_VD, None, None


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
