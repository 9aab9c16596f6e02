"""How a result is said: numbers with as many digits as their noise supports, verdicts in words."""

import math

from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.power import Capability
from harness.analysis.stats.verdict import Decision, Verdict

VERDICT_WORDS: dict[Verdict, str] = {
    "better by the margin": "is better, by at least the margin, than",
    "better": "is better than",
    "worse": "is worse than",
    "worse by the margin": "is worse, by at least the margin, than",
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
    return decimals_for(_half_width(interval))


def written(value: float | None, *, noise: float | None, sign: str = "") -> str:
    """A number with as many digits as its noise supports: two of the noise, 15 at most.

    Without noise, five digits. As `1.23e-09` where that saves more than four characters.

    Args:
        noise: standard deviation of the value, or half of its interval.
        sign: `+` to show that of positive numbers too.
    """
    if value is None:
        return "-"
    if value == 0.0:
        return f"{value:{sign}.2f}"
    size = abs(value)
    carried = noise if noise is not None and 0.0 < noise < math.inf else size / 1000.0
    # Of the last digit that is shown; double precision has no more than 15.
    last = math.floor(math.log10(max(carried, size * 1e-13))) - 1
    fixed = f"{value:{sign}.{max(0, -last)}f}"
    digits = max(0, math.floor(math.log10(size)) - last)
    scientific = f"{value:{sign}.{digits}e}"
    return scientific if len(scientific) + 4 < len(fixed) else fixed


def bracket(interval: Interval | None, *, signed: bool = True) -> str:
    """`[-0.35, -0.27]`; empty where there is no interval."""
    if interval is None:
        return ""
    sign, noise = "+" if signed else "", _half_width(interval)
    low, high = (written(end, noise=noise, sign=sign) for end in (interval.low, interval.high))
    return f"[{low}, {high}]"


def _half_width(interval: Interval | None) -> float | None:
    return None if interval is None else (interval.high - interval.low) / 2.0


def comparison_sentence(
    *,
    variant: str,
    baseline: str,
    decision: Decision,
    difference: float | None,
    correction: str,
    test: str,
    n: int,
    paired: bool,
    fragile: bool,
    margin: float | None = None,
    unit: str | None = None,
) -> str:
    """`muon is better than adamw: -0.31 nats [-0.35, -0.27], p = 0.0004, 5 paired seeds`.

    Without a unit the difference is a bare number: a table of somebody's own may hold anything.

    Args:
        correction: what the p is adjusted for, such as `adjusted for 18`; empty for nothing.
    """
    if difference is None:
        size = test
    else:
        named = written(difference, noise=_half_width(decision.interval), sign="+")
        named += f" {unit}" if unit else ""
        size = f"{named} {bracket(decision.interval)}".rstrip()
    seeds = f"{n} {'paired' if paired else 'unpaired'} seeds"
    end = " (fragile)" if fragile else ""
    verdict = decision.verdict
    claim = f"{variant} {VERDICT_WORDS[verdict]} {baseline}"
    p = {"equivalent": decision.equivalence_p}.get(verdict, decision.adjusted_p)
    about = [f"within {margin:.3g}"] if verdict == "equivalent" and margin is not None else []
    if verdict in ("better by the margin", "worse by the margin"):
        p, about = decision.margin_p, [f"beyond {margin:.3g}"] if margin is not None else []
    in_brackets = ", ".join([*about, *([correction] if correction else [])])
    support = p_value(1.0 if p is None else p) + (f" ({in_brackets})" if in_brackets else "")
    return f"{claim}: {size}, {support}, {seeds}{end}"


def target_sentence(
    *,
    variant: str,
    target: float,
    below: bool,
    mean: float | None,
    upper_bound: float | None,
    adjusted_p: float,
    correction: str,
    n: int,
) -> str:
    """`muon is below 3.28: mean 3.2784, upper bound 3.2791, p = 0.0053, 7 seeds`."""
    claim = f"{variant} is {'' if below else 'not shown to be '}below {target:g}"
    if mean is None:
        return f"{claim}: not every run has a final value, {n} seeds"
    noise = None if upper_bound is None else upper_bound - mean
    bound = "" if upper_bound is None else f", upper bound {written(upper_bound, noise=noise)}"
    p = p_value(adjusted_p) + (f" ({correction})" if correction else "")
    return f"{claim}: mean {written(mean, noise=noise)}{bound}, {p}, {n} seeds"


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
