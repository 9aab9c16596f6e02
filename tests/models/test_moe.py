from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.dispatch import combine_tokens, dispatch_tokens, plan_dispatch
from models.grouped import LoopedFeedForward
from models.moe import MoE, Router

# (relative, absolute) tolerance: sums of some hundred terms in another order.
TOLERANCE = {torch.float32: (1e-4, 1e-6), torch.float64: (1e-10, 1e-12)}


def make_moe(
    *, gated: bool = True, num_experts: int = 4, k: int = 2, dtype: torch.dtype = torch.float64
) -> MoE:
    torch.manual_seed(0)
    moe = MoE(8, inner_size=12, gated=gated, num_experts=num_experts, experts_per_token=k)
    for parameter in moe.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return moe.to(dtype)


def make_input(dtype: torch.dtype = torch.float64, *, num_sequences: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    x_BTD = torch.randn(num_sequences, 6, 8, generator=generator, dtype=torch.float64)
    return x_BTD.to(dtype).requires_grad_()


def gradients(scalar: Tensor, x_BTD: Tensor, moe: MoE) -> dict[str, Tensor]:
    named = {"x": x_BTD} | dict(moe.named_parameters())
    return dict(zip(named, torch.autograd.grad(scalar, list(named.values())), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("gated", [False, True])
def test_the_layer_agrees_with_every_expert_on_every_token(
    dense_moe: Callable[..., object], gated: bool, k: int, dtype: torch.dtype
) -> None:
    moe, x_BTD = make_moe(gated=gated, k=k, dtype=dtype), make_input(dtype)
    direction = torch.randn(x_BTD.shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    y_BTD, report = moe(x_BTD)
    dense = dense_moe(moe, x_BTD)
    rtol, atol = TOLERANCE[dtype]
    torch.testing.assert_close(y_BTD, dense.y_BTD, rtol=rtol, atol=atol)
    torch.testing.assert_close(report.load_balancing, dense.load_balancing, rtol=rtol, atol=atol)
    torch.testing.assert_close(report.z, dense.z, rtol=rtol, atol=atol)
    torch.testing.assert_close(
        report.count_E / report.count_E.sum(), dense.load_E, check_dtype=False
    )

    ours = gradients((y_BTD * direction).sum() + report.load_balancing + 0.1 * report.z, x_BTD, moe)
    theirs = gradients(
        (dense.y_BTD * direction).sum() + dense.load_balancing + 0.1 * dense.z, x_BTD, moe
    )
    for name in ours:
        scale = theirs[name].abs().max().item()
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=rtol, atol=atol * max(1.0, scale), msg=name
        )


def favour_one_expert(moe: MoE, x_BTD: Tensor) -> None:
    """Every token gets the same feature, and the router looks at it only."""
    with torch.no_grad():
        x_BTD[..., 0] = 5.0
        moe.router.weight.zero_()
        moe.router.weight[:, 0] = torch.tensor([3.0, 2.0, 0.0, -1.0])


@pytest.mark.parametrize("gated", [False, True])
def test_no_token_is_dropped_when_all_choose_the_same_expert(
    dense_moe: Callable[..., object], gated: bool
) -> None:
    moe, x_BTD = make_moe(gated=gated, k=1), make_input()
    favour_one_expert(moe, x_BTD)
    y_BTD, report = moe(x_BTD)
    assert report.count_E.tolist() == [12, 0, 0, 0]
    torch.testing.assert_close(y_BTD, dense_moe(moe, x_BTD).y_BTD)
    assert (y_BTD.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("gated", [False, True])
def test_an_expert_without_tokens_has_a_zero_gradient_and_not_none(gated: bool) -> None:
    moe, x_BTD = make_moe(gated=gated, k=2), make_input()
    favour_one_expert(moe, x_BTD)
    y_BTD, _ = moe(x_BTD)
    y_BTD.square().sum().backward()
    for name, parameter in moe.experts.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad[:2].abs().amax((1, 2)).min() > 0, name
        assert torch.equal(parameter.grad[2:], torch.zeros_like(parameter.grad[2:])), name


def test_the_losses_of_two_halves_average_to_the_loss_of_the_whole() -> None:
    moe, x_BTD = make_moe(), make_input(num_sequences=6)

    def losses(part: Tensor) -> Tensor:
        report = moe.router(part).report
        return report.load_balancing + report.z

    whole = losses(x_BTD)
    halves = torch.stack([losses(half) for half in x_BTD.chunk(2)])
    torch.testing.assert_close(halves.mean(), whole, rtol=1e-12, atol=0)
    assert halves.std() > 1e-3, "the halves must differ for the test to mean anything"
    (of_whole,) = torch.autograd.grad(whole, moe.router.weight)
    (of_halves,) = torch.autograd.grad(halves.mean(), moe.router.weight)
    torch.testing.assert_close(of_halves, of_whole, rtol=1e-12, atol=1e-15)


def test_even_routing_has_a_load_balancing_loss_of_one_and_collapse_of_the_number_of_experts() -> (
    None
):
    router = Router(4, num_experts=4, experts_per_token=1).double()
    with torch.no_grad():
        router.weight.copy_(100 * torch.eye(4))
    even = torch.eye(4, dtype=torch.float64).unsqueeze(0)
    collapsed = even[:, :1].expand(1, 4, 4)
    assert router(even).report.load_balancing.item() == pytest.approx(1)
    assert router(collapsed).report.load_balancing.item() == pytest.approx(4)


@pytest.mark.parametrize("k", [1, 2])
def test_the_router_learns_from_the_output_of_its_experts(k: int) -> None:
    moe, x_BTD = make_moe(k=k), make_input()
    y_BTD, _ = moe(x_BTD)
    y_BTD.square().sum().backward()
    assert moe.router.weight.grad is not None
    assert moe.router.weight.grad.abs().max() > 1e-3


def test_the_router_stays_in_fp32_under_bf16_autocast() -> None:
    moe, x_BTD = make_moe(dtype=torch.float32), make_input(torch.float32)
    exact, (exact_y, _) = moe.router(x_BTD), moe(x_BTD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        routing, (y_BTD, _) = moe.router(x_BTD), moe(x_BTD)
    assert torch.equal(routing.expert_NK, exact.expert_NK)
    assert torch.equal(routing.weight_NK, exact.weight_NK)
    assert torch.equal(routing.report.z, exact.report.z)
    assert y_BTD.dtype == torch.float32, "the residual stream is fp32"
    torch.testing.assert_close(y_BTD.float(), exact_y, rtol=0.05, atol=0.05)
    y_BTD.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in moe.parameters())


def test_results_are_weighed_and_added_in_fp32_forward_and_backward() -> None:
    generator = torch.Generator().manual_seed(0)
    x_AD = torch.randn(40, 8, generator=generator).bfloat16().requires_grad_()
    weight_NK = torch.rand(20, 2, generator=generator).requires_grad_()
    expert_NK = torch.tensor([[0, 1], [1, 0]]).repeat(10, 1)
    dispatch = plan_dispatch(expert_NK)
    y_ND = combine_tokens(x_AD, weight_NK, dispatch)
    assert y_ND.dtype == torch.float32
    expected = (x_AD.float()[dispatch.position_NK] * weight_NK.unsqueeze(2)).sum(1)
    torch.testing.assert_close(y_ND, expected, rtol=1e-5, atol=1e-6)
    direction = torch.randn(20, 8, generator=generator)
    ours = torch.autograd.grad(y_ND, (x_AD, weight_NK), direction)
    theirs = torch.autograd.grad(expected, (x_AD, weight_NK), direction)
    assert ours[0].dtype == torch.bfloat16
    assert torch.equal(ours[0], theirs[0]), "only the result is rounded"
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2])
def test_the_layer_weighs_in_fp32_under_bf16_autocast(k: int) -> None:
    moe, x_BTD = make_moe(dtype=torch.float32, k=k), make_input(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        y_BTD, _ = moe(x_BTD)
        routing = moe.router(x_BTD)
        every_TE = torch.stack(
            [run_alone(moe, x_BTD, expert) for expert in range(moe.router.num_experts)], 1
        )
    chosen_NKD = torch.gather(
        every_TE, 1, routing.expert_NK.unsqueeze(2).expand(-1, -1, x_BTD.shape[2])
    )
    expected = (chosen_NKD.float() * routing.weight_NK.unsqueeze(2)).sum(1)
    torch.testing.assert_close(y_BTD.flatten(0, 1), expected, rtol=1e-5, atol=1e-6)


def run_alone(moe: MoE, x_BTD: Tensor, expert: int) -> Tensor:
    """The result of one expert for every token, (N, D)."""
    x_ND = x_BTD.flatten(0, 1)
    count_E = torch.zeros(moe.router.num_experts, dtype=torch.int64)
    count_E[expert] = len(x_ND)
    return moe.experts(x_ND, count_E)


@st.composite
def choices(draw: st.DrawFn) -> tuple[Tensor, int]:
    """The k different experts of each of N tokens, and the number of experts."""
    num_experts = draw(st.integers(1, 6))
    k = draw(st.integers(1, num_experts))
    rows = st.permutations(range(num_experts)).map(lambda experts: experts[:k])
    return torch.tensor(draw(st.lists(rows, min_size=1, max_size=20))), num_experts


@settings(max_examples=60, deadline=None)
@given(choices())
def test_dispatch_is_a_permutation_that_brings_each_experts_tokens_together(
    choice: tuple[Tensor, int],
) -> None:
    expert_NK, _ = choice
    dispatch = plan_dispatch(expert_NK)
    positions = dispatch.position_NK.flatten()
    assert positions.sort().values.tolist() == list(range(expert_NK.numel()))
    expert_A = torch.empty_like(positions)
    expert_A[positions] = expert_NK.flatten()
    assert expert_A.tolist() == sorted(expert_A.tolist())
    tokens = torch.arange(len(expert_NK)).unsqueeze(1).expand_as(expert_NK)
    assert torch.equal(dispatch.token_A[dispatch.position_NK], tokens)


@settings(max_examples=60, deadline=None)
@given(choices(), st.integers(0, 2**31))
def test_combining_what_was_dispatched_gives_the_tokens_back(
    choice: tuple[Tensor, int], seed: int
) -> None:
    expert_NK, _ = choice
    generator = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(len(expert_NK), 3, generator=generator, dtype=torch.float64)
    weight_NK = torch.rand(expert_NK.shape, generator=generator, dtype=torch.float64)
    dispatch = plan_dispatch(expert_NK)
    back = combine_tokens(dispatch_tokens(x_ND, dispatch), weight_NK, dispatch)
    torch.testing.assert_close(back, x_ND * weight_NK.sum(1, keepdim=True))


@settings(max_examples=10, deadline=None)
@given(choices(), st.booleans(), st.integers(0, 2**31))
def test_every_backward_pass_is_the_derivative_of_its_forward_pass(
    choice: tuple[Tensor, int], gated: bool, seed: int
) -> None:
    expert_NK, num_experts = choice
    generator = torch.Generator().manual_seed(seed)

    def values(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return drawn.requires_grad_()

    dispatch = plan_dispatch(expert_NK)
    counts = torch.bincount(expert_NK.flatten(), minlength=num_experts).tolist()
    x_ND, x_AD = values(len(expert_NK), 2), values(expert_NK.numel(), 2)
    weight_NK, down = values(*expert_NK.shape), values(num_experts, 3, 2)
    up, gate = values(num_experts, 2, 3), values(num_experts, 2, 3) if gated else None
    check = torch.autograd.gradcheck
    assert check(lambda x: dispatch_tokens(x, dispatch), (x_ND,))
    assert check(lambda x, w: combine_tokens(x, w, dispatch), (x_AD, weight_NK))
    assert check(lambda *a: LoopedFeedForward.apply(*a, counts), (x_AD, up, gate, down))
