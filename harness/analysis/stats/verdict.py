"""One interval decides: verdict, adjusted p and picture are read from the same interval.

A comparison has a share of the error that the whole study may make: `alpha / K` of K comparisons,
or what a look may spend of it. Its interval at `1 - share` covers the true difference together with
the intervals of all other comparisons in at least `1 - alpha` of all studies (Bonferroni), and
nothing is said that does not follow from it. So the chance of any false claim, of whatever kind, is
at most alpha.

Chosen by simulation over Holm (more power, but no interval that says more than a sign), over max-t
and over Dunnett's pooled noise (both err where variances differ): docs/explanation/verdicts.md.
"""

from dataclasses import dataclass
from typing import Literal

from harness.analysis.stats.arrays import check_level
from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.mean_tests import MeanTest

Verdict = Literal[
    "better by the margin", "better", "equivalent", "inconclusive", "worse", "worse by the margin"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What may be said of one comparison, and the interval that it is read from.

    Each p is adjusted: it is below alpha exactly where the interval makes the claim.

    Args:
        interval: at level 1 - share; None where no noise was observed, for ranks, or at a look that
            is too early to decide anything.
        adjusted_p: of a difference in either direction.
        equivalence_p: of a difference within the margin; None without a margin or an interval.
        margin_p: of a difference of at least the margin, in the direction that was observed; None
            without a margin or an interval.
    """

    verdict: Verdict
    interval: Interval | None
    adjusted_p: float
    equivalence_p: float | None = None
    margin_p: float | None = None


def decide(test: MeanTest, *, share: float, alpha: float, margin: float | None = None) -> Decision:
    """The verdict on a difference of means (variant - baseline; lower is better).

    Args:
        test: of the difference.
        share: two-sided error that this comparison may make, `alpha / K` of K comparisons or the
            nominal p of a look; 0: nothing can be decided yet.
        alpha: error of the whole study; it is what the adjusted p values are compared with.
        margin: smallest difference that matters; None: not stated.
    """
    _check(share, alpha)
    adjusted = adjust(test.p, share=share, alpha=alpha)
    interval = test.interval(level=1.0 - share) if share > 0.0 else None
    if interval is None:
        return Decision(
            verdict=_by_sign(test.estimate, decided=adjusted < alpha),
            interval=None,
            adjusted_p=adjusted,
        )
    if margin is None:
        equivalence_p = margin_p = None
    else:
        # Each end of the interval has half of the share: twice the one-sided p.
        inside = 2.0 * max(test.p_above(-margin), test.p_below(margin))
        beyond = 2.0 * min(test.p_below(-margin), test.p_above(margin))
        equivalence_p = adjust(inside, share=share, alpha=alpha)
        margin_p = adjust(beyond, share=share, alpha=alpha)
    return Decision(
        verdict=_read(interval, margin=margin),
        interval=interval,
        adjusted_p=adjusted,
        equivalence_p=equivalence_p,
        margin_p=margin_p,
    )


def decide_by_p(p: float, *, direction: float, share: float, alpha: float) -> Decision:
    """The verdict of a test without an interval, such as one of ranks.

    Args:
        direction: below 0 where the variant is better.
    """
    _check(share, alpha)
    adjusted = adjust(p, share=share, alpha=alpha)
    verdict = _by_sign(direction, decided=adjusted < alpha)
    return Decision(verdict=verdict, interval=None, adjusted_p=adjusted)


def adjust(p: float, *, share: float, alpha: float) -> float:
    """`min(1, p alpha / share)`: below alpha exactly where p is below its share."""
    return min(1.0, p * alpha / share) if share > 0.0 else 1.0


def _read(interval: Interval, *, margin: float | None) -> Verdict:
    if margin is not None and interval.high < -margin:
        return "better by the margin"
    if margin is not None and interval.low > margin:
        return "worse by the margin"
    if interval.high < 0.0:
        return "better"
    if interval.low > 0.0:
        return "worse"
    if margin is not None and -margin < interval.low and interval.high < margin:
        return "equivalent"
    return "inconclusive"


def _by_sign(direction: float, *, decided: bool) -> Verdict:
    if not decided or direction == 0:
        return "inconclusive"
    return "better" if direction < 0 else "worse"


def _check(share: float, alpha: float) -> None:
    check_level(alpha, name="alpha")
    if not 0.0 <= share <= alpha:
        raise ValueError(f"share ({share}) must lie between 0 and alpha ({alpha})")
