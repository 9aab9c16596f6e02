"""How a verdict is shown beside its numbers: its sign, the p that it rests on, and marks."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.results import Comparison
from harness.analysis.stats.verdict import Verdict
from harness.report import numbers
from harness.report.elements import VerdictWord

ORDER: tuple[Verdict, ...] = (
    "better by the margin",
    "better",
    "equivalent",
    "inconclusive",
    "worse",
    "worse by the margin",
)
"""From the best news to the worst."""

SIGNS: dict[VerdictWord, str] = {
    "better by the margin": "▼▼",
    "better": "▼",
    "equivalent": "=",
    "inconclusive": "?",
    "worse": "▲",
    "worse by the margin": "▲▲",
    "below": "▼",
    "not shown": "?",
}
"""Down is better: the loss is lower. A sign, because colour alone does not reach everyone."""


def marked_p(comparison: Comparison) -> str:
    """The decisive p; with so few seeds that one odd run can decide, it says so."""
    text = numbers.probability(comparison.decisive_p)
    return f"{text}, fragile" if comparison.fragile else text


def in_groups(comparisons: Iterable[Comparison]) -> dict[Verdict, list[Comparison]]:
    """The comparisons of each verdict in the order given, the best news first."""
    groups: dict[Verdict, list[Comparison]] = {word: [] for word in ORDER}
    for comparison in comparisons:
        groups[comparison.verdict].append(comparison)
    return {word: found for word, found in groups.items() if found}


def tally(comparisons: Iterable[Comparison]) -> str:
    """`15 better, 1 equivalent, 2 worse`."""
    return ", ".join(f"{len(found)} {word}" for word, found in in_groups(comparisons).items())
