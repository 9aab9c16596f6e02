"""One log read to its end: every loss with its step, whatever else stands in the file."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.logs.formats import STEP_GROUP, TOTAL_GROUP, LogFormat
from harness.errors import UserError

FIRST_LINES = 3
LONGEST_SHOWN_LINE = 100
GZIP = b"\x1f\x8b"

NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
LONGEST_NUMBER = 40
# The comma of 3,401 may be a decimal one; with a point behind it, or in a count, it is none.
WITH_COMMAS = re.compile(r"\d{1,3}(?:,\d{3})+\.\d+")
COUNT_WITH_COMMAS = re.compile(r"\d{1,3}(?:,\d{3})+")

# `tee` of PowerShell writes UTF-16; everything else is read as UTF-8, and what is not is replaced.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}


@dataclass(frozen=True, slots=True)
class Point:
    """A loss and the step where it was measured, or the number of the match, counted from 1."""

    step: float
    loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What one file says.

    `points` ascend in their steps: where a log goes back, because its run was resumed, the later
    lines count. `total` is the number of steps that were planned, where a line says so.
    `went_back` are the places as (from, to). `repeated` are the steps that had another loss before
    the one that counts. `first_lines` are shown where nothing was found.
    """

    path: Path
    points: tuple[Point, ...]
    total: float | None
    went_back: tuple[tuple[float, float], ...]
    first_lines: tuple[str, ...]
    repeated: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    step: float | None
    loss: float
    total: float | None


def read_log(path: Path, form: LogFormat) -> Log:
    """Reads a log line by line, of any size.

    Raises:
        UserError: the file cannot be read, or a loss or a step in it is no number.
    """
    first: list[str] = []
    try:
        if form.pattern is None:
            found = iter(_of_trainer_state(path))
        else:
            found = _of_lines(path, form, form.pattern, first)
        return _log(path, found, first)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def _log(path: Path, found: Iterator[_Found], first: list[str]) -> Log:
    """`first` fills while `found` is read."""
    points: list[Point] = []
    went_back: list[tuple[float, float]] = []
    repeated: list[float] = []
    total: float | None = None
    for number, match in enumerate(found, start=1):
        step = float(number) if match.step is None else match.step
        if points and step < points[-1].step:
            went_back.append((points[-1].step, step))
        elif points and step == points[-1].step and str(match.loss) != str(points[-1].loss):
            repeated.append(step)
        while points and points[-1].step >= step:
            points.pop()
        points.append(Point(step, match.loss))
        total = match.total if match.total is not None else total
    return Log(
        path=path,
        points=tuple(points),
        total=total,
        went_back=tuple(went_back),
        first_lines=tuple(first),
        repeated=tuple(dict.fromkeys(repeated)),
    )


def _of_lines(
    path: Path, form: LogFormat, pattern: re.Pattern[str], first: list[str]
) -> Iterator[_Found]:
    groups = pattern.groupindex
    # Universal newlines: a progress bar ends its lines with a carriage return alone.
    with path.open(encoding=_encoding(path), errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if len(first) < FIRST_LINES and line.strip():
                first.append(line.strip()[:LONGEST_SHOWN_LINE])
            where = f"{path}, line {number}"
            for match in pattern.finditer(line):
                if match[form.loss_group] is None:
                    continue
                yield _Found(
                    step=_count(match, STEP_GROUP, where) if STEP_GROUP in groups else None,
                    loss=_number(match, form.loss_group, WITH_COMMAS, where),
                    total=_count(match, TOTAL_GROUP, where)
                    if TOTAL_GROUP in groups and match[TOTAL_GROUP] is not None
                    else None,
                )


def _encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(3)
    if start.startswith(GZIP):
        raise UserError(f"{path} is compressed: unpack it with gunzip first")
    marks = (name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark))
    return next(marks, "utf-8")


def _number(match: re.Match[str], group: str, commas: re.Pattern[str], where: str) -> float:
    """What a group found, which must be a number, and all of it."""
    text = (match[group] or "").strip().rstrip(",")
    try:
        number = float(text.replace(",", "") if commas.fullmatch(text) else text)
    except ValueError:
        raise UserError(
            f"{where}: the group {group!r} found {match[group]!r}, which is not a number: narrow "
            "the expression, so that it finds the number alone"
        ) from None
    start, end = match.span(group)
    near = NUMBER.finditer(match.string, max(0, start - LONGEST_NUMBER), end + LONGEST_NUMBER)
    for token in near:
        inside = start <= token.start() and token.end() <= end
        apart = token.end() <= start or end <= token.start()
        if not inside and not apart and float(token[0]) != abs(number):
            raise UserError(
                f"{where}: the group {group!r} found {match[group]!r}, a part of {token[0]}: "
                "change the expression, so that it finds the whole number (a greedy .* in front "
                "of a group eats digits)"
            )
    return number


def _count(match: re.Match[str], group: str, where: str) -> float:
    number = _number(match, group, COUNT_WITH_COMMAS, where)
    if not math.isfinite(number):
        raise UserError(f"{where}: the group {group!r} found {match[group]!r}: no step is that")
    return number


def _of_trainer_state(path: Path) -> list[_Found]:
    """The evaluations in `log_history`.

    Where the run is over, its last evaluation is its end, wherever that lay; where it is not,
    `max_steps` is the end that it has not reached.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8", errors="replace"))
        planned, done = float(values["max_steps"]), float(values["global_step"])
        return [
            _Found(
                step=float(entry["step"]),
                loss=float(entry["eval_loss"]),
                total=planned if done < planned else None,
            )
            for entry in values["log_history"]
            if "eval_loss" in entry
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not a trainer_state.json of Hugging Face's Trainer ({error}): "
            "give that file, or --format hf-trainer for what the Trainer printed"
        ) from None
