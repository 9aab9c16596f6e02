"""What a reader wants first: verdicts in words, warnings, headlines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report import numbers, tables
from harness.report.blocks import Block, Facts, Paragraph, Verdict, VerdictWord
from harness.report.rows import whole_seeds, why_no_analysis
from harness.report.tuned import not_tuned
from harness.report.view import StudyView

MANY = 6
"""What more variants than these would repeat is told in one line, or folded."""


def answer(view: StudyView, *, error: str | None) -> Iterator[Block]:
    """The question, the verdicts, the warnings that belong to them, and the headlines.

    Args:
        error: why the results could not be analysed.
    """
    if view.study.get("question"):
        yield Paragraph(text=str(view.study["question"]), tone="question")
    yield from _interim_warning(view)
    if view.analysis is None:
        reason = error or why_no_analysis(view) or "There is no analysis."
        yield Paragraph(text=f"No verdict. {reason}", tone="warning")
    else:
        place = {variant: index for index, variant in enumerate(view.ranked())}
        for comparison in sorted(view.comparisons, key=lambda item: place[item["variant"]]):
            yield Verdict(
                word=comparison["verdict"],
                variant=comparison["variant"],
                sentence=comparison["sentence"]
                + seeds_to_settle(comparison)
                + (" (not tuned)" if not_tuned(view, comparison["variant"]) else ""),
            )
        yield from _targets(view)
        yield from (Paragraph(text=note, tone="note") for note in view.analysis["notes"])
    yield from _tuning_warnings(view)
    for amendment in view.folder.amendments():
        yield Paragraph(
            text=f"The plan was amended on {amendment.when}: {amendment.why}. Changed: "
            + "; ".join(amendment.changes),
            tone="warning",
        )
    yield Facts(items=tuple(_headlines(view)))


def _targets(view: StudyView) -> Iterator[Block]:
    """One sentence each; of many only those that are below, the others together."""
    together = len(view.targets) > MANY
    for item in view.targets:
        word: VerdictWord = "below" if item["below"] else "not shown"
        if item["below"] or not together:
            yield Verdict(word=word, variant=item["variant"], sentence=item["sentence"])
    others = [item["variant"] for item in view.targets if not item["below"]]
    if together and others:
        sentence = f"Not shown to be below {view.targets[0]['target']:g}: {', '.join(others)}"
        yield Verdict(word="not shown", variant="", sentence=sentence)


def _tuning_warnings(view: StudyView) -> Iterator[Block]:
    reasons = {variant: not_tuned(view, variant) for variant in view.variants}
    for variant, reason in reasons.items():
        if reason is not None:
            yield Paragraph(
                text=f"{variant} is not tuned: {reason}. A better setting may lie beyond.",
                tone="warning",
            )


def seeds_to_settle(comparison: Mapping[str, Any]) -> str:
    """What an inconclusive comparison still needs; empty for every other."""
    seeds = comparison["seeds_to_settle"]
    if comparison["verdict"] != "inconclusive" or seeds is None:
        return ""
    return f". About {seeds} seeds in all would settle it"


def _interim_warning(view: StudyView) -> Iterator[Block]:
    if view.complete or not view.confirmation:
        return
    text = f"Not finished: {view.finished} of {len(view.confirmation)} planned trials are done. "
    if view.study["analysis"].get("looks"):
        text += "The looks were fixed in advance, so that what is decided here stays decided."
    else:
        text += (
            f"What follows rests on the {len(whole_seeds(view))} of {len(view.seeds)} seeds that "
            "are finished for every variant. It is not the planned result, and stopping here "
            "because it looks good would make false positives more frequent than alpha."
        )
    yield Paragraph(text=text, tone="warning")


def _headlines(view: StudyView) -> Iterator[tuple[str, str]]:
    finished = [trial for trial in view.distinct() if trial.outcome is not None]
    if not finished:
        return
    leader = view.ranked()[0]
    if view.losses(leader):
        yield "lowest mean loss", leader if _has_mean(view, leader) else numbers.MISSING
    speeds = {v: tables.median_tokens_per_s(view.of(v)) for v in view.variants}
    known = {variant: speed for variant, speed in speeds.items() if speed is not None}
    if known:
        fastest = max(known, key=lambda variant: known[variant])
        yield "fastest", f"{fastest} ({numbers.count(known[fastest])} tokens/s)"
    diverged = {v: sum(t.state == "diverged" for t in view.of(v)) for v in view.variants}
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


def _has_mean(view: StudyView, variant: str) -> bool:
    return all(trial.completed for trial in view.of(variant) if trial.outcome is not None)
