"""The tables of a suite's report: one function each, from the analysis to text."""

from harness.report.suite.tables.leaderboard import (
    leaderboard,
    lost_runs,
    mean_ranks,
    profiles,
)
from harness.report.suite.tables.scaling import (
    hyperparameters,
    points,
    speedups,
    transfers,
    why_no_line,
)
from harness.report.suite.tables.tasks import lost, task_table, verdict_matrix

__all__ = [
    "hyperparameters",
    "leaderboard",
    "lost",
    "lost_runs",
    "mean_ranks",
    "points",
    "profiles",
    "speedups",
    "task_table",
    "transfers",
    "verdict_matrix",
    "why_no_line",
]
