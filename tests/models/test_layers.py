import math

import torch

from models.layers import RMSNorm


def test_rms_norm_is_the_formula() -> None:
    norm = RMSNorm(4, epsilon=0.1)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    x = torch.tensor([1.0, -2.0, 2.0, 4.0])
    expected = x / math.sqrt(25 / 4 + 0.1) * norm.weight
    torch.testing.assert_close(norm(x), expected)
