"""From a table of results to comparisons with verdicts.

The same code serves the files of a study and anybody's CSV. Rows in, one frozen `Analysis` out;
nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.interim import Read, read_all, read_at_looks
from harness.analysis.result_rows import ResultRow, by_variant
from harness.analysis.results import Analysis, Comparison, Look, TargetResult, VariantSummary
from harness.analysis.stats.arrays import FRAGILE_SEEDS, MINIMUM_SEEDS
from harness.analysis.stats.dunnett import block_dunnett
from harness.analysis.stats.equivalence import margin_loss
from harness.analysis.stats.intervals import mean_interval, simultaneous_level
from harness.analysis.stats.mean_tests import one_sample_t
from harness.analysis.stats.multiplicity import holm
from harness.analysis.stats.power import MAXIMUM_SEEDS, seeds_to_settle
from harness.analysis.stats.verdict import verdict
from harness.analysis.wording import comparison_sentence, target_sentence
from harness.errors import UserError
from harness.study.settings import AnalysisSettings
from harness.training.records import OUTCOMES

__all__ = [
    "Analysis",
    "AnalysisSettings",
    "BaselineSlope",
    "Comparison",
    "Look",
    "ResultRow",
    "TargetResult",
    "VariantSummary",
    "analyse",
]

Runs = Mapping[str, Sequence[ResultRow]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSlope:
    """What turns a margin in percent of speed into nats: from the baseline's own curve.

    See `harness.analysis.stats.equivalence.slope_near_end`.
    """

    steps: int
    loss_per_step: float


def analyse(
    rows: Sequence[ResultRow],
    settings: AnalysisSettings,
    *,
    slope: BaselineSlope | None = None,
    rng: np.random.Generator | None = None,
) -> Analysis:
    """Compares every variant with the baseline, over seeds, and with the target if there is one.

    Args:
        rows: one a run, in any order; every run of the study, whatever its outcome.
        settings: fixed before the runs started.
        slope: needed if the margin is stated in percent of speed.
        rng: draws the arrangements of exact tests too large to enumerate; left out, the same
            ones every time.

    Raises:
        UserError: duplicates, a missing baseline, nothing to compare, fewer than 3 seeds (or than
            the first look), pairs asked for where seeds are missing, a margin that cannot be
            computed.
    """
    runs = by_variant(rows)
    _check(runs, settings)
    margin = _margin(settings, slope)
    base = runs[settings.baseline]
    names = [name for name in runs if name != settings.baseline]
    read = read_at_looks if settings.looks else read_all
    reads = {
        name: read(
            runs[name], base, settings=settings, comparisons=len(names), margin=margin, rng=rng
        )
        for name in names
    }
    comparisons = _comparisons(runs, reads, settings, margin)
    return Analysis(
        settings=settings,
        margin=margin,
        variants=tuple(_summary(name, runs[name], settings.alpha) for name in runs),
        comparisons=comparisons,
        targets=_targets(runs, settings),
        notes=tuple(_notes(comparisons, settings)),
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


def _margin(settings: AnalysisSettings, slope: BaselineSlope | None) -> float | None:
    if settings.margin_speedup_percent is None:
        return settings.margin_nats
    if slope is None:
        raise UserError(
            f"margin_speedup_percent ({settings.margin_speedup_percent}) needs the baseline's loss "
            "curve, which a table of final values lacks: state margin_nats instead"
        )
    return margin_loss(
        speedup_percent=settings.margin_speedup_percent,
        steps=slope.steps,
        loss_slope_per_step=slope.loss_per_step,
    )


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
    runs: Runs, reads: Mapping[str, Read], settings: AnalysisSettings, margin: float | None
) -> tuple[Comparison, ...]:
    adjusted = holm([read.result.p for read in reads.values()])
    secondary = _block_dunnett(runs, reads, settings)
    unit = next((row.unit for rows in runs.values() for row in rows), None)
    return tuple(
        _comparison(
            name,
            read,
            p_holm=float(p) if read.adjusted_p is None else read.adjusted_p,
            block_dunnett_p=secondary.get(name),
            settings=settings,
            family=len(reads),
            margin=margin,
            unit=unit,
        )
        for (name, read), p in zip(reads.items(), adjusted, strict=True)
    )


def _block_dunnett(
    runs: Runs, reads: Mapping[str, Read], settings: AnalysisSettings
) -> dict[str, float]:
    """The secondary test, where all variants are paired and complete and there is one look."""
    paired = all(read.certificate.paired and read.result.mean_test for read in reads.values())
    if not reads or not paired or settings.looks:
        return {}
    table = {name: [row.value or 0.0 for row in rows] for name, rows in runs.items()}
    result = block_dunnett([table[name] for name in reads], table[settings.baseline])
    return {} if result is None else dict(zip(reads, result.p, strict=True))


def _comparison(
    name: str,
    read: Read,
    *,
    p_holm: float,
    block_dunnett_p: float | None,
    settings: AnalysisSettings,
    family: int,
    margin: float | None,
    unit: str | None,
) -> Comparison:
    result, certificate, look = read.result, read.certificate, read.look
    mean_test = result.mean_test
    level = 1.0 - settings.alpha
    wide = simultaneous_level(level, comparisons=family) if look is None else 1.0 - look.nominal_p
    simultaneous = None if mean_test is None or wide >= 1.0 else mean_test.interval(level=wide)
    decision = verdict(
        direction=result.direction,
        adjusted_p=p_holm,
        alpha=settings.alpha,
        equivalence_p=None if result.equivalence is None else result.equivalence.p,
    )
    settle: int | None = None
    advice: tuple[str, ...] = ()
    if decision == "inconclusive" and (look is None or look.next_look is None):
        settle, advice = _advice(read, settings, family, margin)
    fragile = result.n <= FRAGILE_SEEDS
    return Comparison(
        variant=name,
        baseline=settings.baseline,
        n=result.n,
        mean_difference=None if mean_test is None else mean_test.estimate,
        interval=None if mean_test is None else mean_test.interval(level=level),
        simultaneous_interval=simultaneous,
        test=result.test,
        statistic=None if mean_test is None else mean_test.statistic,
        degrees_of_freedom=None if mean_test is None else mean_test.degrees_of_freedom,
        p=result.p,
        p_holm=p_holm,
        exact_p=result.exact_p,
        minimum_exact_p=result.minimum_exact_p,
        block_dunnett_p=block_dunnett_p,
        divergence_p=result.divergence_p,
        paired=certificate.paired,
        pairing_certified=certificate.certified,
        pairing_reason=certificate.reason,
        effects=result.effects,
        equivalence=result.equivalence,
        look=look,
        seeds_to_settle=settle,
        fragile=fragile,
        verdict=decision,
        sentence=comparison_sentence(
            variant=name,
            baseline=settings.baseline,
            verdict=decision,
            difference=None if mean_test is None else mean_test.estimate,
            interval=simultaneous,
            adjusted_p=p_holm,
            correction="Holm" if look is None else f"look {look.number} of {look.of}",
            test=result.test,
            n=result.n,
            paired=certificate.paired,
            fragile=fragile,
            equivalence=result.equivalence,
            unit=unit,
        ),
        notes=(*result.notes, *read.notes, *advice),
    )


def _advice(
    read: Read, settings: AnalysisSettings, family: int, margin: float | None
) -> tuple[int | None, tuple[str, ...]]:
    """The seeds that would settle an inconclusive comparison, if its noise is what it seems."""
    test = read.result.mean_test
    if test is None or test.standard_error is None:
        return None, ()
    paired = read.certificate.paired
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
        return None, (f"not even {MAXIMUM_SEEDS} seeds would settle it {how}",)
    return seeds, (f"{seeds} new seeds a side would settle it {how}",)


def _targets(runs: Runs, settings: AnalysisSettings) -> tuple[TargetResult, ...]:
    if settings.target is None:
        return ()
    target = settings.target
    values = {name: [row.value for row in rows] for name, rows in runs.items()}
    tests = {
        name: None
        if any(value is None for value in own)
        else one_sample_t([value for value in own if value is not None], target=target)
        for name, own in values.items()
    }
    adjusted = holm([1.0 if test is None else test.p for test in tests.values()])
    found = []
    for (name, test), p in zip(tests.items(), adjusted, strict=True):
        # The end of a two-sided interval at 1 - 2 alpha is the one-sided bound at 1 - alpha.
        interval = None if test is None else test.interval(level=1.0 - 2.0 * settings.alpha)
        mean = None if test is None else test.estimate + target
        bound = None if interval is None else interval.high + target
        below = float(p) < settings.alpha
        note = "not every run has a final value: no mean, no claim" if test is None else test.note
        found.append(
            TargetResult(
                variant=name,
                n=len(values[name]),
                target=target,
                mean=mean,
                upper_bound=bound,
                p=1.0 if test is None else test.p,
                p_holm=float(p),
                below=below,
                sentence=target_sentence(
                    variant=name,
                    target=target,
                    below=below,
                    mean=mean,
                    upper_bound=bound,
                    adjusted_p=float(p),
                    n=len(values[name]),
                ),
                notes=() if note is None else (note,),
            )
        )
    return tuple(found)


def _notes(comparisons: Sequence[Comparison], settings: AnalysisSettings) -> list[str]:
    notes = []
    if comparisons:
        together = "" if len(comparisons) == 1 else f", all {len(comparisons)} together"
        looks = " over all looks" if settings.looks else ""
        notes.append(
            f"difference = variant - {settings.baseline}, lower is better; intervals in the "
            f"sentences hold at {100 * (1.0 - settings.alpha):.4g} %{together}{looks}"
        )
    if any(comparison.fragile for comparison in comparisons):
        notes.append(f"{FRAGILE_SEEDS} seeds or fewer are fragile: one odd run can decide")
    return notes
