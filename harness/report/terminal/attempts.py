"""The attempts of a trial for the terminal, with the last lines of its workers' logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from harness.report.numbers import duration
from harness.runs.attempt_story import Attempt
from harness.runs.snapshot import TrialSnapshot

END_STYLES = {"outcome": "green", "stopped": "yellow"}


def render_attempts(name: str, trial: TrialSnapshot, attempts: Sequence[Attempt]) -> RenderableType:
    lines: list[RenderableType] = [Text(f"{name}, trial {trial.key}", style="bold")]
    for attempt in attempts:
        lines += _attempt(attempt)
    if not attempts:
        lines.append(Text("no attempt is recorded: it has not begun, or an older version ran it"))
    if trial.outcome is not None:
        reason = f": {trial.outcome.reason}" if trial.outcome.reason else ""
        lines.append(Text(f"outcome: {trial.outcome.outcome}{reason}"))
        if trial.outcome.traceback:
            lines.append(_indented(trial.outcome.traceback))
    return Group(*lines)


def _attempt(attempt: Attempt) -> Iterator[RenderableType]:
    yield Text(f"attempt {attempt.number}: {_how_it_ended(attempt)}", style=_style(attempt))
    if attempt.began is not None:
        began = attempt.began
        start = f", from step {began.resumed_step}" if began.resumed_step else ""
        code = f", code {began.code_version}" if began.code_version else ""
        yield _indented(f"began {began.at}{start}{code}")
    for place in attempt.places:
        yield _indented(f"worker {place.rank}: {place.host}, {place.device}, pid {place.pid}")
    for rank, tail in attempt.log_tails().items():
        yield _indented(f"last lines of worker {rank}:")
        yield Padding(Text(tail, style="dim"), (0, 0, 0, 4))


def _how_it_ended(attempt: Attempt) -> str:
    if attempt.ended is None:
        return "runs, or its driver died (optbench status tells)"
    took = "" if attempt.duration_s is None else f" after {duration(attempt.duration_s)}"
    cause = f": {attempt.ended.cause}" if attempt.ended.cause else ""
    return f"{attempt.ended.end.replace('_', ' ')}{took}, at step {attempt.ended.step}{cause}"


def _style(attempt: Attempt) -> str:
    return "" if attempt.ended is None else END_STYLES.get(attempt.ended.end, "red")


def _indented(text: str) -> Padding:
    return Padding(Text(text), (0, 0, 0, 2))
