import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models import blocked_attention
from models.attention import Attention, causal_attention, rotary_rotations, rotate, runs_in_blocks
from models.blocked_attention import BlockedAttention


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
    assert rotation.dtype == torch.float32
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


def test_rotations_in_complex_numbers_and_in_reals_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn(2, 7, 3, 8, dtype=torch.float64)
    rotation = rotary_rotations(x.flatten(2), head_size=8, theta=100.0)
    in_complex_numbers = rotate(x, rotation)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(rotate(x, rotation), in_complex_numbers, rtol=1e-14, atol=1e-15)


def queries_keys_values(
    num_tokens: int, *, dtype: torch.dtype, heads: int = 3
) -> tuple[Tensor, ...]:
    """Laid out as the projection leaves them: (B, T, H, K), seen as (B, H, T, K)."""
    generator = torch.Generator().manual_seed(num_tokens)
    shape = (3, 2, num_tokens, heads, 4)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return tuple(x.transpose(1, 2).requires_grad_() for x in drawn.unbind())


@pytest.mark.parametrize("heads_at_a_time", [1, 2, 100])
@pytest.mark.parametrize("num_tokens", [1, 5, 8, 19])
def test_attention_in_blocks_is_that_of_pytorch_forward_and_backward(
    monkeypatch: pytest.MonkeyPatch, num_tokens: int, heads_at_a_time: int
) -> None:
    monkeypatch.setattr(blocked_attention, "QUERIES_PER_BLOCK", 8)
    block = min(8, num_tokens) * num_tokens
    monkeypatch.setattr(blocked_attention, "PROBABILITIES_AT_A_TIME", heads_at_a_time * block)
    qkv = queries_keys_values(num_tokens, dtype=torch.float64)
    ours = BlockedAttention.apply(*qkv)
    theirs = F.scaled_dot_product_attention(*qkv, is_causal=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    direction = torch.randn(ours.shape, dtype=ours.dtype)
    for a, b in zip(
        torch.autograd.grad(ours, qkv, direction),
        torch.autograd.grad(theirs, qkv, direction),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_attention_in_blocks_is_near_the_exact_one_in_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_attention, "QUERIES_PER_BLOCK", 4)
    qkv = queries_keys_values(40, dtype=torch.bfloat16)
    wide = tuple(x.detach().double().requires_grad_() for x in qkv)
    ours, exact = causal_attention(*qkv), F.scaled_dot_product_attention(*wide, is_causal=True)
    direction = torch.randn(exact.shape, dtype=torch.float64)
    gradients = torch.autograd.grad(ours, qkv, direction.bfloat16())
    exact_gradients = torch.autograd.grad(exact, wide, direction)
    for a, b in zip((ours, *gradients), (exact, *exact_gradients), strict=True):
        assert a.dtype == torch.bfloat16
        assert (a.double() - b).norm() / b.norm() < 0.01


def test_a_large_score_neither_overflows_nor_lets_the_future_in() -> None:
    q, k, v = (x.detach() for x in queries_keys_values(6, dtype=torch.float32))
    y = BlockedAttention.apply(1e4 * q, 1e4 * k, v)
    torch.testing.assert_close(y[:, :, 0], v[:, :, 0])
    assert torch.isfinite(y).all()


def test_device_and_dtype_alone_choose_how_attention_runs() -> None:
    def chosen(dtype: torch.dtype, device: str = "cpu", num_tokens: int = 4) -> bool:
        return runs_in_blocks(torch.empty(1, 1, num_tokens, 2, dtype=dtype, device=device))

    assert chosen(torch.bfloat16)
    assert chosen(torch.bfloat16, num_tokens=4096)
    assert not chosen(torch.float32)
    assert not chosen(torch.float64)
    assert not chosen(torch.bfloat16, device="meta")


def test_a_rotations_derivative_turns_back() -> None:
    x = torch.randn(2, 5, 3, 8, dtype=torch.float64, requires_grad=True)
    rotation = rotary_rotations(x, head_size=8, theta=100.0)
    assert torch.autograd.gradcheck(lambda x: rotate(x, rotation), x)
    assert torch.autograd.gradcheck(lambda x: rotate(x.transpose(1, 2), rotation[:3]), x)
