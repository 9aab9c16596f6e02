"""The numbers of a suite for a script and for a paper: CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from harness.analysis.suite.results import Estimate, Standing, SuiteAnalysis
from harness.report import numbers
from harness.report.latex import labelled
from harness.report.suite.material import percent
from harness.report.suite.tables import lost_runs
from harness.report.suite.values import written

ESTIMATES = (
    "score",
    "speedup",
    "iqm_speedup",
    "iqm_difference",
    "improvement",
    "mean_rank",
)
COUNTS = ("better", "worse", "equivalent", "inconclusive", "reached", "tasks", "runs", "lost")


def leaderboard_csv(analysis: SuiteAnalysis) -> str:
    """A line for each contestant, the best first; floats with all their digits."""
    heading = ["place", "contestant"]
    heading += [f"{name}{end}" for name in ESTIMATES for end in ("", "_low", "_high")]
    return _csv([*heading, *COUNTS, "diverged"], map(_standing, analysis.leaderboard))


def _standing(row: Standing) -> list[object]:
    cells: list[object] = [row.place, row.variant]
    for name in ESTIMATES:
        found: Estimate | None = getattr(row, name)
        cells += [None] * 3 if found is None else [found.value, found.low, found.high]
    return [*cells, *(getattr(row, name) for name in COUNTS), row.diverged]


RESULTS = (
    *("task", "variant", "seeds", "completed", "diverged", "lost", "mean_loss", "difference"),
    *("adjusted_p", "verdict", "cost", "ratio", "rank"),
)


SPEEDUP = ("low", "high", "kind", "source")


def results_csv(analysis: SuiteAnalysis) -> str:
    """A line for each contestant on each task."""
    heading = [*RESULTS, "difference_low", "difference_high"]
    heading += ["speedup", *(f"speedup_{name}" for name in SPEEDUP)]
    rows = (
        [
            *(getattr(result, name) for name in RESULTS),
            result.interval.low if result.interval else None,
            result.interval.high if result.interval else None,
            *(getattr(result.speedup, name, None) for name in ("value", *SPEEDUP)),
        ]
        for result in analysis.results
    )
    return _csv(heading, rows)


def _csv(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heading)
    for row in rows:
        writer.writerow(["" if cell is None else cell for cell in row])
    return text.getvalue()


def leaderboard_tex(analysis: SuiteAnalysis) -> str:
    r"""A `table` with one row a contestant, best first. It needs `\usepackage{booktabs}`."""
    first = "profile area" if analysis.ordered_by == "score" else "average rank"
    heading = ["", "contestant", first, "speed-up, IQM", "P(improvement)"]
    heading += ["better", "worse", "undecided", "lost runs"]
    rows = [
        [
            str(row.place),
            row.variant,
            written(row.score if analysis.ordered_by == "score" else row.mean_rank),
            written(row.iqm_speedup),
            written(row.improvement),
            *(
                numbers.MISSING if count is None else str(count)
                for count in (row.better, row.worse, row.inconclusive)
            ),
            lost_runs(analysis, row),
        ]
        for row in analysis.leaderboard
    ]
    tasks = sum(task.why_not is None for task in analysis.tasks)
    caption = (
        f"Leaderboard over {tasks} tasks. Better, worse and undecided count tasks by their verdict "
        f"against {analysis.baseline}, all of which hold together at {percent(analysis)}; the "
        "other intervals come from a bootstrap of the seeds, stratified by task."
    )
    return labelled("rlrrrrrrl", heading, rows, caption=caption, label=analysis.name)
