"""Estimates, sizes and verdicts of a suite as text."""

from __future__ import annotations

from collections.abc import Callable

from harness.analysis.suite.results import Estimate, Speedup, TaskResult
from harness.report import numbers
from harness.report.verdict_words import SIGNS


def written(found: Estimate | None, write: Callable[[float], str] = numbers.decimal) -> str:
    """`0.92 [0.88, 0.95]`; an end that is open or unknown is a dash."""
    if found is None:
        return numbers.MISSING
    if found.low is None and found.high is None and not found.unbounded:
        return write(found.value)
    ends = [numbers.MISSING if end is None else write(end) for end in (found.low, found.high)]
    return f"{write(found.value)} [{ends[0]}, {ends[1]}]"


def speedup(found: Speedup | None) -> str:
    """`1.31 [1.24, 1.38]`, `at least 1.24`, or a dash; what no run reached is called so.

    A star where it was read inside single runs (`INSIDE`).
    """
    if found is None:
        return numbers.MISSING
    star = "*" if found.source == "inside a run" else ""
    if found.kind in ("at least", "at most"):
        end = found.low if found.kind == "at least" else found.high
        bound = found.value if end is None else end
        return numbers.MISSING if bound is None else f"{found.kind} {bound:.2f}{star}"
    if found.value is None:
        return numbers.MISSING
    value = Estimate(value=found.value, low=found.low, high=found.high, level=found.level)
    return written(value) + star + (", extrapolated" if found.extrapolated else "")


INSIDE = "a star: read inside single runs, which is biased: not to be quoted alone"


UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def short(value: float | None) -> str:
    """A number of parameters or tokens, to three digits: `2.1M`, `530k`."""
    if value is None:
        return numbers.MISSING
    for size, letter in UNITS:
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def verdict_cell(result: TaskResult, *, interval: bool = True) -> str:
    """`▼ −0.051 [−0.062, −0.040]`, with what was lost; a dash where nothing is decided."""
    parts = []
    if result.verdict is not None:
        parts.append(SIGNS[result.verdict])
    if result.difference is not None:
        parts.append(numbers.difference(result.difference))
        if interval and result.interval is not None:
            parts.append(numbers.interval(result.interval))
    if lost := lost_words(result):
        parts.append(lost)
    return " ".join(parts) or numbers.MISSING


def lost_words(result: TaskResult) -> str:
    """`2 diverged, 1 failed of 5`; empty where every run completed."""
    failed = result.lost - result.diverged
    words = [
        f"{count} {word}"
        for count, word in ((result.diverged, "diverged"), (failed, "failed"))
        if count
    ]
    return f"{', '.join(words)} of {result.seeds}" if words else ""


def tone(result: TaskResult) -> str | None:
    """The colour of a cell; what lost a run is seen before what it means."""
    if result.verdict is None:
        return "lost" if result.lost else None
    word = result.verdict.split()[0]
    return {"inconclusive": "lost" if result.lost else None}.get(word, word)
