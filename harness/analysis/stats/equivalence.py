"""Equivalence within a practical margin: two one-sided tests (TOST), and what the margin is."""

import math
from dataclasses import dataclass

from harness.analysis.stats.data_efficiency import PowerLaw
from harness.analysis.stats.mean_tests import MeanTest


@dataclass(frozen=True, slots=True, kw_only=True)
class EquivalenceTest:
    """`p` is the larger of the two one-sided p values, of this comparison alone."""

    margin: float
    p: float
    p_above_minus_margin: float
    p_below_plus_margin: float


def tost(test: MeanTest, *, margin: float) -> EquivalenceTest:
    """Whether the difference of means lies inside (-margin, +margin).

    Both `H: difference <= -margin` and `H: difference >= +margin` must be rejected.

    Args:
        test: of the difference; where nothing varied p is 1, not 0.
        margin: half-width in the unit of the values, fixed before the data were seen.

    Raises:
        ValueError: a margin that is not positive.

    Source: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15 (1987) 657-680.
    """
    if not (margin > 0.0 and math.isfinite(margin)):
        raise ValueError(f"margin ({margin}) must be positive and finite")
    above, below = test.p_above(-margin), test.p_below(margin)
    return EquivalenceTest(
        margin=margin,
        p=max(above, below),
        p_above_minus_margin=above,
        p_below_plus_margin=below,
    )


def margin_loss(law: PowerLaw, *, data: float, speedup_percent: float) -> float:
    """The margin in loss that a speed-up is worth: `L(D) - L(D (1 + s / 100))`.

    So much lower is the loss at the end of a schedule that is `s` percent longer. The slope inside
    one decaying run is another quantity: 2.5 times flatter in the quickstart.

    Args:
        law: of the baseline's loss at the end of schedules of several lengths.
        data: D, the length at which variants are compared, in the unit of the law.
        speedup_percent: the smallest speed-up that matters in practice.

    Raises:
        ValueError: a speed-up that is not positive, or a law so flat that it is worth nothing.
    """
    if not speedup_percent > 0.0:
        raise ValueError(f"speedup_percent ({speedup_percent}) must be positive")
    # The floor c cancels, and expm1 keeps the digits of a small share.
    share = -math.expm1(-law.b * math.log1p(speedup_percent / 100.0))
    margin = law.a * math.pow(data, -law.b) * share
    if not (margin > 0.0 and math.isfinite(margin)):
        raise ValueError(
            f"a law of {law.a:g} D^-{law.b:g} gives no margin at D = {data:g}: state the margin in "
            "loss instead"
        )
    return margin
