import math

import torch
import torch.nn.functional as F

from models.layers import CpuRMSNorm, RMSNorm


def test_rms_norm_is_the_formula() -> None:
    norm = RMSNorm(4, epsilon=0.1)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    x = torch.tensor([1.0, -2.0, 2.0, 4.0])
    expected = x / math.sqrt(25 / 4 + 0.1) * norm.weight
    torch.testing.assert_close(norm(x), expected)


def test_the_rms_norm_of_a_cpu_is_pytorchs_forward_and_backward() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(size, generator=generator) for size in ((2, 3, 8), (8,), (2, 3, 8))]
    inputs[0][0, 0] = 0  # a token of zeros, of which epsilon keeps the norm finite
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        x, weight, direction = (value.to(dtype) for value in inputs)
        wanted = (x.requires_grad_(), weight.requires_grad_())
        for autocast in (False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                y = CpuRMSNorm.apply(x, weight, 1e-5)  # type: ignore[no-untyped-call]
                ours = (y, *torch.autograd.grad(y, wanted, direction))
            expected = F.rms_norm(x, (8,), weight, 1e-5)
            theirs = (expected, *torch.autograd.grad(expected, wanted, direction))
            for a, b in zip(ours, theirs, strict=True):
                torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_the_norm_of_one_token_has_a_derivative() -> None:
    norm, x = RMSNorm(4, epsilon=0.1).double(), torch.randn(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(norm, x.requires_grad_())
