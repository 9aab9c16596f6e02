"""How a result is said: numbers with as many digits as their noise supports, verdicts in words."""

import math

from harness.analysis.stats.equivalence import EquivalenceTest
from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.power import Capability
from harness.analysis.stats.verdict import Verdict

VERDICT_WORDS: dict[Verdict, str] = {
    "better": "is better than",
    "worse": "is worse than",
    "equivalent": "is equivalent to",
    "inconclusive": "is not distinguishable from",
}


def p_value(p: float) -> str:
    """`p = 0.012`, with two digits; `p < 0.0001` below that."""
    if p < 1e-4:
        return "p < 0.0001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.2g}"


def decimals_for(noise: float | None, *, fallback: int = 4) -> int:
    """Decimals that show two digits of the noise, between 2 and 6."""
    if noise is None or not (noise > 0.0 and math.isfinite(noise)):
        return fallback
    return min(6, max(2, 1 - math.floor(math.log10(noise))))


def interval_decimals(interval: Interval | None) -> int:
    """Decimals for an estimate and the ends of its interval."""
    return decimals_for(None if interval is None else (interval.high - interval.low) / 2.0)


def bracket(interval: Interval | None, *, signed: bool = True) -> str:
    """`[-0.35, -0.27]`; empty where there is no interval."""
    if interval is None:
        return ""
    places, sign = interval_decimals(interval), "+" if signed else ""
    return f"[{interval.low:{sign}.{places}f}, {interval.high:{sign}.{places}f}]"


def comparison_sentence(
    *,
    variant: str,
    baseline: str,
    verdict: Verdict,
    difference: float | None,
    interval: Interval | None,
    adjusted_p: float,
    correction: str,
    test: str,
    n: int,
    paired: bool,
    fragile: bool,
    equivalence: EquivalenceTest | None = None,
    unit: str | None = None,
) -> str:
    """`muon is better than adamw: -0.31 nats [-0.35, -0.27], p = 0.0004 (Holm), 5 paired seeds`.

    Without a unit the difference is a bare number: a table of somebody's own may hold anything.
    """
    if difference is None:
        size = test
    else:
        places = interval_decimals(interval)
        named = f"{difference:+.{places}f}" + (f" {unit}" if unit else "")
        size = f"{named} {bracket(interval)}".rstrip()
    seeds = f"{n} {'paired' if paired else 'unpaired'} seeds"
    end = " (fragile)" if fragile else ""
    claim = f"{variant} {VERDICT_WORDS[verdict]} {baseline}"
    support = f"{p_value(adjusted_p)} ({correction})"
    if verdict == "equivalent" and equivalence is not None:
        support = f"{p_value(equivalence.p)} (TOST within {equivalence.margin:.3g})"
    return f"{claim}: {size}, {support}, {seeds}{end}"


def target_sentence(
    *,
    variant: str,
    target: float,
    below: bool,
    mean: float | None,
    upper_bound: float | None,
    adjusted_p: float,
    n: int,
) -> str:
    """`muon is below 3.28: mean 3.2784, upper bound 3.2791, p = 0.0053 (Holm), 7 seeds`."""
    claim = f"{variant} is {'' if below else 'not shown to be '}below {target:g}"
    if mean is None:
        return f"{claim}: not every run has a final value, {n} seeds"
    places = decimals_for(None if upper_bound is None else upper_bound - mean)
    bound = "" if upper_bound is None else f", upper bound {upper_bound:.{places}f}"
    return f"{claim}: mean {mean:.{places}f}{bound}, {p_value(adjusted_p)} (Holm), {n} seeds"


def capability_sentences(plan: Capability) -> list[str]:
    """What a plan's number of seeds can and cannot show."""
    many = f" for each of {plan.comparisons} comparisons" if plan.comparisons > 1 else ""
    share = plan.alpha / plan.comparisons
    can = "it can" if plan.exact_test_can_decide else "it cannot"
    exact = "sign-flip" if plan.design == "paired" else "relabelling"
    size = f"{plan.detectable_in_sigmas:.2f} standard deviations of one run"
    if plan.detectable_difference is not None:
        size += f" ({plan.detectable_difference:.3g} nats at {plan.sigma:.3g} a run)"
    return [
        f"{plan.seeds} {plan.design} seeds{many}: a true difference of {size} is found with "
        f"{100 * plan.power:.4g} % probability; smaller ones are usually missed.",
        f"The smallest p of the exact {exact} test is {plan.minimum_exact_p:.3g}: {can} go below "
        f"{share:.3g} by itself.",
    ]
