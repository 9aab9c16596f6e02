"""Draws docs/images/newton-schulz.png: what Newton-Schulz does to singular values, step by step.

One matrix with known singular values goes through `optimizers.orthogonalize`; the singular values
of each result are computed, not looked up. Run `python docs/figures/newton_schulz.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from optimizers import SCHEDULES, orthogonalize

PNG = Path(__file__).parents[1] / "images" / "newton-schulz.png"
SHOWN = ("jordan", "polar_express", "conservative", "ultra_stable")
STEPS = 10
SIZE = 64
# From the largest singular value to the smallest, a factor of 1000.
SMALLEST = 1e-3

INK = "#222222"
COLOUR = "#0072B2"  # Okabe and Ito's blue


def known_matrix(size: int, *, seed: int = 0) -> torch.Tensor:
    """A (size, size) float64 matrix with log-spaced singular values from 1 to SMALLEST."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0]
        for _ in range(2)
    )
    return left @ torch.diag(torch.logspace(0, -3, size, dtype=torch.float64)) @ right


def singular_values(matrix: torch.Tensor, schedule: str, num_steps: int) -> torch.Tensor:
    """Singular values after `num_steps` steps, largest first; 0 steps: of the scaled input."""
    if num_steps == 0:
        return torch.linalg.svdvals(matrix / matrix.norm())
    result = orthogonalize(matrix, schedule, num_steps, dtype=torch.float64)
    return torch.linalg.svdvals(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--png", type=Path, default=PNG)
    png = parser.parse_args().png
    matrix = known_matrix(SIZE)
    figure, axes = plt.subplots(1, len(SHOWN), figsize=(12, 3.6), dpi=130, sharey=True)
    for place, name in zip(axes, SHOWN, strict=True):
        draw(place, name, [singular_values(matrix, name, step) for step in range(STEPS + 1)])
    axes[0].set_ylabel("singular value")
    figure.savefig(png, bbox_inches="tight", facecolor="white")
    plt.close(figure)
    print_table(matrix)
    print(png)


def draw(axes: Axes, name: str, values: list[torch.Tensor]) -> None:
    """One schedule: every singular value as a dot, the smallest and the largest as lines."""
    for step, found in enumerate(values):
        axes.plot([step] * len(found), found, ".", color=COLOUR, markersize=2.5, alpha=0.6)
    axes.plot([float(v.min()) for v in values], color=COLOUR, lw=0.8)
    axes.plot([float(v.max()) for v in values], color=COLOUR, lw=0.8)
    axes.axhline(1.0, color=INK, lw=0.8, ls="--")
    renormalised = ", Frobenius norm 1" if SCHEDULES[name].renormalise else ""
    axes.set_title(f"{name}{renormalised}", fontsize=10, color=INK)
    axes.set_yscale("log")
    axes.set_ylim(1e-4, 3)
    axes.set_xticks(range(STEPS + 1))
    axes.set_xlabel("Newton-Schulz steps")
    axes.spines[["top", "right"]].set_visible(False)


def print_table(matrix: torch.Tensor) -> None:
    """Smallest and largest singular value, as the tutorial shows them."""
    print("| schedule | after 1 step | after 5 steps | after 10 steps |")
    print("| --- | --- | --- | --- |")
    for name in SHOWN:
        cells = []
        for steps in (1, 5, 10):
            found = singular_values(matrix, name, steps)
            cells.append(f"{float(found.min()):.3f} to {float(found.max()):.3f}")
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
