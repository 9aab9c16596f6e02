"""From a table of results to comparisons with verdicts.

The same code serves the files of a study and any CSV of final losses. Rows in, one frozen
`Analysis` out; nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from harness.analysis.interim import Reading, read_comparison
from harness.analysis.result_rows import ResultRow, by_variant
from harness.analysis.results import Analysis, Comparison, Look, TargetResult, VariantSummary
from harness.analysis.stats.arrays import FRAGILE_SEEDS, MINIMUM_SEEDS
from harness.analysis.stats.dunnett import block_dunnett
from harness.analysis.stats.equivalence import tost
from harness.analysis.stats.intervals import mean_interval
from harness.analysis.stats.power import MAXIMUM_SEEDS, seeds_to_settle
from harness.analysis.targets import read_targets
from harness.analysis.wording import comparison_sentence
from harness.errors import UserError
from harness.study.settings import AnalysisSettings
from harness.training.records import OUTCOMES

Runs = Mapping[str, Sequence[ResultRow]]


def analyse(
    rows: Sequence[ResultRow],
    settings: AnalysisSettings,
    *,
    margin: float | None = None,
    rng: np.random.Generator | None = None,
) -> Analysis:
    """Compares every variant with the baseline, over seeds, and with the target if there is one.

    Args:
        rows: one a run, in any order; every run of the study, whatever its outcome.
        settings: fixed before the runs started.
        margin: what a margin in percent of speed is worth in nats; needed if it is stated so.
        rng: draws the arrangements of exact tests too large to enumerate; left out, the same
            ones every time.

    Raises:
        UserError: duplicates, a missing baseline, nothing to compare, fewer than 3 seeds (or than
            the first look), pairs asked for where seeds are missing, a margin that is not known.
    """
    runs = by_variant(rows)
    _check(runs, settings)
    margin = _margin(settings, margin)
    base = runs[settings.baseline]
    names = [name for name in runs if name != settings.baseline]
    readings = {
        name: read_comparison(
            runs[name], base, settings=settings, comparisons=len(names), margin=margin, rng=rng
        )
        for name in names
    }
    comparisons = _comparisons(runs, readings, settings, margin)
    targets = read_targets(runs, settings)
    return Analysis(
        settings=settings,
        margin=margin,
        variants=tuple(_summary(name, runs[name], settings.alpha) for name in runs),
        comparisons=comparisons,
        targets=targets,
        notes=tuple(_notes(comparisons, targets, settings)),
    )


def _check(runs: Runs, settings: AnalysisSettings) -> None:
    needed = settings.looks[0] if settings.looks else MINIMUM_SEEDS
    mistakes = []
    for name, own in runs.items():
        counts = Counter(row.seed for row in own)
        if repeated := sorted(seed for seed, count in counts.items() if count > 1):
            mistakes.append(
                f"variant {name!r} has more than one row for seed(s) {repeated}: keep one row a run"
            )
        elif len(own) < needed:
            why = "for the first look " if settings.looks else ""
            mistakes.append(
                f"variant {name!r} has {len(own)} seed(s), at least {needed} are needed {why}"
                "to say anything: run more seeds (8 is a good number, 3 to 5 are fragile)"
            )
    units = sorted({row.unit or "none" for own in runs.values() for row in own})
    if len(units) > 1:
        mistakes.append(f"values in {', '.join(units)} cannot be compared: use one unit")
    if settings.baseline not in runs:
        mistakes.append(
            f"the baseline {settings.baseline!r} has no results: choose one of {', '.join(runs)}"
            if runs
            else "there are no results: run the study first"
        )
    elif len(runs) == 1 and settings.target is None:
        mistakes.append(
            f"only one variant, {settings.baseline!r}: a comparison needs at least one more"
        )
    if mistakes:
        raise UserError("\n".join(mistakes))


def _margin(settings: AnalysisSettings, converted: float | None) -> float | None:
    if settings.margin_speedup_percent is None:
        return settings.margin_nats
    if converted is None:
        raise UserError(
            f"margin_speedup_percent ({settings.margin_speedup_percent}) needs the baseline's loss "
            "at several lengths, which a table of final values lacks: state margin_nats instead"
        )
    return converted


def _summary(name: str, rows: Sequence[ResultRow], alpha: float) -> VariantSummary:
    values = np.array([math.inf if row.value is None else row.value for row in rows])
    complete = bool(np.isfinite(values).all())
    median = float(np.median(values))
    return VariantSummary(
        variant=name,
        seeds=tuple(row.seed for row in rows),
        n=len(rows),
        outcomes={word: sum(row.outcome == word for row in rows) for word in OUTCOMES},
        mean=float(values.mean()) if complete else None,
        sd=float(values.std(ddof=1)) if complete else None,
        interval=mean_interval(values, level=1.0 - alpha) if complete else None,
        median=median if math.isfinite(median) else None,
        fragile=len(rows) <= FRAGILE_SEEDS,
    )


def _comparisons(
    runs: Runs, readings: Mapping[str, Reading], settings: AnalysisSettings, margin: float | None
) -> tuple[Comparison, ...]:
    secondary = _block_dunnett(runs, readings, settings)
    unit = next((row.unit for rows in runs.values() for row in rows), None)
    return tuple(
        _comparison(
            name,
            reading,
            block_dunnett_p=secondary.get(name),
            settings=settings,
            family=len(readings),
            margin=margin,
            unit=unit,
        )
        for name, reading in readings.items()
    )


def _block_dunnett(
    runs: Runs, readings: Mapping[str, Reading], settings: AnalysisSettings
) -> dict[str, float]:
    """The secondary test, where all variants are paired and complete and there is one look."""
    paired = all(
        reading.certificate.paired and reading.result.mean_test for reading in readings.values()
    )
    if not readings or not paired or settings.looks:
        return {}
    table = {name: [row.value or 0.0 for row in rows] for name, rows in runs.items()}
    result = block_dunnett([table[name] for name in readings], table[settings.baseline])
    return {} if result is None else dict(zip(readings, result.p, strict=True))


def _comparison(
    name: str,
    reading: Reading,
    *,
    block_dunnett_p: float | None,
    settings: AnalysisSettings,
    family: int,
    margin: float | None,
    unit: str | None,
) -> Comparison:
    result, certificate, look = reading.result, reading.certificate, reading.look
    decision, test = reading.decision, result.mean_test
    settle: int | None = None
    advice: tuple[str, ...] = ()
    if decision.verdict == "inconclusive" and (look is None or look.next_look is None):
        settle, advice = _advice(reading, settings, family, margin)
    fragile = result.n <= FRAGILE_SEEDS
    freedom = None if test is None else test.degrees_of_freedom
    return Comparison(
        variant=name,
        baseline=settings.baseline,
        n=result.n,
        mean_difference=None if test is None else test.estimate,
        interval=decision.interval,
        interval_alone=None if test is None else test.interval(level=1.0 - settings.alpha),
        test=result.test,
        statistic=None if test is None else test.statistic,
        degrees_of_freedom=freedom if freedom is not None and math.isfinite(freedom) else None,
        p=result.p,
        adjusted_p=decision.adjusted_p,
        exact_p=result.exact_p,
        minimum_exact_p=result.minimum_exact_p,
        block_dunnett_p=block_dunnett_p,
        divergence_p=result.divergence_p,
        paired=certificate.paired,
        pairing_certified=certificate.certified,
        pairing_reason=certificate.reason,
        effects=result.effects,
        equivalence=None if test is None or margin is None else tost(test, margin=margin),
        equivalence_p=decision.equivalence_p,
        margin_p=decision.margin_p,
        look=look,
        seeds_to_settle=settle,
        fragile=fragile,
        verdict=decision.verdict,
        sentence=comparison_sentence(
            variant=name,
            baseline=settings.baseline,
            decision=decision,
            difference=None if test is None else test.estimate,
            correction=_correction(look, family),
            test=result.test,
            n=result.n,
            paired=certificate.paired,
            fragile=fragile,
            margin=margin,
            unit=unit,
        ),
        notes=(*result.notes, *reading.notes, *advice),
    )


def _correction(look: Look | None, family: int) -> str:
    """What an adjusted p is adjusted for."""
    parts = [f"adjusted for {family}"] if family > 1 else []
    if look is not None:
        parts.append(f"look {look.number} of {look.of}")
    return ", ".join(parts)


def _advice(
    reading: Reading, settings: AnalysisSettings, family: int, margin: float | None
) -> tuple[int | None, tuple[str, ...]]:
    """The seeds that would settle an inconclusive comparison, if its noise is what it seems."""
    test = reading.result.mean_test
    if test is None or test.standard_error is None:
        return None, ()
    paired = reading.certificate.paired and settings.sigma is None
    seeds = seeds_to_settle(
        test.estimate,
        sd=test.standard_error * math.sqrt(test.n if paired else test.n / 2.0),
        alpha=settings.alpha,
        comparisons=family,
        power=settings.power,
        margin=margin,
        design="paired" if paired else "unpaired",
    )
    how = f"with {100 * settings.power:.4g} % probability, if difference and noise stay as observed"
    if seeds is None:
        return None, (f"not even {MAXIMUM_SEEDS} seeds a side would settle it {how}",)
    return seeds, (
        f"{seeds} fresh seeds a side would settle it {how}: in a new study, or in one whose looks "
        "are declared before its first run. Seeds added to this one because of what it shows "
        "would make false verdicts more frequent than alpha",
    )


def _notes(
    comparisons: Sequence[Comparison],
    targets: Sequence[TargetResult],
    settings: AnalysisSettings,
) -> list[str]:
    """What all verdicts together promise, stated once."""
    notes = []
    level, looks = (
        f"{100 * (1.0 - settings.alpha):.4g} %",
        " over all looks" if settings.looks else "",
    )
    if comparisons:
        together = "" if len(comparisons) == 1 else f", all {len(comparisons)} together"
        notes.append(
            f"difference = variant - {settings.baseline}, lower is better; intervals hold at "
            f"{level}{together}{looks}, and every verdict is read from its interval"
        )
    if targets:
        together = "" if len(targets) == 1 else f", all {len(targets)} together"
        notes.append(
            f"upper bounds against the target are one-sided and hold at {level}{together}{looks}"
        )
    if any(comparison.fragile for comparison in comparisons):
        notes.append(f"{FRAGILE_SEEDS} seeds or fewer are fragile: one odd run can decide")
    return notes
