"""How each run ended, by its log: completed, diverged, or without an end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from harness.analysis.logs.naming import NamedLog
from harness.analysis.logs.reading import Log, Point
from harness.analysis.result_rows import ResultRow
from harness.errors import UserError

SHOWN = 5
FEWEST_POINTS_OF_A_COPY = 3
"""Two independent runs may print the same last digits once or twice; never a whole curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRun:
    """A log, whose run it is and how that ended.

    `planned` is the step where it should end. `seed_is_named`: the seed came from the path, and is
    no number of ours.
    """

    log: Log
    planned: float
    row: ResultRow
    seed_is_named: bool

    @property
    def curve(self) -> tuple[Point, ...]:
        """Up to the end that is compared, without what is no number."""
        return tuple(
            point
            for point in self.log.points
            if point.step <= self.planned and math.isfinite(point.loss)
        )

    @property
    def last_step(self) -> float | None:
        return self.log.points[-1].step if self.log.points else None


def ended_runs(
    named: Sequence[NamedLog],
    logs: Sequence[Log],
    *,
    steps: float | None = None,
    unequal_steps: bool = False,
    unit: str = "steps",
) -> list[LogRun]:
    """The outcome of every run; one without an end is `failed`, never left out.

    A run should end at `steps`; without it at the number of steps that its log says were planned,
    or later if it went on; without that where the longest run of its variant ended. A run whose
    last loss is no number
    `diverged`. Seeds that nobody named are numbers of the runs, no two alike, so that they can
    never be taken for pairs.

    Args:
        steps: the loss at this step is read, and later ones are not.
        unequal_steps: the user knows that runs of unequal length had equal tokens.
        unit: what the steps are, for messages.

    Raises:
        UserError: runs of unequal length, a run without a loss at `steps`, one log twice.
    """
    if steps is not None and not 0.0 <= steps < math.inf:
        raise UserError(f"--steps ({steps:g}) must be a number of steps: 0 or more, and finite")
    _refuse_copies(logs)
    longest: dict[str, float] = {}
    for name, log in zip(named, logs, strict=True):
        longest[name.variant] = max(longest.get(name.variant, 0.0), _last_step(log))
    runs = []
    for number, (name, log) in enumerate(zip(named, logs, strict=True)):
        planned = steps
        if planned is None:
            own = None if log.total is None else max(log.total, _last_step(log))
            planned = longest[name.variant] if own is None else own
        runs.append(
            LogRun(
                log=log,
                planned=planned,
                row=_row(name, log, planned=planned, number=number),
                seed_is_named=name.seed is not None,
            )
        )
    if steps is not None:
        _refuse_gaps(runs, steps)
    elif not unequal_steps:
        _refuse_unequal(runs, unit)
    return runs


def _last_step(log: Log) -> float:
    return log.points[-1].step if log.points else 0.0


def _row(name: NamedLog, log: Log, *, planned: float, number: int) -> ResultRow:
    seed = number if name.seed is None else name.seed
    points = [point for point in log.points if point.step <= planned]
    broken = list(takewhile(lambda point: not math.isfinite(point.loss), reversed(points)))
    if broken:
        return ResultRow(
            variant=name.variant,
            seed=seed,
            value=None,
            outcome="diverged",
            diverged_at_step=int(broken[-1].step),
        )
    if not points or log.points[-1].step < planned:
        return ResultRow(variant=name.variant, seed=seed, value=None, outcome="failed")
    return ResultRow(variant=name.variant, seed=seed, value=points[-1].loss)


def _refuse_unequal(runs: Sequence[LogRun], unit: str) -> None:
    """Of what is compared at its end, everything must have trained equally long."""
    ends: dict[float, list[LogRun]] = {}
    for run in runs:
        if run.row.outcome != "diverged":
            ends.setdefault(run.planned, []).append(run)
    if len(ends) < 2:
        return
    lines = []
    for end, own in sorted(ends.items()):
        variants = ", ".join(dict.fromkeys(run.row.variant for run in own))
        lines.append(f"{end:g}: {len(own)} run(s) of {variants}, such as {own[0].log.path}")
    raise UserError(
        "\n  ".join(
            [
                f"the runs did not train equally long ({unit}):",
                *lines[:SHOWN],
                "--steps N compares them at a step that all of them have; --unequal-steps says "
                "that they had equal tokens all the same, by batches of another size",
            ]
        )
    )


def _refuse_gaps(runs: Sequence[LogRun], steps: float) -> None:
    gaps = [
        run
        for run in runs
        if not run.row.diverged
        and _last_step(run.log) > steps
        and all(point.step != steps for point in run.log.points)
    ]
    if gaps:
        near = sorted(gaps[0].log.points, key=lambda point: abs(point.step - steps))[:2]
        raise UserError(
            f"--steps {steps:g}: {len(gaps)} of {len(runs)} logs, such as {gaps[0].log.path}, have "
            "no loss at this step: the nearest are "
            f"{' and '.join(f'{point.step:g}' for point in near)}"
        )


def _refuse_copies(logs: Sequence[Log]) -> None:
    """The same losses at every step are one run, which must not count twice."""
    seen: dict[tuple[Point, ...], Log] = {}
    copies = []
    for log in logs:
        curve = tuple(point for point in log.points if math.isfinite(point.loss))
        if len({point.loss for point in curve}) < FEWEST_POINTS_OF_A_COPY:
            continue
        first = seen.setdefault(curve, log)
        if first is not log:
            copies.append(f"{first.path} and {log.path}")
    if copies:
        raise UserError(
            "\n  ".join(
                [
                    "the same losses at every step, so one run would count twice:",
                    *copies[:SHOWN],
                    "leave one of the two out",
                ]
            )
        )


def notes_of(runs: Sequence[LogRun], *, steps: float | None, unit: str) -> Iterator[str]:
    """What was read, and what a reader must know before believing the verdicts."""
    by_name: dict[str, list[LogRun]] = {}
    for run in runs:
        by_name.setdefault(run.row.variant, []).append(run)
    for name, own in by_name.items():
        ends = sorted({run.planned for run in own})
        until = " or ".join(f"{end:g}" for end in ends)
        yield f"{name}: {len(own)} logs, losses at {until} {unit}"
    if unit == "steps":
        yield (
            "equal steps are equal tokens only if the batches were of one size, which a log does "
            "not say"
        )
    cut = sum(run.last_step is not None and run.last_step > run.planned for run in runs)
    if steps is not None and cut:
        yield (
            f"{cut} run(s) went on after step {steps:g}: inside a schedule that still decays, the "
            "loss is not what a run of this length would have reached"
        )
    for name, own in by_name.items():
        yield from _notes_of_variant(name, own)


def _notes_of_variant(name: str, runs: Sequence[LogRun]) -> Iterator[str]:
    """Each thing once, with how many runs it is about and the first of them."""
    if failed := [run for run in runs if run.row.outcome == "failed"]:
        last = failed[0].last_step
        ended = "it has no loss" if last is None else f"it ended at {last:g}"
        there = "" if last is None else f"; --steps {last:g} compares there"
        yield (
            f"{name}: {_about(failed)}: {ended}, not at {failed[0].planned:g}: counts "
            f"as failed{there}. Had it diverged, correct the outcome in what --table writes, and "
            "compare that"
        )
    if diverged := [run for run in runs if run.row.diverged]:
        yield f"{name}: {_about(diverged)}: no number from {diverged[0].row.diverged_at_step} on"
    recovered = [
        run
        for run in runs
        if run.row.completed and any(not math.isfinite(point.loss) for point in run.log.points)
    ]
    if recovered:
        yield f"{name}: {_about(recovered)}: a loss on the way was no number; the last one counts"
    if repeated := [run for run in runs if run.log.repeated]:
        yield (
            f"{name}: {_about(repeated)}: several losses at step {repeated[0].log.repeated[0]:g}: "
            "the last one counts; are all of them the validation loss?"
        )
    if resumed := [run for run in runs if run.log.went_back]:
        start, end = resumed[0].log.went_back[0]
        yield (
            f"{name}: {_about(resumed)}: went back from {start:g} to {end:g}: resumed, the later "
            "lines count"
        )


def _about(runs: Sequence[LogRun]) -> str:
    first = f"seed {runs[0].row.seed}, {runs[0].log.path}"
    return first if len(runs) == 1 else f"{len(runs)} runs, such as {first}"
