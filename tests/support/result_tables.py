"""Small tables of results, from the final losses of each variant."""

from collections.abc import Sequence

from harness.analysis.result_rows import ResultRow
from harness.analysis.results import Analysis
from harness.study.settings import AnalysisSettings

SETTINGS = AnalysisSettings(baseline="adamw")
BASE = [3.41, 3.43, 3.38, 3.44, 3.40, 3.42, 3.39, 3.45]
MUON = [3.11, 3.14, 3.07, 3.15, 3.11, 3.10, 3.10, 3.16]


def run(variant: str, seed: int, value: float | None, outcome: str = "completed") -> ResultRow:
    return ResultRow(
        variant=variant,
        seed=seed,
        value=value,
        outcome=outcome,
        initial_sha256=f"init{seed}",
        batches_sha256=f"data{seed}",
        diverged_at_step=100 + seed if outcome == "diverged" else None,
    )


def table(**values: Sequence[float | str]) -> list[ResultRow]:
    """A word instead of a number is the outcome of a run without a final value."""
    return [
        run(variant, seed, None, value) if isinstance(value, str) else run(variant, seed, value)
        for variant, own in values.items()
        for seed, value in enumerate(own)
    ]


def only(analysis: Analysis):
    (comparison,) = analysis.comparisons
    return comparison
