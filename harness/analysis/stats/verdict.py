"""The four verdicts."""

from typing import Literal

from harness.analysis.stats.arrays import check_level

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]


def verdict(
    *,
    direction: float,
    adjusted_p: float,
    alpha: float,
    equivalence_p: float | None = None,
) -> Verdict:
    """What may be said.

    Better or worse: adjusted p < alpha, by the sign of the difference (a lower loss is better).
    Otherwise equivalent: the larger p of the two one-sided tests within the margin < alpha.
    Otherwise inconclusive. A difference that is significant yet smaller than the margin is
    "better" or "worse", never also "equivalent".

    Args:
        direction: the difference variant - baseline, or its sign.
        adjusted_p: p after the correction for several comparisons.
        equivalence_p: None if no margin was fixed in advance.
    """
    check_level(alpha, name="alpha")
    if adjusted_p < alpha and direction != 0:
        return "better" if direction < 0 else "worse"
    if equivalence_p is not None and equivalence_p < alpha:
        return "equivalent"
    return "inconclusive"
