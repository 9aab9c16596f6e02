"""Muon in one process. `torch.optim.Muon` and `torch.optim.AdamW` are the oracles."""

from collections.abc import Callable, Iterator

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import Parameter
from torch.optim import _muon

from optimizers import Fragment, Muon, MuonSpec, TorchMuonSpec, build_optimizer, orthogonalize
from optimizers.muon_spec import update_scale

SHAPES = {
    "embedding.weight": (30, 8),
    "layers.0.attention.query.weight": (24, 8),
    "layers.0.attention.output.weight": (8, 8),
    "layers.0.norm.weight": (8,),
    "layers.0.router.weight": (4, 8),
    "layers.0.experts.up": (4, 8, 20),
    "layers.0.experts.down": (4, 20, 8),
    "layers.0.row.weight": (1, 8),
    "head.weight": (30, 8),
}


def parameters(shapes: dict[str, tuple[int, ...]] = SHAPES) -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()
    }


def gradients(
    named: dict[str, Parameter], *, steps: int, seed: int = 1
) -> Iterator[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield {name: torch.randn(p.shape, generator=generator) for name, p in named.items()}


def train(
    optimizer: torch.optim.Optimizer, named: dict[str, Parameter], *, steps: int = 5
) -> dict[str, Tensor]:
    for step in gradients(named, steps=steps):
        for name, parameter in named.items():
            parameter.grad = step[name]
        optimizer.step()
    return {name: parameter.detach().clone() for name, parameter in named.items()}


def ours(spec: MuonSpec | TorchMuonSpec, **options: int) -> dict[str, Tensor]:
    named = parameters()
    return train(build_optimizer(spec, named.items()), named, **options)


def float32_newton_schulz(
    grad: Tensor, ns_coefficients: tuple[float, float, float], ns_steps: int, eps: float
) -> Tensor:
    """torch.optim.Muon's iteration, word for word but for the cast to bfloat16."""
    a, b, c = ns_coefficients
    x = grad.mT if grad.shape[0] > grad.shape[1] else grad
    x = x / x.norm().clamp(min=eps)
    for _ in range(ns_steps):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if grad.shape[0] > grad.shape[1] else x


def torch_muon(
    *, scale: str | None, momentum: float, nesterov: bool, weight_decay: float
) -> dict[str, Tensor]:
    """The matrices under torch.optim.Muon, the rest under torch.optim.AdamW; experts one by one."""
    named = parameters()
    optimizers: list[torch.optim.Optimizer] = []
    views: list[tuple[str, int | None, Parameter]] = []
    for name, parameter in named.items():
        if "experts" in name:
            for index in range(parameter.shape[0]):
                views.append((name, index, Parameter(parameter.detach()[index].mT)))
        elif any(word in name for word in ("query", "output", "row")):
            views.append((name, None, Parameter(parameter.detach())))
    optimizers.append(
        torch.optim.Muon(
            [view for _, _, view in views],
            lr=0.02,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            adjust_lr_fn=scale,
        )
    )
    rest = [p for name, p in named.items() if name not in {name for name, _, _ in views}]
    decayed = [p for p in rest if p.ndim >= 2]
    vectors = [p for p in rest if p.ndim < 2]
    for group, decay in ((decayed, 0.1), (vectors, 0.0)):
        optimizers.append(
            torch.optim.AdamW(group, lr=0.002, betas=(0.9, 0.95), weight_decay=decay, fused=True)
        )
    for step in gradients(named, steps=5):
        for name, parameter in named.items():
            parameter.grad = step[name]
        for name, index, view in views:
            view.grad = step[name] if index is None else step[name][index].mT
        for optimizer in optimizers:
            optimizer.step()
    return {name: parameter.detach() for name, parameter in named.items()}


def relative(a: Tensor, b: Tensor, *, start: Tensor) -> float:
    """The difference relative to the distance travelled."""
    return float(((a - b).norm() / (b - start).norm()).detach())


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize(
    ("scale", "theirs"), [("original", None), ("match_rms", "match_rms_adamw")]
)
def test_several_steps_agree_with_torch_muon_in_float32(
    scale: str, theirs: str | None, nesterov: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", float32_newton_schulz)
    spec = MuonSpec(lr=0.02, momentum=0.9, nesterov=nesterov, scale=scale, ns_dtype="fp32")
    expected = torch_muon(scale=theirs, momentum=0.9, nesterov=nesterov, weight_decay=0.1)
    for name, weight in ours(spec).items():
        assert relative(weight, expected[name], start=parameters()[name]) < 2e-5, name


def test_several_steps_agree_with_torch_muon_within_the_error_of_its_bfloat16() -> None:
    expected = torch_muon(scale=None, momentum=0.95, nesterov=True, weight_decay=0.1)
    for name, weight in ours(MuonSpec(lr=0.02)).items():
        assert relative(weight, expected[name], start=parameters()[name]) < 0.03, name


def test_the_peer_is_torch_muon_to_the_last_bit() -> None:
    expected = torch_muon(scale=None, momentum=0.95, nesterov=True, weight_decay=0.1)
    for name, weight in ours(TorchMuonSpec(lr=0.02)).items():
        assert torch.equal(weight, expected[name]), name


def test_heavy_ball_takes_the_steps_of_the_average() -> None:
    expected = ours(MuonSpec(lr=0.02, momentum_kind="ema", nesterov=False, ns_form="standard"))
    actual = ours(MuonSpec(lr=0.02, momentum_kind="heavy_ball", nesterov=False, ns_form="standard"))
    for name, weight in actual.items():
        assert relative(weight, expected[name], start=parameters()[name]) < 1e-4, name


@pytest.mark.parametrize(
    ("scale", "outputs", "inputs", "expected"),
    [
        ("original", 16, 4, 2.0),
        ("original", 4, 16, 1.0),
        ("match_rms", 4, 16, 0.8),
        ("spectral", 4, 16, 0.5),
        ("none", 4, 16, 1.0),
    ],
)
def test_the_scale_modes(scale: str, outputs: int, inputs: int, expected: float) -> None:
    assert update_scale(scale, outputs=outputs, inputs=inputs) == pytest.approx(expected)


def test_the_scale_of_experts_sees_outputs_and_inputs() -> None:
    named = {"w": (8, 32), "layers.0.experts.up": (2, 8, 32)}
    moved = {}
    for name in named:
        one = parameters({name: named[name]})
        before = one[name].detach().clone()
        spec = MuonSpec(lr=1.0, weight_decay=0.0, scale="spectral")
        moved[name] = train(build_optimizer(spec, one.items()), one, steps=1)[name] - before
    per_matrix = [moved["w"].norm(), *moved["layers.0.experts.up"].flatten(1).norm(dim=1)]
    assert [float(x / per_matrix[0]) for x in per_matrix] == pytest.approx([1, 4, 4], rel=0.2)


def test_a_fused_weight_is_orthogonalised_block_by_block() -> None:
    named = parameters({"qkv.weight": (24, 8)})
    before = named["qkv.weight"].detach().clone()
    spec = MuonSpec(
        lr=1.0, weight_decay=0.0, scale="none", splits=[{"pattern": "qkv.*", "parts": 3}]
    )
    gradient = next(gradients(named, steps=1))["qkv.weight"]
    after = train(build_optimizer(spec, named.items()), named, steps=1)["qkv.weight"]
    blocks = orthogonalize(gradient.view(3, 8, 8)).view(24, 8)
    torch.testing.assert_close(before - after, blocks, rtol=0, atol=2e-5)


def test_a_zero_gradient_from_rest_only_decays_the_weights() -> None:
    named = parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    for parameter in named.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in named.items():
        rate = 0.02 if optimizer.routes[list(named).index(name)].algorithm == "muon" else 0.002
        decay = 0.1 if parameter.ndim >= 2 else 0.0
        torch.testing.assert_close(parameter.detach(), before[name] * (1 - rate * decay))


@pytest.mark.parametrize("spec", [MuonSpec(lr=0.02), TorchMuonSpec(lr=0.02)], ids=lambda s: s.kind)
def test_a_missing_gradient_counts_as_zero(spec: MuonSpec | TorchMuonSpec) -> None:
    def run(missing: Callable[[Tensor], Tensor | None]) -> dict[str, Tensor]:
        named = parameters()
        optimizer = build_optimizer(spec, named.items())
        train(optimizer, named, steps=2)
        for name, parameter in named.items():
            if name in ("layers.0.experts.up", "embedding.weight"):
                parameter.grad = missing(parameter)
        optimizer.step()
        return {name: parameter.detach() for name, parameter in named.items()}

    absent, zero = run(lambda p: None), run(torch.zeros_like)
    assert all(torch.equal(absent[name], zero[name]) for name in absent)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["layers.0.experts.down", "layers.0.norm.weight"])
def test_a_non_finite_gradient_leaves_weights_and_state_untouched_and_is_counted(
    where: str, value: float
) -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    train(optimizer, named, steps=2)
    before = {name: p.detach().clone() for name, p in named.items()}
    state = optimizer.state_dict()["state"]
    grad = named[where].grad
    assert grad is not None
    grad.view(-1)[3] = value
    optimizer.step()
    assert all(torch.equal(named[name].detach(), before[name]) for name in named)
    for name, entry in optimizer.state_dict()["state"].items():
        assert all(torch.equal(entry[key], state[name][key]) for key in entry)
    assert optimizer.counters["skipped_steps"] == 1
    assert optimizer.counters["optimizer_steps"] == 2


def test_newton_schulz_runs_once_an_optimizer_step_for_every_matrix() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    train(optimizer, named, steps=3)
    assert optimizer.counters["newton_schulz_steps"] == 3
    assert optimizer.counters["newton_schulz_calls"] == 3 * (3 + 4 + 4)
    assert optimizer.counters["bytes_sent"] == 0


def test_gradients_are_not_modified() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    before = next(gradients(named, steps=1))
    for name, parameter in named.items():
        parameter.grad = before[name].clone()
    optimizer.step()
    for name, parameter in named.items():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, before[name])


def test_momentum_is_float32_under_bfloat16_weights() -> None:
    named = {"w": Parameter(torch.randn(4, 6, dtype=torch.bfloat16))}
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    named["w"].grad = torch.randn(4, 6, dtype=torch.bfloat16)
    optimizer.step()
    assert optimizer.state_dict()["state"]["w"]["momentum"].dtype == torch.float32
    assert named["w"].dtype == torch.bfloat16


def test_a_saved_state_continues_the_same_trajectory() -> None:
    spec = MuonSpec(lr=0.02)
    whole = ours(spec, steps=5)
    named = parameters()
    first = build_optimizer(spec, named.items())
    steps = list(gradients(named, steps=5))
    for index, step in enumerate(steps):
        if index == 3:
            saved = first.state_dict()
            first = build_optimizer(spec, named.items())
            first.load_state_dict(saved)
        for name, parameter in named.items():
            parameter.grad = step[name]
        first.step()
    assert all(torch.equal(named[name].detach(), whole[name]) for name in named)
    assert first.counters["optimizer_steps"] == 5


def test_the_state_is_keyed_by_name_in_the_shape_of_the_parameter() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    train(optimizer, named, steps=1)
    state = optimizer.state_dict()["state"]
    assert set(state) == set(named)
    assert set(state["layers.0.experts.up"]) == {"step", "momentum"}
    assert set(state["head.weight"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state["layers.0.experts.up"]["momentum"].shape == (4, 8, 20)


def test_a_state_of_another_model_is_refused() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    train(optimizer, named, steps=1)
    saved = optimizer.state_dict()
    other = parameters({"embedding.weight": (31, 8)})
    renamed = {**saved, "state": {"layers.9.weight": saved["state"]["layers.0.row.weight"]}}
    with pytest.raises(ValueError, match=r"names layers\.9\.weight, which this model"):
        build_optimizer(MuonSpec(lr=0.02), other.items()).load_state_dict(renamed)
    with pytest.raises(ValueError, match=r"has shape \(30, 8\), the parameter \(31, 8\)"):
        build_optimizer(MuonSpec(lr=0.02), other.items()).load_state_dict(saved)


def test_every_group_carries_its_name_and_its_initial_rate() -> None:
    optimizer = build_optimizer(MuonSpec(lr=0.02), parameters().items())
    rates = {group["name"]: group["initial_lr"] for group in optimizer.param_groups}
    assert rates == pytest.approx({"adamw_decay": 0.002, "muon": 0.02, "adamw_no_decay": 0.002})
    separate = build_optimizer(MuonSpec(lr=0.02, aux_lr=0.5), parameters().items())
    assert {group["lr"] for group in separate.param_groups} == {0.02, 0.5}


def test_the_rate_of_the_group_is_what_the_step_uses() -> None:
    named = parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * 0.0
    train(optimizer, named, steps=1)
    assert all(torch.equal(named[name].detach(), before[name]) for name in named)


def test_the_choice_of_form_and_dtype_is_reported_for_every_shape() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    train(optimizer, named, steps=1)
    assert isinstance(optimizer, Muon)
    assert set(optimizer.computations) == {(24, 8), (8, 8), (8, 20), (20, 8), (1, 8)}
    assert all(choice.reason for choice in optimizer.computations.values())


def test_a_schedule_that_is_too_short_is_refused_in_the_specification() -> None:
    with pytest.raises(ValidationError, match="'you' has 5 steps, got num_steps = 10"):
        MuonSpec(lr=0.02, schedule="you", num_steps=10)
    with pytest.raises(ValidationError, match="unknown Newton-Schulz schedule 'jordon'"):
        MuonSpec(lr=0.02, schedule="jordon")


def test_a_step_that_the_backend_skipped_is_counted() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    train(optimizer, named, steps=1)
    optimizer.count_skipped_step()
    assert optimizer.counters["skipped_steps"] == 1
    assert optimizer.counters["optimizer_steps"] == 1


def test_the_backend_may_know_better_whether_gradients_are_finite() -> None:
    named = parameters()
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    optimizer.bind(gradients_are_finite=lambda: False)
    train(optimizer, named, steps=2)
    assert all(torch.equal(named[name].detach(), before[name]) for name in named)
    assert optimizer.counters["skipped_steps"] == 2


def test_clipping_is_that_of_torch_and_acts_on_the_raw_gradient() -> None:
    named, reference = parameters(), parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    step = next(gradients(named, steps=1))
    for name in named:
        named[name].grad, reference[name].grad = step[name].clone(), step[name].clone()
    norm = optimizer.clip_gradients(0.5)
    expected = torch.nn.utils.clip_grad_norm_(list(reference.values()), 0.5)
    torch.testing.assert_close(norm, expected)
    for name in named:
        torch.testing.assert_close(named[name].grad, reference[name].grad)
    assert optimizer.clip_gradients(0.0) == pytest.approx(0.5, rel=1e-4)


def test_binding_after_the_first_step_is_refused() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    train(optimizer, named, steps=1)
    with pytest.raises(ValueError, match="before its first step"):
        optimizer.bind()


def test_a_fragment_is_needed_for_every_parameter() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    fragments = [Fragment(name, 0, p.numel(), p) for name, p in named.items()]
    with pytest.raises(ValueError, match=r"must name every parameter once; check head\.weight"):
        optimizer.bind(fragments[:-1])


def test_replaced_parameters_without_new_fragments_are_refused() -> None:
    named = parameters()
    optimizer = build_optimizer(MuonSpec(lr=0.02), named.items())
    optimizer.param_groups[0]["params"] = [Parameter(torch.zeros(3))]
    with pytest.raises(ValueError, match=r"the backend replaced them, so call bind\(\)"):
        optimizer.step()


def test_local_gradients_cannot_be_replicated() -> None:
    optimizer = build_optimizer(MuonSpec(lr=0.02, exchange="replicated"), parameters().items())
    with pytest.raises(ValueError, match="needs averaged gradients"):
        optimizer.bind(gradients="local")
