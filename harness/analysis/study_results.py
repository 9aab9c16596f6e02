"""A study with what its analysis and its search say: all that a report is made from."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

from harness.analysis.hardware import Hardware, hardware_of
from harness.analysis.results import (
    Analysis,
    Comparison,
    TargetResult,
    VariantSummary,
    read_analysis,
)
from harness.analysis.search.results import SearchResult
from harness.analysis.search.summary import summarise_search
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import StudySnapshot, TrialSnapshot, load_snapshot


@dataclass(frozen=True, kw_only=True)
class StudyResults(StudySnapshot):
    """A snapshot with its analysis, as far as there is one, and the result of its search.

    `error` says why an analysis was refused under the study's settings.
    """

    analysis: Analysis | None
    search: SearchResult | None
    error: str | None = None

    @cached_property
    def trained_on(self) -> dict[str, tuple[Hardware, ...]]:
        """Every kind of hardware that took part in a trial, by its key."""
        return hardware_of(self.trials, self.environment)

    @property
    def level(self) -> float:
        """Coverage of every interval: 1 - alpha."""
        return 1.0 - self.settings.analysis.alpha

    @property
    def percent(self) -> str:
        return f"{100 * self.level:.4g} %"

    @property
    def shared_level(self) -> float:
        """Coverage of one of several intervals that hold together, one for each challenger."""
        return 1.0 - self.settings.analysis.alpha / max(1, len(self.challengers))

    @property
    def percent_together(self) -> str:
        """What intervals at the shared level promise: `95 %, all 3 together`."""
        several = len(self.challengers)
        return self.percent + (f", all {several} together" if several > 1 else "")

    @property
    def complete(self) -> bool:
        """Whether no trial is missing that a verdict waits for.

        With looks, decided variants need no more seeds. Horizons are not counted: verdicts that
        need them say so.
        """
        if not self.confirmation:
            return False  # the search is not over
        if self.settings.analysis.looks and self.comparisons:
            return all(c.look is None or c.look.next_look is None for c in self.comparisons)
        return self.finished == len(self.confirmation)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        return () if self.analysis is None else self.analysis.comparisons

    @property
    def targets(self) -> tuple[TargetResult, ...]:
        return () if self.analysis is None else self.analysis.targets

    def comparison(self, variant: str) -> Comparison | None:
        return next((item for item in self.comparisons if item.variant == variant), None)

    def summary(self, variant: str) -> VariantSummary | None:
        summaries = () if self.analysis is None else self.analysis.variants
        return next((item for item in summaries if item.variant == variant), None)

    def compared(self, variant: str) -> tuple[list[TrialSnapshot], list[TrialSnapshot]]:
        """The trials that the variant's comparison rests on and those of the baseline, by seed."""
        comparison = self.comparison(variant)
        if comparison is None:
            return [], []
        # As harness.analysis.interim reads them: the first n seeds of both sides.
        return self._first(variant, comparison.n), self._first(self.baseline, comparison.n)

    def _first(self, variant: str, n: int) -> list[TrialSnapshot]:
        summary, by_seed = self.summary(variant), {t.seed: t for t in self.of(variant)}
        return [by_seed[seed] for seed in sorted(summary.seeds if summary else ())[:n]]

    def comparisons_in_rank_order(self) -> list[Comparison]:
        place = {variant: index for index, variant in enumerate(self.ranked())}
        return sorted(self.comparisons, key=lambda comparison: place[comparison.variant])

    def ranked(self) -> tuple[str, ...]:
        """Variants from the lowest to the highest mean loss.

        A variant that lost a seed has no mean, because that of its survivors is not comparable. It
        stands behind those that have one, by its median with lost seeds as the worst; variants
        without even that come last. What `is_ranked` leaves out stands in the order of the study.
        """

        def order(variant: str) -> tuple[bool, bool, float]:
            mean, median = self._centre(variant)
            return median is None, mean is None, mean if mean is not None else median or 0.0

        return tuple(sorted(self.variants, key=order))

    @cached_property
    def ranked_seeds(self) -> tuple[int, ...]:
        """The seeds over which variants are put in an order: those that none of them misses.

        A trial that is missing is no bad result, and a variant with other seeds has other luck.
        """
        if self.analysis is None:
            return self.whole_seeds()
        analysed = [set(summary.seeds) for summary in self.analysis.variants]
        return tuple(seed for seed in self.seeds if all(seed in own for own in analysed))

    @property
    def is_ranked(self) -> bool:
        """Whether variants can be put in an order at all."""
        return bool(self.ranked_seeds)

    def in_hand(self, variant: str) -> tuple[TrialSnapshot, ...]:
        """The finished trials that speak for a variant: of the seeds that were analysed.

        Before there is an analysis, those of the seeds at which every variant has an outcome; where
        there is no such seed, all.
        """
        summary = self.summary(variant)
        seeds = summary.seeds if summary else self.ranked_seeds or self.seeds
        ended = (trial for trial in self.of(variant) if trial.outcome is not None)
        return tuple(trial for trial in ended if trial.seed in seeds)

    def _centre(self, variant: str) -> tuple[float | None, float | None]:
        """Mean and median over the ranked seeds, lost ones as the worst."""
        ended = [t for t in self.in_hand(variant) if t.seed in self.ranked_seeds]
        losses = [math.inf if trial.loss is None else trial.loss for trial in ended]
        median = statistics.median(losses) if losses else math.inf
        if not math.isfinite(median):
            return None, None
        return (statistics.fmean(losses) if max(losses) < math.inf else None), median


def load_results(folder: StudyFolder) -> StudyResults:
    """Reads the folder with the analysis as it was written last.

    Raises:
        UserError: no plan there, or one that was changed by hand.
    """
    snapshot = load_snapshot(folder)
    return with_analysis(snapshot, read_analysis(folder.analysis_path))


def with_analysis(
    snapshot: StudySnapshot, analysis: Analysis | None, *, error: str | None = None
) -> StudyResults:
    return StudyResults(
        **{field.name: getattr(snapshot, field.name) for field in fields(StudySnapshot)},
        analysis=analysis,
        search=summarise_search(snapshot),
        error=error,
    )


def mean_of(
    trials: Sequence[TrialSnapshot], value: Callable[[TrialSnapshot], float | None]
) -> float | None:
    """Mean of `value` over the trials that have one."""
    values = [number for trial in trials if (number := value(trial)) is not None]
    return statistics.fmean(values) if values else None
