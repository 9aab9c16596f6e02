"""A difference taken apart: from one variant to another over stages that change one thing each.

The losses of the stages are a chain, so the differences between neighbours add up to the whole: how
much of a claim is a leak, how much an untuned baseline, and what is left of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.analysis.result_rows import ResultRow
from harness.analysis.stats.arrays import MINIMUM_SEEDS
from harness.analysis.stats.intervals import Interval, simultaneous_level
from harness.analysis.stats.mean_tests import paired_t, welch_t
from harness.analysis.stats.pairing import certify
from harness.analysis.study_analysis import results_rows
from harness.analysis.study_results import StudyResults
from harness.study.stages import Stage, read_stage


@dataclass(frozen=True, kw_only=True)
class Part:
    """The mean over seeds of (end - begin), in nats; None where `why_not` has a reason."""

    begin: Stage
    end: Stage
    paired: bool = False
    n: int = 0
    difference: float | None = None
    interval: Interval | None = None
    why_not: str | None = None

    @property
    def name(self) -> str:
        return f"{self.begin} → {self.end}"


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """The parts, which add up to the whole; all intervals, that of the whole too, hold together.

    `left` is the part that begins at the study's baseline: what is left of the claim when every
    other part is taken away. None where the baseline is no stage, or the last one.
    """

    whole: Part
    parts: tuple[Part, ...]
    left: int | None

    @property
    def rest(self) -> Part | None:
        return None if self.left is None else self.parts[self.left]

    @property
    def share_left(self) -> float | None:
        """The rest as a share of the whole."""
        rest = None if self.rest is None else self.rest.difference
        if rest is None or not self.whole.difference:
            return None
        return rest / self.whole.difference


def decompose(study: StudyResults) -> Decomposition | None:
    """None where the study asks for none, or nothing is finished."""
    stages = [read_stage(text) for text in study.settings.analysis.decomposition]
    if not stages or not study.ranked_seeds:
        return None
    level = simultaneous_level(study.level, comparisons=len(stages))
    runs = _runs(study)
    baseline = Stage(study.baseline, leaked=False)
    begins = stages[:-1]
    return Decomposition(
        whole=_part(study, stages[0], stages[-1], runs, level),
        parts=tuple(_part(study, *pair, runs, level) for pair in pairwise(stages)),
        left=begins.index(baseline) if baseline in begins else None,
    )


Runs = Mapping[str, Mapping[int, ResultRow]]


def _runs(study: StudyResults) -> Runs:
    runs: dict[str, dict[int, ResultRow]] = {}
    for row in results_rows(study):
        if row.seed in study.ranked_seeds:
            runs.setdefault(row.variant, {})[row.seed] = row
    return runs


def _part(study: StudyResults, begin: Stage, end: Stage, runs: Runs, level: float) -> Part:
    losses = [_losses(study, stage) for stage in (begin, end)]
    lost = [str(stage) for stage, found in zip((begin, end), losses, strict=True) if found is None]
    if lost:
        return Part(begin=begin, end=end, why_not=f"{' and '.join(lost)} lost a seed")
    before, after = (found or [] for found in losses)
    if len(before) < MINIMUM_SEEDS:
        return Part(begin=begin, end=end, why_not=f"fewer than {MINIMUM_SEEDS} seeds")
    same = begin.variant == end.variant  # one run, measured twice
    paired = same or certify(runs[end.variant], runs[begin.variant]).paired
    test = (paired_t if paired else welch_t)(after, before)
    return Part(
        begin=begin,
        end=end,
        paired=paired,
        n=len(before),
        difference=test.estimate,
        interval=test.interval(level=level),
    )


def _losses(study: StudyResults, stage: Stage) -> Sequence[float] | None:
    """By ascending seed; None if one is missing."""
    trials = sorted(
        (t for t in study.in_hand(stage.variant) if t.seed in study.ranked_seeds),
        key=lambda trial: trial.seed,
    )
    values = [trial.leaked_loss if stage.leaked else trial.loss for trial in trials]
    known = [value for value in values if value is not None]
    return known if known and len(known) == len(study.ranked_seeds) else None
