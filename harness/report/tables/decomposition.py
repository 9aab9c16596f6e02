"""What a leak was worth, and a claim taken apart."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.decomposition import Decomposition, Part
from harness.analysis.leak import Leak
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Table, left, right, table, wide


def leaked_losses(study: StudyResults, found: Sequence[Leak]) -> Table:
    """Both losses of every variant, and their difference."""
    return table(
        "What a leak would have been worth",
        [
            *left("variant"),
            *right("validation loss", "leaked loss", "worth of the leak", "interval"),
        ],
        [
            (
                leak.variant,
                numbers.loss(leak.validation_loss),
                numbers.loss(leak.leaked_loss),
                numbers.difference(leak.worth),
                numbers.interval(leak.interval),
            )
            for leak in found
        ],
        note="The leaked loss is NO validation loss: its windows are cut at random places of the "
        "training text, as where windows that overlap are split at random into training and "
        "validation. No verdict looks at it. The worth is validation loss − leaked loss of the "
        f"same run, mean over the seeds; t intervals hold at {study.percent} for all variants "
        "together.",
    )


def decomposition(study: StudyResults, found: Decomposition) -> Table:
    """The parts in order, the whole below them."""
    rows = [
        (*_row(part), "what is left of the claim" if index == found.left else part.why_not or "")
        for index, part in enumerate(found.parts)
    ]
    rows.append((*_row(found.whole), found.whole.why_not or "the sum of the parts"))
    return table(
        "The claim taken apart",
        [*left("from → to"), *right("difference", "interval", "seeds"), *left("paired"), wide("")],
        rows,
        note="Mean difference of the final losses, end − begin, in nats: below zero the end is "
        f"better. t intervals hold at {study.percent} for all rows together. A stage @leaked is "
        "read on windows of the training text.",
        strong_rows=frozenset({len(rows) - 1}),
    )


def _row(part: Part) -> tuple[str, ...]:
    return (
        part.name,
        numbers.difference(part.difference),
        numbers.interval(part.interval),
        numbers.count(part.n) if part.n else numbers.MISSING,
        "yes" if part.paired else "no",
    )


def decomposition_sentence(found: Decomposition) -> str | None:
    """How much of the claim is left, with its interval; None where that is not known."""
    rest, whole, share = found.rest, found.whole, found.share_left
    if rest is None or rest.difference is None or whole.difference is None:
        return None
    claim = (
        f"Of the {numbers.difference(whole.difference, places=2)} nats from {whole.begin} to "
        f"{whole.end}"
    )
    rest_in_words = (
        f"{numbers.difference(rest.difference, places=2)} {numbers.interval(rest.interval)}"
    )
    if share is None or share > 0:
        percent = "" if share is None else f" ({numbers.percent(share, digits=0)})"
        return f"{claim}, {rest_in_words}{percent} are left from {rest.begin} to {rest.end}."
    return (
        f"{claim} nothing is left: from {rest.begin} to {rest.end} the difference is "
        f"{rest_in_words}, the other way."
    )
