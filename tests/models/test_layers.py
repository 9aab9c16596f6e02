import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from models import layers
from models.layers import Attention, Head, LinearCrossEntropy, RMSNorm, rotary_rotations, rotate


@pytest.mark.parametrize("vocab_size", [64, 100])
@pytest.mark.parametrize("tokens_per_chunk", [1, 3, 7, 100])
def test_the_chunked_cross_entropy_agrees_with_pytorch_forward_and_backward(
    monkeypatch: pytest.MonkeyPatch, tokens_per_chunk: int, vocab_size: int
) -> None:
    monkeypatch.setattr(layers, "CPU_LOGITS_PER_CHUNK", tokens_per_chunk * vocab_size)
    torch.manual_seed(0)
    x = torch.randn(10, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(vocab_size, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(vocab_size, (10,))
    targets[:4] = (x @ weight.t()).argmax(1)[:4]
    ours, num_correct = LinearCrossEntropy.apply(x, weight, targets, True)
    theirs = F.cross_entropy(x @ weight.t(), targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    assert num_correct.item() == ((x @ weight.t()).argmax(1) == targets).sum().item() >= 4
    # Scaled, as by gradient accumulation.
    for a, b in zip(
        torch.autograd.grad(3 * ours, (x, weight)),
        torch.autograd.grad(3 * theirs, (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_the_cross_entropy_survives_logits_that_overflow_an_exponential() -> None:
    x = torch.tensor([[1.0], [1.0]], requires_grad=True)
    weight = torch.tensor([[1000.0], [-1000.0], [0.0]], requires_grad=True)
    loss, num_correct = LinearCrossEntropy.apply(x, weight, torch.tensor([0, 1]), True)
    assert loss.item() == 1000  # (0 + 2000) / 2
    assert num_correct.item() == 1
    loss.backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_the_head_needs_no_gradient_memory_in_evaluation() -> None:
    head = Head(8, vocab_size=20)
    x, targets = torch.randn(2, 3, 8), torch.randint(20, (2, 3))
    with torch.no_grad():
        loss, _ = head(x, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(head(x).flatten(0, 1), targets.flatten()))


def test_the_cross_entropy_is_fp32_under_bf16_autocast() -> None:
    head = Head(32, vocab_size=40)
    x, targets = torch.randn(2, 3, 32), torch.randint(40, (2, 3))
    exact, _ = head(x, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = head(x, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=0.01, atol=0.01)
    loss.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.dtype == torch.float32


# Few different values make ties, many put the largest anywhere; 96 and 128 take the fast path.
@settings(max_examples=50, deadline=None)
@given(st.sampled_from([1, 70, 96, 128]), st.sampled_from([1, 50, 10_000]), st.integers(0, 2**31))
def test_the_fast_argmax_is_the_first_largest(columns: int, levels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(-levels, levels, (5, columns), generator=generator).float()
    expected = [row.index(max(row)) for row in logits.tolist()]
    assert layers._argmax(logits).squeeze(1).tolist() == expected


def test_rms_norm_is_the_formula() -> None:
    norm = RMSNorm(4, epsilon=0.1)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    x = torch.tensor([1.0, -2.0, 2.0, 4.0])
    expected = x / math.sqrt(25 / 4 + 0.1) * norm.weight
    torch.testing.assert_close(norm(x), expected)


def test_rotary_scores_depend_on_the_distance_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64).expand(2, 1, 20, 1, 8)
    rotation = rotary_rotations(torch.zeros(1, 20, 1).double(), head_size=8, theta=100.0)
    scores = rotate(q, rotation)[0, :, 0] @ rotate(k, rotation)[0, :, 0].t()
    for distance in range(20):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert scores[:, 0].std() > 0.1


def test_rotary_embeddings_preserve_length_and_leave_the_first_token() -> None:
    x = torch.randn(2, 5, 3, 8)
    rotation = rotary_rotations(torch.zeros(2, 5, 24), head_size=8, theta=10_000.0)
    turned = rotate(x, rotation)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    torch.testing.assert_close(turned[:, 0], x[:, 0])
    assert not torch.allclose(turned[:, 1:], x[:, 1:])


def test_rotations_are_computed_in_fp32_for_bf16_activations() -> None:
    x = torch.randn(1, 300, 2, 8).bfloat16()
    rotation = rotary_rotations(x.flatten(2), head_size=8, theta=10_000.0)
    assert rotation.dtype == torch.complex64
    assert rotate(x, rotation).dtype == torch.bfloat16


def test_attention_sees_the_past_only() -> None:
    torch.manual_seed(0)
    attention = Attention(16, num_heads=2)
    rotation = rotary_rotations(torch.zeros(1, 9, 16), head_size=8, theta=10_000.0)
    x = torch.randn(1, 9, 16)
    changed = x.clone()
    changed[:, 5] += 1
    before, after = attention(x, rotation), attention(changed, rotation)
    torch.testing.assert_close(before[:, :5], after[:, :5], rtol=0, atol=0)
    assert (before[:, 5:] - after[:, 5:]).abs().amax(-1).min() > 1e-4
