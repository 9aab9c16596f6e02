"""Draws docs/images/fragments.png: who holds what of a matrix, and the step that makes it whole.

The ranges are those of `optimizers.layouts` and the owners those of `optimizers.plan`, so the
figure shows what the optimizer does. Run `python docs/figures/fragments.py`.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle

from optimizers.layouts import flat_layout, row_layout, whole_layout
from optimizers.plan import Layout, Plan, Range, make_plan
from optimizers.routing import Matrix

PNG = Path(__file__).parents[1] / "images" / "fragments.png"
WORKERS = 3
# Something stands before W: ZeRO 1 and 2 lay all parameters end to end and then cut.
SHAPES = [("before", (5,)), ("W", (6, 8)), ("experts", (4, 3, 4))]
MATRICES = [Matrix("W", 0, 0, 6, 8)] + [Matrix("experts", e, 12 * e, 3, 4) for e in range(4)]

# Okabe and Ito's colours for every kind of colour blindness; a letter says the same.
COLOURS = ("#56B4E9", "#E69F00", "#009E73")
NOBODY = "#FFFFFF"
LETTERS = "ABC"
INK = "#222222"
# In cells of W.
WIDTH, FIRST, STRIDE = 66, 14, 18


def main() -> None:
    whole = whole_layout(SHAPES, workers=WORKERS)
    rows: list[tuple[str, str, Layout, bool]] = [
        ("Whole", "one process, or\nexchange = replicated", whole, False),
        ("Owner", "DDP, ZeRO 0: momentum\nas drawn, weights whole", whole, True),
        ("Rows", "FSDP2", row_layout(SHAPES, workers=WORKERS), False),
        (
            "Flat ranges",
            "ZeRO 1 and 2\n(3: each tensor apart)",
            flat_layout(SHAPES, workers=WORKERS),
            False,
        ),
    ]
    figure = plt.figure(figsize=(11, 9), dpi=130)
    grid = figure.add_gridspec(5, 1, height_ratios=(9, 8, 8, 8, 15), hspace=0.06)
    for place, (title, where, layout, owned) in enumerate(rows):
        axes = figure.add_subplot(grid[place])
        prepare(axes, width=WIDTH, height=9 if place == 0 else 8)
        draw_layout(axes, title, where, layout, owned=owned)
        if place == 0:
            name_columns(axes)
    draw_step(figure.add_subplot(grid[4]))
    figure.savefig(PNG, bbox_inches="tight", facecolor="white")
    print(PNG)


def plan_of(layout: Layout) -> Plan:
    return make_plan(
        MATRICES,
        layout=layout,
        workers=WORKERS,
        cost=lambda matrix: matrix.numel * min(matrix.rows, matrix.columns),
        travel_bytes=lambda matrix: (4, 4),
        share_whole=True,
        reduces=False,
    )


def held(layout: Layout, matrix: Matrix) -> tuple[Range, ...]:
    """Each worker's range in the matrix's own elements."""
    stop = matrix.offset + matrix.numel
    return tuple(
        (max(a, matrix.offset) - matrix.offset, max(min(b, stop), matrix.offset) - matrix.offset)
        for a, b in layout[matrix.parameter]
    )


def draw_layout(axes: Axes, title: str, where: str, layout: Layout, *, owned: bool) -> None:
    """One row of the figure: the three workers beside each other."""
    axes.text(0, 5.4, title, fontsize=13, weight="bold", color=INK, va="center")
    axes.text(0, 4.3, where, fontsize=9, color=INK, va="top", linespacing=1.5)
    shares = {(s.matrix.parameter, s.matrix.index): s for s in plan_of(layout).shares}
    for worker in range(WORKERS):
        left = FIRST + STRIDE * worker
        for matrix in MATRICES:
            share = shares[matrix.parameter, matrix.index]
            start, stop = (share.momentum if owned else held(layout, matrix))[worker]
            x, y, cell = position(matrix, left)
            draw_matrix(axes, matrix, x, y, cell, [(start, stop, worker)])


def name_columns(axes: Axes) -> None:
    """What stands below: which worker, which matrices."""
    for worker in range(WORKERS):
        left = FIRST + STRIDE * worker
        title = f"what worker {LETTERS[worker]} holds"
        axes.text(left, 8.4, title, fontsize=10.5, weight="bold", color=INK)
        axes.text(left, 7.1, "a matrix W, 6 × 8", fontsize=8, color=INK)
        axes.text(left + 9.2, 7.1, "4 experts, 3 × 4", fontsize=8, color=INK)


def position(matrix: Matrix, left: float) -> tuple[float, float, float]:
    """Left, top and size of a cell."""
    if matrix.parameter == "W":
        return left, 6.6, 1.0
    return left + 9.2 + 3.2 * (matrix.index % 2), 6.6 - 3.3 * (matrix.index // 2), 0.7


def draw_matrix(
    axes: Axes,
    matrix: Matrix,
    left: float,
    top: float,
    cell: float,
    ranges: list[tuple[int, int, int]],
) -> None:
    """Its elements as cells; each range in its worker's colour and letter."""
    colour_of = {i: worker for start, stop, worker in ranges for i in range(start, stop)}
    for i in range(matrix.numel):
        row, column = divmod(i, matrix.columns)
        worker = colour_of.get(i)
        x, y = left + column * cell, top - (row + 1) * cell
        colour = NOBODY if worker is None else COLOURS[worker]
        axes.add_patch(Rectangle((x, y), cell, cell, facecolor=colour, edgecolor="#AAAAAA", lw=0.6))
        if worker is not None and cell >= 0.7:
            axes.text(
                x + cell / 2,
                y + cell / 2,
                LETTERS[worker],
                ha="center",
                va="center",
                fontsize=6.5 if cell >= 1 else 5,
                color=INK,
            )
    size = (matrix.columns * cell, matrix.rows * cell)
    axes.add_patch(Rectangle((left, top - size[1]), *size, fill=False, edgecolor=INK, lw=1.1))


def draw_step(axes: Axes) -> None:
    """One matrix under ZeRO: fragments, whole at the owner, fragments."""
    prepare(axes, width=WIDTH, height=13, bottom=-2.2)
    layout = flat_layout(SHAPES, workers=WORKERS)
    matrix = MATRICES[0]
    pieces = [(start, stop, worker) for worker, (start, stop) in enumerate(held(layout, matrix))]
    owner = next(s.owner for s in plan_of(layout).shares if s.matrix == matrix)
    whole = [(0, matrix.numel, owner)]
    stages = [
        (pieces, "1  momentum", "each worker, on its fragment"),
        (whole, "2  orthogonalise", f"the owner of W, here {LETTERS[owner]}, sees it whole"),
        (pieces, "3  update W", "each worker, on its fragment"),
    ]
    axes.text(0, 10.7, "One step of W under ZeRO", fontsize=13, weight="bold", color=INK)
    axes.plot([0, WIDTH], [12.6, 12.6], color="#BBBBBB", lw=0.8)
    for stage, (ranges, title, caption) in enumerate(stages):
        left = FIRST + STRIDE * stage
        draw_matrix(axes, matrix, left, 7.6, 1.0, ranges)
        axes.text(left, 9.2, title, fontsize=10.5, weight="bold", color=INK)
        axes.text(left, 8.1, caption, fontsize=8, color=INK)
    for stage, label in enumerate(("assemble", "return")):
        left = FIRST + STRIDE * stage + 9
        ends = (left, 4.6), (left + 8, 4.6)
        arrow = FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=14, color=INK)
        axes.add_patch(arrow)
        axes.text(left + 4, 5.2, label, fontsize=9, ha="center", color=INK)
        axes.text(left + 4, 3.4, "all-to-all", fontsize=8, ha="center", color=INK)
    patches = [
        Patch(facecolor=colour, edgecolor=INK, label=f"worker {letter}")
        for colour, letter in zip(COLOURS, LETTERS, strict=True)
    ]
    patches.append(Patch(facecolor=NOBODY, edgecolor="#AAAAAA", label="not on this worker"))
    axes.legend(
        handles=patches,
        loc="lower left",
        bbox_to_anchor=(0.19, -0.02),
        ncols=4,
        frameon=False,
        fontsize=9.5,
    )


def prepare(axes: Axes, *, width: float, height: float, bottom: float = -0.4) -> None:
    axes.set_xlim(-0.2, width + 0.5)
    axes.set_ylim(bottom, height)
    axes.set_aspect("equal")
    axes.axis("off")


if __name__ == "__main__":
    main()
