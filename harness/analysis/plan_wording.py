"""What a plan's seeds can show and what its looks would do, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.power_curve import PowerCurve, Rule
from harness.analysis.proposed_looks import LookPlan
from harness.analysis.stats.power import Capability
from harness.analysis.wording import capability_sentences
from harness.study.settings import AnalysisSettings

UNDECLARED_LOOKS = (
    "Seeds that are added because of what the first ones showed, without declared looks, make "
    "false verdicts more frequent: about 0.09 instead of 0.05 in simulation."
)
NOTHING_TO_COMPARE = "There is one variant only: no comparison is planned."


def curve_sentences(
    curve: PowerCurve, settings: AnalysisSettings, can: Capability
) -> Iterator[str]:
    """What the planned number of seeds can and cannot show."""
    rule = curve.rule
    yield _shared_alpha(rule)
    if rule.known_noise:
        yield _by_z(curve)
    else:
        yield from capability_sentences(can)
    if rule.design == "paired" and not rule.known_noise:
        yield (
            "Nothing is promised of pairing: where a seed moves both runs alike, smaller "
            "differences are found than these."
        )
    yield _about_the_margin(curve, settings)


def _shared_alpha(rule: Rule) -> str:
    together = f"{100 * (1 - rule.alpha):.4g} %"
    if rule.comparisons == 1:
        return f"One comparison: its interval holds at {together}."
    return (
        f"alpha ({rule.alpha:g}) is shared by {rule.comparisons} comparisons: each is read from an "
        f"interval at {100 * (1 - rule.share):.4g} %, so that all of them hold together at "
        f"{together}."
    )


def _by_z(curve: PowerCurve) -> str:
    rule, point = curve.rule, curve.planned_point
    return (
        f"{point.seeds} seeds a side, judged by z with the sigma that the study states "
        f"({rule.sigma:g} nats): a true difference of {point.detectable_in_sigmas:.2f} standard "
        f"deviations of one run ({point.detectable_nats:.3g} nats) is found with "
        f"{100 * rule.power:.4g} % probability; smaller ones are usually missed."
    )


def _about_the_margin(curve: PowerCurve, settings: AnalysisSettings) -> str:
    rule, point = curve.rule, curve.planned_point
    if settings.margin_speedup_percent is not None:
        return (
            "The margin is stated in percent of speed: what it is worth in nats is known once the "
            "baseline has been trained at its horizons, and its power cannot be drawn before."
        )
    if rule.margin is None:
        return "Without a margin nothing can be shown to be equivalent."
    if point.finds_margin is None or point.shows_equivalence is None:
        return "Give --sigma to see whether the margin can be found, and equivalence be shown."
    enough = curve.seeds_that_show_equivalence()
    needed = f"more than {curve.points[-1].seeds} seeds" if enough is None else f"{enough} seeds"
    return (
        f"With {point.seeds} seeds a difference as large as the margin ({rule.margin:g} nats) is "
        f"found with {100 * point.finds_margin:.0f} % probability, and equality is shown to be "
        f"equivalence with {100 * point.shows_equivalence:.0f} %; for {100 * rule.power:.4g} % of "
        f"the latter it takes {needed}."
    )


def look_sentences(found: LookPlan | None, settings: AnalysisSettings, rule: Rule) -> list[str]:
    """What the looks cost and save; where none are declared, the proposal comes first."""
    if found is None:
        return ["So few seeds leave no room for an earlier look.", UNDECLARED_LOOKS]
    last, size = found.looks[-1], f"{found.difference_in_sigmas:.2f} standard deviations"
    if rule.sigma is not None:
        size += f" ({found.difference_in_sigmas * rule.sigma:.3g} nats)"
    gain = (
        f"A true difference of {size} is then found with {100 * found.power:.0f} % probability "
        f"instead of {100 * found.power_once:.4g} %, after {found.expected_seeds:.1f} seeds a side "
        f"on average instead of {last}; one twice as large after "
        f"{found.expected_seeds_at_twice:.1f}."
    )
    if settings.looks:
        return [f"Looks at {_listed(found.looks)} seeds are declared. {gain}", UNDECLARED_LOOKS]
    proposal = (
        f"Proposed: looks at {_listed(found.looks)} seeds, declared before the first run. A "
        f"comparison stops at the look that decides it, and alpha is kept. {gain}"
    )
    return [proposal, UNDECLARED_LOOKS]


def _listed(looks: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, looks[:-1]))} and {looks[-1]}"
