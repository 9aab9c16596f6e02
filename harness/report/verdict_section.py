"""What a reader wants first: verdicts in words, warnings, headlines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.analysis.growth import ADDED_SEEDS, growth_sentences, seeds_added_late
from harness.analysis.machines import why_no_times
from harness.analysis.measures import median_tokens_per_s
from harness.analysis.results import Comparison
from harness.analysis.shrinkage import not_tuned
from harness.analysis.study_analysis import why_no_analysis
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import (
    Details,
    Element,
    Facts,
    FigureImage,
    Paragraph,
    VerdictCard,
    VerdictWord,
)
from harness.report.missing import (
    NOT_COUNTED,
    missing_trials,
    which_are_missing,
    why_missing,
)
from harness.report.prose import plural
from harness.report.verdict_words import in_groups, tally

MANY = 6
"""What more variants than these would repeat is told in one line, or folded."""


def many(study: StudyResults) -> bool:
    """Whether the verdicts are told in groups, above the figure that shows all of them."""
    return len(study.comparisons) > MANY


def verdict_section(study: StudyResults, forest: Iterable[FigureImage]) -> Iterator[Element]:
    """The question, the verdicts, the warnings that belong to them, and the headlines.

    Args:
        forest: the figure of all differences, shown here where there are many.
    """
    if study.settings.question:
        yield Paragraph(text=study.settings.question, tone="question")
    yield from _interim_warning(study)
    if study.analysis is None:
        reason = study.error or why_no_analysis(study) or "There is no analysis."
        yield Paragraph(text=f"No verdict. {reason}", tone="warning")
    else:
        if many(study):
            yield from _grouped(study, forest)
        else:
            yield from (_card(study, item) for item in study.comparisons_in_rank_order())
        yield from _targets(study)
        for note in study.analysis.notes:
            yield Paragraph(text=_sentence(note.replace(" - ", " − ")), tone="note")
    yield from _tuning_warnings(study)
    yield from _changes_of_the_plan(study)
    yield Facts(items=tuple(_headlines(study)))


def _grouped(study: StudyResults, forest: Iterable[FigureImage]) -> Iterator[Element]:
    """How many of each, the picture of all, and the sentences folded: the best news first."""
    comparisons = study.comparisons_in_rank_order()
    yield Paragraph(text=f"Against {study.baseline}: {tally(comparisons)}.", tone="summary")
    yield from forest
    for word, group in in_groups(comparisons).items():
        yield Details(
            title=f"{word}: {len(group)}", blocks=tuple(_card(study, item) for item in group)
        )


def _card(study: StudyResults, comparison: Comparison) -> VerdictCard:
    untuned = " (not tuned)" if not_tuned(study, comparison.variant) else ""
    return VerdictCard(
        word=comparison.verdict,
        variant=comparison.variant,
        sentence=numbers.real_minus(comparison.sentence) + seeds_to_settle(comparison) + untuned,
    )


def _targets(study: StudyResults) -> Iterator[Element]:
    """One sentence each; of many the number that is below, and the sentences folded."""
    cards = tuple(_target_card(item.sentence, item.variant, item.below) for item in study.targets)
    if len(cards) <= MANY:
        yield from cards
        return
    target, below = study.targets[0].target, sum(item.below for item in study.targets)
    yield Paragraph(text=f"Below {target:g}: {below} of {len(cards)}.", tone="summary")
    yield Details(title=f"The means against {target:g}", blocks=cards)


def _target_card(sentence: str, variant: str, below: bool) -> VerdictCard:
    word: VerdictWord = "below" if below else "not shown"
    return VerdictCard(word=word, variant=variant, sentence=numbers.real_minus(sentence))


def _changes_of_the_plan(study: StudyResults) -> Iterator[Element]:
    """What was amended or added, and once what that does to the verdicts."""
    for amendment in study.amendments:
        yield Paragraph(
            text=f"The plan was amended on {amendment.when}: {amendment.why}. Changed: "
            + "; ".join(amendment.changes),
            tone="warning",
        )
    grown = growth_sentences(study.additions, study.settings.analysis)
    seen = any(addition.measured for addition in study.additions)
    yield from (Paragraph(text=line, tone="warning" if seen else "note") for line in grown)
    if seeds_added_late(study) and ADDED_SEEDS not in grown:
        yield Paragraph(text=ADDED_SEEDS, tone="warning")


def _sentence(note: str) -> str:
    """A note of the analysis, which begins small and ends without a full stop."""
    return numbers.real_minus(note[:1].upper() + note[1:]).rstrip(".") + "."


def _tuning_warnings(study: StudyResults) -> Iterator[Element]:
    reasons = {variant: not_tuned(study, variant) for variant in study.variants}
    for variant, reason in reasons.items():
        if reason is not None:
            yield Paragraph(
                text=f"{variant} is not tuned: {reason}. A better setting may lie beyond.",
                tone="warning",
            )


def seeds_to_settle(comparison: Comparison) -> str:
    """What an inconclusive comparison still needs; empty for every other."""
    seeds = comparison.seeds_to_settle
    if comparison.verdict != "inconclusive" or seeds is None:
        return ""
    return f". A fresh study of about {seeds} seeds would settle it"


def _interim_warning(study: StudyResults) -> Iterator[Element]:
    if study.complete or not study.confirmation:
        return
    text = f"Not finished: {study.finished} of {len(study.confirmation)} planned trials are done. "
    if study.settings.analysis.looks:
        text += "The looks were fixed in advance, so that what is decided here stays decided."
    else:
        text += (
            f"What follows rests on the {len(study.whole_seeds())} of {len(study.seeds)} seeds "
            "that are finished for every variant. It is not the planned result, and stopping here "
            "because it looks good would make false positives more frequent than alpha."
        )
    yield Paragraph(text=text, tone="warning")
    if missing := missing_trials(study):
        count = plural(len(missing), "trial")
        which = f"{count} missing: {which_are_missing(missing)}."
        sentences = [which, NOT_COUNTED, *why_missing(missing)]
        yield Paragraph(text=" ".join(sentences), tone="warning")


def _headlines(study: StudyResults) -> Iterator[tuple[str, str]]:
    finished = [trial for trial in study.distinct() if trial.outcome is not None]
    if not finished:
        return
    leader = study.ranked()[0]
    if study.is_ranked and study.losses(leader):
        yield "lowest mean loss", leader if _has_mean(study, leader) else numbers.MISSING
    speeds = {v: median_tokens_per_s(study.of(v)) for v in study.variants}
    known = {variant: speed for variant, speed in speeds.items() if speed is not None}
    if known:
        fastest = max(known, key=lambda variant: known[variant])
        rate = f"{fastest} ({numbers.rate(known[fastest])} tokens/s)"
        yield "fastest", "times do not compare" if why_no_times(study) else rate
    diverged = {v: sum(t.state == "diverged" for t in study.of(v)) for v in study.variants}
    worst = max(diverged, key=lambda variant: diverged[variant])
    yield (
        "most seeds diverged",
        f"{worst} ({diverged[worst]})" if diverged[worst] else "none diverged",
    )
    completed = sum(trial.completed for trial in finished)
    yield "success rate", f"{completed} of {len(finished)} trials"
    times = [trial.outcome.wall_time_s for trial in finished if trial.outcome is not None]
    yield "time, all trials", numbers.duration(sum(time for time in times if time is not None))
    tokens = sum(trial.outcome.tokens for trial in finished if trial.outcome is not None)
    yield "tokens, all trials", numbers.count(tokens)


def _has_mean(study: StudyResults, variant: str) -> bool:
    return all(trial.completed for trial in study.of(variant) if trial.outcome is not None)
