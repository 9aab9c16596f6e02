"""Numbers as the report writes them: one place decides digits, signs and units."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.analysis.stats.intervals import Interval

MISSING = "–"
_MINUS = re.compile(r"(?<![\w.+-])-(?=\d)")


def real_minus(text: str) -> str:
    """The hyphen before a number of a sentence as a minus sign; names such as `adamw-5` stay."""
    return _MINUS.sub("−", text)


def decimals(noise: float | None, *, fallback: int) -> int:
    """Decimals that show two digits of the noise; none at all where it is above 10."""
    if noise is None or not (noise > 0.0 and math.isfinite(noise)):
        return fallback
    return min(6, max(0, 1 - math.floor(math.log10(noise))))


def loss(value: float | None, *, places: int = 4) -> str:
    """Nats; with four decimals where nothing is known about the noise."""
    return MISSING if value is None else f"{value:.{places}f}"


def difference(value: float | None, *, places: int = 4) -> str:
    return MISSING if value is None else f"{value:+.{places}f}".replace("-", "−")


def interval(found: Interval | None) -> str:
    """The interval of a difference, with the decimals of the sentence that tells it."""
    if found is None:
        return MISSING
    # Here, because SciPy takes a second to import, and who waits for a trial needs durations only.
    from harness.analysis.wording import interval_decimals

    low, high = (difference(x, places=interval_decimals(found)) for x in (found.low, found.high))
    return f"[{low}, {high}]"


def probability(value: float | None) -> str:
    """A p value, of two digits: never 0, never more digits than it carries."""
    if value is None:
        return MISSING
    if value < 0.0001:
        return "< 0.0001"
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def exact_probability(value: float | None) -> str:
    """A share of arrangements, such as 2 of 32: three digits, because nothing in it is noise."""
    if value is None:
        return MISSING
    return "< 0.0001" if value < 0.0001 else f"{value:.3g}"


def p_equals(value: float | None) -> str:
    text = probability(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def percent(value: float | None, *, digits: int = 1) -> str:
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def change(value: float | None, *, unit: str = " %", digits: int = 2) -> str:
    """A share as signed percent: `−1.52 %`."""
    return MISSING if value is None else f"{100 * value:+.{digits}f}{unit}".replace("-", "−")


def count(value: float | None) -> str:
    """A whole number with thin spaces between thousands."""
    return MISSING if value is None else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def rate(value: float | None) -> str:
    """A measured speed as a count of three digits: the next ones change from run to run."""
    if value is None or value <= 0.0:
        return count(value)
    return count(round(value, 2 - math.floor(math.log10(value))))


def decimal(value: float | None, *, digits: int = 2) -> str:
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def quantity(value: float | None) -> str:
    """Any number: whole ones as counts, others to four significant digits."""
    if value is None:
        return MISSING
    if float(value).is_integer() and abs(value) < 1e15:
        return count(value)
    return f"{value:.4g}".replace("-", "−")


def duration(seconds: float | None, *, rough: bool = False) -> str:
    """`110 ms`, `9.4 s`, `3 min 05 s`, `2 h 10 min`.

    Args:
        rough: for somebody who waits: whole seconds, and minutes from the first one on.
    """
    if seconds is None:
        return MISSING
    whole = max(0, round(seconds))
    if not rough and seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if not rough and seconds < 120:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def bytes_(value: float | None) -> str:
    if value is None or value <= 0:
        return MISSING
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f} B"


def short_hash(value: str | None) -> str:
    """The first 12 hexadecimal digits."""
    return MISSING if value is None else value[:12]
