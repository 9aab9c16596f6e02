"""Measures where the gram form of Newton-Schulz should restart, and prints the table.

    python docs/figures/gram_restarts.py                     # bf16, five steps, every schedule
    python docs/figures/gram_restarts.py --dtype fp32 --steps 8

Between two restarts the gram form follows the Gram matrix alone, whose rounding errors grow; each
restart costs two products with the wide matrix. The table has, for every set of restarts, the
operations relative to the standard form and, by schedule,

    error     the relative Frobenius distance to the same polynomial of the exact singular values,
              for Gaussian matrices
    largest   the largest singular value of any result over all spectra below; the polynomials of
              all schedules stay under 1.3 after five steps. Where a matrix lacks rank, the
              iteration lifts rounding errors to singular values of order one, so that no error can
              be small there; it must not lift them further.

The errors do not depend on the processor (but for the order of sums), the time does: it is measured
by benchmarks/newton_schulz.py.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from unittest import mock

import torch
from torch import Tensor

from optimizers import SCHEDULES, newton_schulz, orthogonalize
from optimizers.newton_schulz import newton_schulz_flops

ROWS, COLUMNS, BATCH = 96, 384, 8
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def spectra(rows: int) -> dict[str, Tensor]:
    """Singular values by what they are of."""
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(rows, 4 * rows, generator=generator, dtype=torch.float64)
    few = torch.full((rows,), 1e-6, dtype=torch.float64)
    few[: rows // 16] = 1.0
    return {
        "gaussian": torch.linalg.svdvals(gaussian),
        "log-spaced to 1e-5": torch.logspace(-5, 0, rows, dtype=torch.float64),
        "nearly of low rank": few,
        "power law": torch.arange(1, rows + 1, dtype=torch.float64) ** -1.0,
        "one token": torch.cat([few.new_ones(1), few.new_zeros(rows - 1)]),
    }


def matrices(values: Tensor, *, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """A batch with these singular values: `U (K, n, n), s (n,), V^T (K, n, m)`."""
    generator = torch.Generator().manual_seed(1)
    rows = len(values)
    u = torch.randn(BATCH, rows, rows, generator=generator, dtype=torch.float64)
    v = torch.randn(BATCH, columns, rows, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(u).Q, values, torch.linalg.qr(v).Q.mT


def measure(schedule: str, num_steps: int, form: str, dtype: torch.dtype) -> tuple[float, float]:
    """`error` and `largest` of one schedule."""
    data, errors, largest = SCHEDULES[schedule], {}, 0.0
    for name, values in spectra(ROWS).items():
        u, s, vh = matrices(values, columns=COLUMNS)
        update = (u * s @ vh).float()
        scaled = s / (s.square().sum().sqrt() * data.norm_factor + data.epsilon)
        for a, b, c in data.steps(num_steps):
            scaled = a * scaled + b * scaled**3 + c * scaled**5
            if data.renormalise:
                scaled = scaled / (scaled.square().sum().sqrt() + data.epsilon)
        exact = u * scaled @ vh
        found = orthogonalize(update, schedule, num_steps, dtype=dtype, form=form).double()  # type: ignore[arg-type]
        errors[name] = float((found - exact).norm() / exact.norm())
        finite = bool(found.isfinite().all())
        here = float(torch.linalg.matrix_norm(found, 2).max()) if finite else float("inf")
        largest = max(largest, here)
    return errors["gaussian"], largest


def candidates(num_steps: int) -> Iterator[tuple[int, ...]]:
    """Up to two restarts anywhere; for long iterations a first segment, and then equal ones."""
    if num_steps <= 5:
        for count in (0, 1, 2):
            yield from itertools.combinations(range(1, num_steps), count)
        return
    for segment, first in itertools.product((2, 3, 4), (1, 2, 3, 4)):
        if first <= segment:
            yield tuple(range(first, num_steps, segment))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--schedules", nargs="*", choices=SCHEDULES)
    arguments = parser.parse_args()
    dtype, num_steps = DTYPES[arguments.dtype], arguments.steps
    names = arguments.schedules or [
        name for name, s in SCHEDULES.items() if s.beyond != "error" or num_steps <= len(s.triples)
    ]
    print(f"{arguments.dtype}, {num_steps} steps, {ROWS}x{COLUMNS}: error, largest")
    print("| restarts after | operations | " + " | ".join(names) + " |")
    print("| --- " * (len(names) + 2) + "|")
    standard = newton_schulz_flops(ROWS, COLUMNS, num_steps=num_steps, form="standard")

    def row(label: str, operations: float, form: str) -> None:
        found = [measure(name, num_steps, form, dtype) for name in names]
        cells = " | ".join(f"{error:.3f}, {largest:.3g}" for error, largest in found)
        print(f"| {label} | {operations:.2f} | {cells} |")

    row("standard form", 1.0, "standard")
    for restarts in dict.fromkeys(candidates(num_steps)):
        flops = newton_schulz_flops(
            ROWS, COLUMNS, num_steps=num_steps, form="gram", restarts=restarts
        )
        with mock.patch.object(newton_schulz, "gram_restarts", _always(restarts)):
            row(", ".join(map(str, restarts)) or "none", flops / standard, "gram")


def _always(restarts: Sequence[int]):  # type: ignore[no-untyped-def]
    return lambda num_steps, *, dtype: tuple(restarts)


if __name__ == "__main__":
    main()
