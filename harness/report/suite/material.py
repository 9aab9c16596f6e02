"""What the report of a suite is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis.study_results import StudyResults
from harness.analysis.suite.results import SuiteAnalysis, TaskResult
from harness.report.elements import FigureImage
from harness.report.figures.canvas import Appearance, looks
from harness.runs.plan_changes import Amendment


@dataclass(frozen=True, kw_only=True)
class SuiteMaterial:
    """An analysis, and what else is known of its tasks.

    `studies` are those of the tasks, by name; empty where the suite is a table of somebody's
    results: then there are no pages to link, no hours and no versions.
    """

    analysis: SuiteAnalysis
    question: str = ""
    studies: Mapping[str, StudyResults] = field(default_factory=dict)
    amendments: Sequence[Amendment] = ()
    figures: Mapping[str, FigureImage] = field(default_factory=dict)

    def lost_on(self, variant: str) -> tuple[TaskResult, ...]:
        """The tasks on which a run of the contestant did not complete."""
        return tuple(r for r in self.analysis.results if r.variant == variant and r.lost)


def ranked(analysis: SuiteAnalysis) -> tuple[str, ...]:
    """The contestants in the order of the leaderboard."""
    return tuple(standing.variant for standing in analysis.leaderboard)


def appearances(analysis: SuiteAnalysis) -> dict[str, Appearance]:
    """How each contestant looks in every figure; within `canvas.style`."""
    challengers = [name for name in analysis.variants if name != analysis.baseline]
    return looks(challengers, baseline=analysis.baseline, ranked=ranked(analysis))


def percent(analysis: SuiteAnalysis) -> str:
    """What all verdicts promise together: `95 %`."""
    return f"{100 * (1 - analysis.settings.alpha):.4g} %"
