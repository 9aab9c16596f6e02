import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from models import head as head_module
from models.head import Head, LinearCrossEntropy


@pytest.mark.parametrize("vocab_size", [64, 100])
@pytest.mark.parametrize("tokens_per_chunk", [1, 3, 7, 100])
@pytest.mark.parametrize("tokens_per_piece", [2, 100])
def test_the_chunked_cross_entropy_agrees_with_pytorch_forward_and_backward(
    monkeypatch: pytest.MonkeyPatch, tokens_per_piece: int, tokens_per_chunk: int, vocab_size: int
) -> None:
    monkeypatch.setattr(head_module, "CPU_LOGITS_PER_CHUNK", tokens_per_chunk * vocab_size)
    monkeypatch.setattr(head_module, "CPU_LOGITS_PER_PIECE", tokens_per_piece * vocab_size)
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
    assert head_module._argmax(logits).squeeze(1).tolist() == expected


def test_the_softmax_of_other_devices_is_that_of_a_cpu() -> None:
    logits = 50 * torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    expected = head_module._softmax_(logits.clone())
    torch.testing.assert_close(expected, logits.softmax(1), rtol=0, atol=0)
    torch.testing.assert_close(head_module._softmax_in_four_passes_(logits), expected)


def test_the_heads_gradient_adds_up_in_fp32_under_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_module, "CPU_LOGITS_PER_CHUNK", 8 * 16)  # 64 chunks of 8 tokens
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 16, generator=generator).bfloat16().float() + 1
    weight = torch.randn(16, 16, generator=generator).bfloat16().float().requires_grad_()
    targets = torch.randint(16, (512,), generator=generator)
    exact = torch.autograd.grad(F.cross_entropy(x @ weight.t(), targets), weight)[0]
    loss, _ = LinearCrossEntropy.apply(x.bfloat16(), weight, targets, True)
    (ours,) = torch.autograd.grad(loss, weight)
    assert ours.dtype == torch.float32
    # The summands are rounded by up to 2^-9 each; 64 sums in bf16 would be wrong by 0.008.
    assert (ours - exact).norm() / exact.norm() < 0.003
