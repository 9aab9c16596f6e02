"""What a reader wants first: verdicts in words, warnings, headlines."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.measures import median_tokens_per_s
from harness.analysis.results import Comparison
from harness.analysis.shrinkage import not_tuned
from harness.analysis.study_analysis import why_no_analysis
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Element, Facts, Paragraph, Verdict, VerdictWord

MANY = 6
"""What more variants than these would repeat is told in one line, or folded."""


def verdict_section(study: StudyResults) -> Iterator[Element]:
    """The question, the verdicts, the warnings that belong to them, and the headlines."""
    if study.settings.question:
        yield Paragraph(text=study.settings.question, tone="question")
    yield from _interim_warning(study)
    if study.analysis is None:
        reason = study.error or why_no_analysis(study) or "There is no analysis."
        yield Paragraph(text=f"No verdict. {reason}", tone="warning")
    else:
        for comparison in study.comparisons_in_rank_order():
            yield Verdict(
                word=comparison.verdict,
                variant=comparison.variant,
                sentence=comparison.sentence
                + seeds_to_settle(comparison)
                + (" (not tuned)" if not_tuned(study, comparison.variant) else ""),
            )
        yield from _targets(study)
        yield from (Paragraph(text=note, tone="note") for note in study.analysis.notes)
    yield from _tuning_warnings(study)
    for amendment in study.amendments:
        yield Paragraph(
            text=f"The plan was amended on {amendment.when}: {amendment.why}. Changed: "
            + "; ".join(amendment.changes),
            tone="warning",
        )
    yield Facts(items=tuple(_headlines(study)))


def _targets(study: StudyResults) -> Iterator[Element]:
    """One sentence each; of many only those that are below, the others together."""
    together = len(study.targets) > MANY
    for item in study.targets:
        word: VerdictWord = "below" if item.below else "not shown"
        if item.below or not together:
            yield Verdict(word=word, variant=item.variant, sentence=item.sentence)
    others = [item.variant for item in study.targets if not item.below]
    if together and others:
        sentence = f"Not shown to be below {study.targets[0].target:g}: {', '.join(others)}"
        yield Verdict(word="not shown", variant="", sentence=sentence)


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
    return f". About {seeds} seeds in all would settle it"


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


def _headlines(study: StudyResults) -> Iterator[tuple[str, str]]:
    finished = [trial for trial in study.distinct() if trial.outcome is not None]
    if not finished:
        return
    leader = study.ranked()[0]
    if study.losses(leader):
        yield "lowest mean loss", leader if _has_mean(study, leader) else numbers.MISSING
    speeds = {v: median_tokens_per_s(study.of(v)) for v in study.variants}
    known = {variant: speed for variant, speed in speeds.items() if speed is not None}
    if known:
        fastest = max(known, key=lambda variant: known[variant])
        yield "fastest", f"{fastest} ({numbers.count(known[fastest])} tokens/s)"
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
