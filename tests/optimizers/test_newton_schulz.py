from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.optim._muon import _zeropower_via_newtonschulz
from torch.utils.flop_counter import FlopCounterMode

from optimizers import coefficients, orthogonalize
from optimizers.coefficients import SCHEDULES, Schedule, find_schedule
from optimizers.newton_schulz import choose_computation, gram_restarts, newton_schulz_flops

CPU = torch.device("cpu")
SHAPES = [(16, 40), (40, 16), (24, 24), (1, 7), (7, 1), (1, 1), (3, 5, 9), (2, 3, 9, 5)]


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def by_singular_values(matrix: Tensor, schedule: str, num_steps: int) -> Tensor:
    """U p(S) V^T, in float64, from the definition of the schedule."""
    data = find_schedule(schedule)
    u, s, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / (s.square().sum(-1, keepdim=True).sqrt() * data.norm_factor + data.epsilon)
    for a, b, c in data.steps(num_steps):
        s = a * s + b * s**3 + c * s**5
        if data.renormalise:
            s = s / (s.square().sum(-1, keepdim=True).sqrt() + data.epsilon)
    return u * s[..., None, :] @ vh


@pytest.mark.parametrize("form", ["standard", "gram"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_only_the_singular_values_change_and_by_the_polynomial(
    schedule: str, shape: tuple[int, ...], form: str
) -> None:
    matrix = random(*shape)
    result = orthogonalize(matrix, schedule, 5, dtype=torch.float64, form=form)
    torch.testing.assert_close(result, by_singular_values(matrix, schedule, 5), rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_steps", [1, 2, 6, 10])
@pytest.mark.parametrize("schedule", ["jordan", "polar_express", "ultra_stable"])
def test_the_gram_form_equals_the_standard_form_in_float64(schedule: str, num_steps: int) -> None:
    matrix = random(2, 12, 30)
    forms = [
        orthogonalize(matrix, schedule, num_steps, dtype=torch.float64, form=form)
        for form in ("standard", "gram")
    ]
    torch.testing.assert_close(*forms, rtol=0, atol=1e-8)


@pytest.mark.parametrize("form", ["standard", "gram"])
@pytest.mark.parametrize("shape", [(518, 600), (600, 518)], ids=str)
def test_large_matrices_whose_symmetric_products_go_by_blocks_are_no_different(
    shape: tuple[int, int], form: str
) -> None:
    matrix = random(*shape)
    result = orthogonalize(matrix, dtype=torch.float64, form=form)
    torch.testing.assert_close(result, by_singular_values(matrix, "jordan", 5), rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_steps", [5, 8])
def test_restarts_keep_the_float32_gram_form_accurate_on_ill_conditioned_matrices(
    num_steps: int,
) -> None:
    u, v = (torch.linalg.qr(random(n, 64, seed=n)).Q for n in (64, 256))
    matrix = u * torch.logspace(-5, 0, 64, dtype=torch.float64) @ v.mT
    exact = by_singular_values(matrix, "jordan", num_steps)
    error = {
        form: (orthogonalize(matrix, "jordan", num_steps, form=form) - exact).norm().item()
        for form in ("standard", "gram")
    }
    assert error["gram"] < 3 * error["standard"]


@pytest.mark.parametrize(
    ("schedule", "num_steps", "bound"),
    [
        ("polar_express", 5, 0.15),
        ("polar_express", 8, 1e-4),
        ("cans", 5, 0.15),
        ("jordan", 5, 0.35),
    ],
)
def test_singular_values_approach_one(schedule: str, num_steps: int, bound: float) -> None:
    u, v = (torch.linalg.qr(random(n, 32, seed=n)).Q for n in (32, 48))
    matrix = u * torch.linspace(0.05, 1, 32, dtype=torch.float64) @ v.mT
    result = orthogonalize(matrix, schedule, num_steps, dtype=torch.float64)
    assert (torch.linalg.svdvals(result) - 1).abs().max() < bound


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)], ids=str)
def test_torch_muons_routine_agrees_within_the_error_of_its_bfloat16(
    shape: tuple[int, int],
) -> None:
    matrix = random(*shape, dtype=torch.float32)
    theirs = _zeropower_via_newtonschulz(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
    ours = orthogonalize(matrix)
    assert (ours - theirs).norm() < 0.03 * ours.norm()


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 0.02)]
)
@pytest.mark.parametrize("form", ["standard", "gram"])
def test_the_rounding_error_is_that_of_the_dtype(
    dtype: torch.dtype, bound: float, form: str
) -> None:
    matrix = random(4, 32, 96)
    result = orthogonalize(matrix, dtype=dtype, form=form)
    assert result.dtype == dtype
    exact = by_singular_values(matrix, "jordan", 5)
    assert (result.double() - exact).norm() < bound * exact.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.mT, lambda x: x[:, ::2]])
def test_the_input_is_never_modified(
    dtype: torch.dtype, layout: Callable[[Tensor], Tensor]
) -> None:
    matrix = layout(random(6, 10, dtype=dtype))
    before = matrix.clone()
    for form in ("standard", "gram"):
        for schedule in ("jordan", "ultra_stable"):
            orthogonalize(matrix, schedule, dtype=dtype, form=form)
    assert torch.equal(matrix, before)


def test_zero_gives_zero() -> None:
    for schedule in SCHEDULES:
        assert not orthogonalize(torch.zeros(2, 4, 6), schedule).any()


def test_a_zero_matrix_does_not_disturb_the_others_of_its_batch() -> None:
    batch = random(3, 8, 12)
    batch[1] = 0
    result = orthogonalize(batch, dtype=torch.float64)
    torch.testing.assert_close(result[2], orthogonalize(batch[2], dtype=torch.float64))


def test_a_huge_float32_matrix_is_scaled_before_it_becomes_float16() -> None:
    matrix = random(8, 16, dtype=torch.float32)
    result = orthogonalize(matrix * 1e10, dtype=torch.float16)
    torch.testing.assert_close(
        result, orthogonalize(matrix, dtype=torch.float16), rtol=0, atol=0.01
    )


def test_an_empty_batch_stays_empty() -> None:
    assert orthogonalize(torch.zeros(0, 4, 6)).shape == (0, 4, 6)


@pytest.mark.parametrize("form", ["standard", "gram"])
@pytest.mark.parametrize("shape", [(9, 33), (33, 9), (16, 16)], ids=str)
def test_batch_invariant_results_do_not_depend_on_the_batch(
    shape: tuple[int, int], form: str
) -> None:
    batch = random(7, *shape, dtype=torch.float32)
    options = {"form": form, "batch_invariant": True}
    together = orthogonalize(batch, **options)
    alone = torch.stack([orthogonalize(matrix, **options) for matrix in batch])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("form", ["standard", "gram"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_in_bfloat16_no_spectrum_is_blown_up(schedule: str, form: str) -> None:
    """Of rank 1 (an expert that saw one token), log-spaced, and falling as a power."""
    u, v = (torch.linalg.qr(random(4, n, 32, seed=n)).Q for n in (32, 96))
    one_token = random(32, 32, 1) * random(32, 1, 96, seed=1)
    spectra = [torch.logspace(-5, 0, 32), torch.arange(1, 33) ** -1.0]
    batches = [one_token, *(u * s.double() @ v.mT for s in spectra)]
    for batch in batches:
        result = orthogonalize(batch.float(), schedule, 5, dtype=torch.bfloat16, form=form)
        assert torch.linalg.matrix_norm(result.double(), 2).max() < 1.5


@pytest.mark.parametrize("form", ["standard", "gram"])
@pytest.mark.parametrize("c", [0.0, 1e-6, 1e-4])
def test_a_cubic_schedule_works_in_float32(
    c: float, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cubic = Schedule("cubic", ((1.5, -0.5, c),), "repeat_last", source="Bjorck and Bowie 1971")
    monkeypatch.setattr(coefficients, "SCHEDULES", {"cubic": cubic})
    matrix = random(3, 12, 30, dtype=torch.float32)
    exact = by_singular_values(matrix, "cubic", 5)
    result = orthogonalize(matrix, "cubic", 5, form=form)
    assert (result - exact).norm() < 3e-6 * exact.norm()


def test_vectors_and_integers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs a floating-point tensor \(..., m, n\), got"):
        orthogonalize(torch.zeros(4))
    with pytest.raises(ValueError, match=r"torch\.int64"):
        orthogonalize(torch.zeros(4, 4, dtype=torch.int64))


def test_a_request_beyond_the_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="'you' has 5 steps, got num_steps = 10"):
        orthogonalize(torch.eye(4), "you", 10)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 4096),
    columns=st.integers(1, 4096),
    num_steps=st.integers(1, 10),
    dtype=st.sampled_from(["auto", "fp32", "bf16", "fp16"]),
)
def test_the_choice_never_costs_more_and_ignores_the_orientation(
    rows: int, columns: int, num_steps: int, dtype: str
) -> None:
    chosen = choose_computation(rows, columns, num_steps=num_steps, device=CPU, dtype=dtype)
    standard = newton_schulz_flops(rows, columns, num_steps=num_steps, form="standard")
    assert chosen.flops <= standard
    turned = choose_computation(columns, rows, num_steps=num_steps, device=CPU, dtype=dtype)
    assert chosen == turned
    assert chosen.reason


@pytest.mark.parametrize(
    ("num_steps", "restarts"),
    [(1, ()), (2, ()), (3, (2,)), (4, (2,)), (5, (2,)), (6, (2, 4)), (10, (2, 4, 6, 8))],
)
def test_in_half_precision_the_gram_form_restarts_after_two_steps_or_at_the_end_three(
    num_steps: int, restarts: tuple[int, ...]
) -> None:
    assert gram_restarts(num_steps, dtype=torch.bfloat16) == restarts


@pytest.mark.parametrize("form", ["standard", "gram"])
@pytest.mark.parametrize("num_steps", [1, 5, 8])
def test_the_flop_model_is_what_torch_counts(form: str, num_steps: int) -> None:
    matrix = random(24, 56, dtype=torch.float32)
    with FlopCounterMode(display=False) as counter:
        orthogonalize(matrix, num_steps=num_steps, form=form)
    restarts = gram_restarts(num_steps, dtype=torch.float32) if form == "gram" else ()
    model = newton_schulz_flops(24, 56, num_steps=num_steps, form=form, restarts=restarts)
    assert counter.get_total_flops() == model


def test_the_flop_model_gives_the_known_figures_for_five_steps() -> None:
    def in_cubes(alpha: int, form: str, restarts: tuple[int, ...] = ()) -> float:
        return newton_schulz_flops(8, 8 * alpha, num_steps=5, form=form, restarts=restarts) / 8**3

    for alpha in (1, 2, 4):
        assert in_cubes(alpha, "standard") == 20 * alpha + 10
        assert in_cubes(alpha, "gram", (1, 3)) == 12 * alpha + 22
        assert in_cubes(alpha, "gram", (2,)) == 8 * alpha + 28
