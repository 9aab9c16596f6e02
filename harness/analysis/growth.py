"""A study that grew after its plan was frozen: what was added, and what that does to verdicts.

Additions before the first outcome cost nothing: nobody could have looked. Later ones are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.analysis.results import Analysis
from harness.runs.plan_changes import Addition, Amendment
from harness.runs.snapshot import StudySnapshot
from harness.study.settings import AnalysisSettings

ADDED_SEEDS = (
    "Seeds were added after results could be seen, without looks declared before: false verdicts "
    "are then more frequent than alpha (about 0.09 instead of 0.05 in simulation), so the verdicts "
    "are exploratory. To keep alpha, declare `looks` under [analysis] before the first run, or "
    "start a new study (another `name`) with fresh seeds."
)
EXPLORATORY = "exploratory: seeds were added after results"


def growth_sentences(additions: Sequence[Addition], settings: AnalysisSettings) -> list[str]:
    """What was added and when, and what that does to the verdicts if results could be seen."""
    told = [_what(addition) for addition in additions]
    late = [addition for addition in additions if addition.measured]
    seeds = any(addition.added.seeds for addition in late)
    told += [ADDED_SEEDS] if seeds else []
    if larger := [
        addition for addition in late if addition.added.variants and addition.comparisons
    ]:
        told.append(_larger_family(larger))
        told += [] if seeds else [_bound(larger, settings.alpha)]
    return told


def _what(addition: Addition) -> str:
    why = f" ({addition.why})" if addition.why else ""
    return f"Added to the plan on {addition.when}, {_when(addition)}: {addition.added.words}{why}."


def _when(addition: Addition) -> str:
    if not addition.outcomes:
        return "before any training run had ended"
    choosing = addition.outcomes - addition.measured
    of_the_search = f", {choosing} of them of the search" if choosing else ""
    runs = "training run" if addition.outcomes == 1 else "training runs"
    return f"when {addition.outcomes} {runs} had ended{of_the_search}"


def _larger_family(late: Sequence[Addition]) -> str:
    """Not said where the baseline was alone: there was no verdict before."""
    now = late[-1].comparisons + len(late[-1].added.variants)
    return (
        f"Variants were added after results could be seen: {now} comparisons share alpha now "
        f"instead of {late[0].comparisons}, so every interval is wider, and what was better, worse "
        "or equivalent before may be inconclusive now."
    )


def _bound(late: Sequence[Addition], alpha: float) -> str:
    """The union over all stages at which a verdict could be claimed, each on the same seeds.

    Before the additions any false one has probability alpha at most. After one, each of its `more`
    new comparisons errs with alpha / now, and the old ones are judged more strictly than before.
    Seeds that were added too leave no such bound.
    """
    shares = [len(a.added.variants) / (a.comparisons + len(a.added.variants)) for a in late]
    return (
        "If results over all planned seeds led to the addition, any false verdict, before it or "
        f"after it, has a probability of up to {alpha * (1 + sum(shares)):.2g} instead of "
        f"{alpha:g}."
    )


def seeds_added_late(study: StudySnapshot) -> bool:
    """Whether seeds came when results could be seen, without looks that were declared before."""
    return any(added.added.seeds and added.measured for added in study.additions) or any(
        amended_seeds(study, amendment) for amendment in study.amendments
    )


def amended_seeds(study: StudySnapshot, amendment: Amendment) -> bool:
    """Looks make it right, unless they were declared together with the seeds."""
    seeds, looks = (
        any(change.startswith(path) for change in amendment.changes)
        for path in ("seeds.confirmation", "analysis.looks")
    )
    seen = amendment.measured is None or amendment.measured > 0
    return seen and seeds and (looks or not study.settings.analysis.looks)


def marked(analysis: Analysis, study: StudySnapshot) -> Analysis:
    """The analysis whose verdicts say that they are exploratory, where seeds were added late."""
    if not seeds_added_late(study):
        return analysis
    return replace(
        analysis,
        comparisons=tuple(
            replace(item, exploratory=True, sentence=f"{item.sentence} ({EXPLORATORY})")
            for item in analysis.comparisons
        ),
        targets=tuple(
            replace(item, exploratory=True, sentence=f"{item.sentence} ({EXPLORATORY})")
            for item in analysis.targets
        ),
    )
