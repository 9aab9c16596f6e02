"""Newton-Schulz orthogonalisation, batched over any leading dimensions.

`X` is one matrix or a batch, `n` its shorter side and `m` its longer one. Whatever the
orientation, the small square matrices below are `(..., n, n)`; they multiply `X` from the left
when it is wide and from the right when it is tall, so nothing is ever transposed in memory.

    standard    A = X X^T;  X <- a X + (b A + c A^2) X
    gram        R = X X^T, Q = 1;  Z = b R + c R^2;  Q <- a Q + Z Q;
                T = a R + Z R;  R <- a T + Z T;  at a restart and at the end X <- Q X
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from optimizers.coefficients import Schedule, Triple, find_schedule
from optimizers.hardware import best_dtype
from optimizers.specs import DtypeChoice, FormChoice

Form = Literal["standard", "gram"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Steps between two restarts of the gram form. The error of R grows by about a^2 a step, 12 for
# `jordan`. Measured against float64 at 5 to 10 steps, on Gaussian, log-spaced (condition 1e5) and
# nearly rank-deficient matrices: in float32 three steps are as accurate as the standard form and
# five lose a factor of 20. In half precision two steps are safe on every spectrum, and at the end
# three (docs/figures/gram_restarts.py measures it; Dao-AILab gram-newton-schulz restarts alike).
_SEGMENT_STEPS = {torch.float64: 5, torch.float32: 3, torch.bfloat16: 2, torch.float16: 2}

# Symmetric products by blocks of rows, as many as pay. Measured on one core: with AVX-512 four save
# 10 % of the time at n = 512, 20 % at 768 and 25 % at 1024, and lose below; with AVX2 (Zen 3) two
# save 7 to 14 % at 384 and four 12 % at 512.
_SYMMETRIC_BLOCKS = {384: 2, 512: 4}

# |b / 2c| up to which the factor of a step is made by completing the square, 2.7 at most in the
# schedules here; each doubling costs a bit of the result.
_LARGEST_SHIFT = 8.0


@dataclass(frozen=True)
class Computation:
    """How matrices of one shape are orthogonalised, and why.

    A pure function of shape, device type and capability.

    Args:
        form: `standard` or `gram`.
        restarts: Steps after which the gram form rebuilds its Gram matrix; empty for `standard`.
        dtype: The dtype of the matrix products.
        flops: Floating-point operations for one matrix.
        reason: One sentence for the report.
    """

    form: Form
    restarts: tuple[int, ...]
    dtype: torch.dtype
    flops: int
    reason: str


def orthogonalize(
    update: Tensor,
    schedule: str = "jordan",
    num_steps: int = 5,
    *,
    dtype: torch.dtype = torch.float32,
    form: FormChoice = "auto",
    batch_invariant: bool = False,
) -> Tensor:
    """Push the singular values of every matrix towards 1: `U S V^T -> U p(S) V^T`.

    The input is divided by its Frobenius norm in float32 (float64 for a float64 `dtype`) before the
    cast, and is never modified. A zero matrix gives a zero matrix.

    Args:
        update: `(..., m, n)`, any floating dtype.
        schedule: A name in `coefficients.SCHEDULES`.
        num_steps: Newton-Schulz steps; beyond the end a schedule repeats its last triple or raises.
        dtype: Of the matrix products and of the result.
        form: `standard`, `gram`, or `auto` for the one with fewer operations at this shape.
        batch_invariant: Compute the matrices one by one, so that a result does not depend on what
            else is in the batch: bitwise reproducible under any distribution of the work, and slow.

    Returns:
        `(..., m, n)` in `dtype`.

    Raises:
        ValueError: When `update` is not a floating-point matrix or batch of matrices, or the
            schedule has fewer steps than asked.

    Example:
        >>> orthogonalize(torch.eye(2) * 3, "polar_express", 8).diagonal().round().tolist()
        [1.0, 1.0]
    """
    if update.ndim < 2 or not update.is_floating_point():
        raise ValueError(
            "orthogonalize needs a floating-point tensor (..., m, n), got "
            f"{update.dtype} of shape {tuple(update.shape)}"
        )
    data = find_schedule(schedule)
    triples = data.steps(num_steps)
    rows, columns = update.shape[-2:]
    computation = choose_computation(
        rows, columns, num_steps=num_steps, device=update.device, dtype=dtype, form=form
    )
    if update.numel() == 0:
        return update.to(dtype, copy=True)
    batch = update.reshape(-1, rows, columns)
    if batch_invariant:
        parts = [_iterate(matrix, data, triples, computation) for matrix in batch[:, None]]
        return torch.cat(parts).view(update.shape)
    return _iterate(batch, data, triples, computation).view(update.shape)


def choose_computation(
    rows: int,
    columns: int,
    *,
    num_steps: int,
    device: torch.device,
    dtype: torch.dtype | DtypeChoice = "auto",
    form: FormChoice = "auto",
) -> Computation:
    """Choose form and dtype for matrices of one shape, without looking at data or at a clock.

    Two workers with the same device type and capability always choose the same.

    Args:
        rows: m. columns: n.
        num_steps: Newton-Schulz steps.
        device: Where the products run.
        dtype: A dtype, or a choice of a study file; `auto` is bfloat16 where the hardware
            multiplies it natively (see `hardware.best_dtype`) and float32 elsewhere.
        form: `auto` takes the form with fewer operations.
    """
    if isinstance(dtype, torch.dtype):
        chosen, why = dtype, f"{_short(dtype)} asked for"
    elif dtype == "auto":
        chosen, why = best_dtype(device.type)
    else:
        chosen, why = _DTYPES[dtype], f"{dtype} asked for"
    restarts = gram_restarts(num_steps, dtype=chosen)
    standard = newton_schulz_flops(rows, columns, num_steps=num_steps, form="standard")
    gram = newton_schulz_flops(rows, columns, num_steps=num_steps, form="gram", restarts=restarts)
    fewest: Form = "gram" if gram < standard else "standard"
    picked: Form = fewest if form == "auto" else form
    how = f"{gram / max(1, standard):.2f} of the standard operations in gram form"
    return Computation(
        form=picked,
        restarts=restarts if picked == "gram" else (),
        dtype=chosen,
        flops=gram if picked == "gram" else standard,
        reason=f"{picked} {'asked for' if form != 'auto' else f'chosen: {how}'}; {why}",
    )


def gram_restarts(num_steps: int, *, dtype: torch.dtype) -> tuple[int, ...]:
    """After which steps the gram form rebuilds `R` from `X`, so that its error stays bounded."""
    segment = _SEGMENT_STEPS[dtype]
    merges_last = segment == 2 and num_steps > 3
    return tuple(range(segment, num_steps - merges_last, segment))


def newton_schulz_flops(
    rows: int,
    columns: int,
    *,
    num_steps: int,
    form: Form,
    restarts: tuple[int, ...] = (),
) -> int:
    """Floating-point operations to orthogonalise one `(rows, columns)` matrix.

    With `n` the shorter side and `m = alpha n`: standard `(4 alpha + 2) n^3` a step; gram, for
    every segment of `L` steps between restarts, `(4 alpha + 8 L - 6) n^3`.
    """
    n, m = sorted((rows, columns))
    if form == "standard":
        return num_steps * (4 * m * n**2 + 2 * n**3)
    bounds = (0, *restarts, num_steps)
    lengths = [stop - start for start, stop in itertools.pairwise(bounds)]
    return sum(4 * m * n**2 + (8 * length - 6) * n**3 for length in lengths)


def _iterate(
    batch: Tensor, data: Schedule, triples: tuple[Triple, ...], computation: Computation
) -> Tensor:
    """`batch` (K, m, n) -> (K, m, n)."""
    working = torch.float64 if computation.dtype == torch.float64 else torch.float32
    x = batch.to(working)
    norm = _frobenius_norm(x)
    x = (x / (norm * data.norm_factor + data.epsilon)).to(computation.dtype)
    if computation.form == "gram":
        return _gram(x, triples, computation.restarts, data)
    return _standard(x, triples, data)


def _standard(x: Tensor, triples: tuple[Triple, ...], data: Schedule) -> Tensor:
    for triple in triples:
        x = _apply(_factor(_gram_matrix(x), triple), x, triple)
        if data.renormalise:
            x = _renormalise(x, epsilon=data.epsilon)
    return x


def _gram(
    x: Tensor, triples: tuple[Triple, ...], restarts: tuple[int, ...], data: Schedule
) -> Tensor:
    for start, stop in itertools.pairwise((0, *restarts, len(triples))):
        x = _from_side(_gram_segment(_gram_matrix(x), triples[start:stop], data), x)
        if data.renormalise:
            x = _renormalise(x, epsilon=data.epsilon)
    return x


def _gram_segment(r: Tensor, triples: tuple[Triple, ...], data: Schedule) -> Tensor:
    """The `(K, n, n)` product of the steps' factors, from the Gram matrix `r` alone."""
    q: Tensor | None = None
    for step, triple in enumerate(triples):
        factor = _factor(r, triple)
        if q is None:
            q = _with_diagonal(factor, triple) if _is_half(factor) else factor
        else:
            q = _square(factor, q, triple)
        if step + 1 < len(triples):
            r = _square(factor, _square(factor, r, triple), triple)
            if data.renormalise:  # |X|_F^2 is the trace of R
                trace = r.diagonal(dim1=-2, dim2=-1).sum(-1).clamp(min=0)[:, None, None]
                norm = trace.sqrt() + data.epsilon
                q, r = q / norm, r / norm.square()
    assert q is not None, "a segment has at least one step"
    return q


# The factor of a step is a + b R + c R^2. In half precision it is kept without the diagonal a,
# which the products add in float32 before they round. In full precision it is kept whole, which
# spares every product a pass over its result: c (R + b/2c)^2 + a - b^2/4c, the shift on the
# diagonal of R for the duration of one product. (Not where c is nearly 0: the shift would drown R.)


def _factor(r: Tensor, triple: Triple) -> Tensor:
    a, b, c = triple
    if _is_half(r) or abs(b) > _LARGEST_SHIFT * abs(2 * c):
        factor = torch.baddbmm(r, r, r, beta=b, alpha=c) if c else r * b
        return factor if _is_half(r) else _with_diagonal(factor, triple)
    diagonal = r.diagonal(dim1=-2, dim2=-1)
    before = diagonal.clone()
    diagonal.add_(b / (2 * c))
    factor = _symmetric_product(r, r, scale=c)
    diagonal.copy_(before)
    factor.diagonal(dim1=-2, dim2=-1).add_(a - b * b / (4 * c))
    return factor


def _with_diagonal(factor: Tensor, triple: Triple) -> Tensor:
    whole = factor.clone()
    whole.diagonal(dim1=-2, dim2=-1).add_(triple[0])
    return whole


def _square(factor: Tensor, other: Tensor, triple: Triple) -> Tensor:
    """The step's factor times a symmetric `(K, n, n)` matrix that commutes with it."""
    if _is_half(other):
        return torch.baddbmm(other, factor, other, beta=triple[0])
    return _symmetric_product(factor, other)


def _apply(factor: Tensor, x: Tensor, triple: Triple) -> Tensor:
    """The step's factor times `X`."""
    if not _is_half(x):
        return _from_side(factor, x)
    left, right = (x, factor) if _is_tall(x) else (factor, x)
    return torch.baddbmm(x, left, right, beta=triple[0])


def _from_side(square: Tensor, x: Tensor) -> Tensor:
    """`square` times `X`, from the side where it fits."""
    return torch.bmm(x, square) if _is_tall(x) else torch.bmm(square, x)


def _gram_matrix(x: Tensor) -> Tensor:
    """`X X^T` or `X^T X`, whichever is smaller."""
    return _symmetric_product(x.mT, x) if _is_tall(x) else _symmetric_product(x, x.mT)


def _symmetric_product(left: Tensor, right: Tensor, *, scale: float = 1.0) -> Tensor:
    """`scale * left @ right`, known to be symmetric: `(K, n, m), (K, m, n) -> (K, n, n)`.

    Large products on a CPU compute the lower triangle in blocks of rows and mirror it.
    """
    n = left.shape[-2]
    product = left.new_empty(left.shape[0], n, n)
    blocks = max((count for start, count in _SYMMETRIC_BLOCKS.items() if n >= start), default=1)
    if blocks == 1 or left.device.type != "cpu" or _is_half(left):
        return torch.baddbmm(product, left, right, beta=0, alpha=scale)
    edges = [n * k // blocks for k in range(blocks + 1)]
    for start, stop in itertools.pairwise(edges):
        rows = torch.bmm(left[:, start:stop], right[:, :, :stop])
        product[:, start:stop, :stop] = rows if scale == 1.0 else rows.mul_(scale)
        product[:, :start, start:stop] = product[:, start:stop, :start].mT
    return product


def _is_half(x: Tensor) -> bool:
    return x.dtype in (torch.bfloat16, torch.float16)


def _is_tall(x: Tensor) -> bool:
    return x.shape[-2] > x.shape[-1]


def _renormalise(x: Tensor, *, epsilon: float) -> Tensor:
    norm = _frobenius_norm(x)
    scaled: Tensor = x / (norm + epsilon)
    return scaled.to(x.dtype)


def _frobenius_norm(x: Tensor) -> Tensor:
    """Of each matrix, at least in float32: `(K, m, n) -> (K, 1, 1)`.

    Row by row: torch adds up a whole matrix one element after the other on a CPU, which costs
    1e-5 of the norm at a million elements.
    """
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
    whole: Tensor = torch.linalg.vector_norm(rows, dim=-2, keepdim=True)
    return whole


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
