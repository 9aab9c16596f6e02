"""Each variant's mean against a target fixed in advance, one-sided: is it below?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.analysis.interim import look_shares
from harness.analysis.result_rows import ResultRow
from harness.analysis.results import Look, TargetResult
from harness.analysis.stats.mean_tests import MeanTest, one_sample_t
from harness.analysis.stats.verdict import adjust
from harness.analysis.wording import target_sentence
from harness.study.settings import AnalysisSettings


def read_targets(
    runs: Mapping[str, Sequence[ResultRow]], settings: AnalysisSettings
) -> tuple[TargetResult, ...]:
    """One result for each variant, the baseline too; none without a target.

    The variants share alpha evenly, and the looks spend each share: the claim is read from a
    one-sided bound, and all bounds hold together.
    """
    if settings.target is None:
        return ()
    shares = target_shares(settings, variants=len(runs))
    return tuple(_read(name, rows, settings, shares, len(runs)) for name, rows in runs.items())


def target_shares(settings: AnalysisSettings, *, variants: int) -> tuple[float, ...]:
    """The one-sided error of one variant, at each look."""
    if not settings.looks:
        return (settings.alpha / variants,)
    # The bounds are two-sided and symmetric: twice the error, half of it on either side.
    both = look_shares(settings, comparisons=variants, alpha=2.0 * settings.alpha)
    return tuple(share / 2.0 for share in both)


def _read(
    name: str,
    rows: Sequence[ResultRow],
    settings: AnalysisSettings,
    shares: Sequence[float],
    variants: int,
) -> TargetResult:
    looks = settings.looks or (len(rows),)
    result: TargetResult | None = None
    for number, (seeds, share) in enumerate(zip(looks, shares, strict=True), start=1):
        if seeds > len(rows):
            break
        result = _at(name, rows[:seeds], settings, share=share, variants=variants, number=number)
        if settings.looks:
            look = Look(
                number=number,
                of=len(looks),
                seeds=seeds,
                unused_seeds=len(rows) - seeds,
                nominal_p=share,
                decided=result.below,
                next_look=None if result.below or seeds == looks[-1] else looks[number],
            )
            result = replace(result, look=look)
        if result.below:
            break
    assert result is not None, "fewer seeds than the first look are refused before"
    return result


def _at(
    name: str,
    rows: Sequence[ResultRow],
    settings: AnalysisSettings,
    *,
    share: float,
    variants: int,
    number: int,
) -> TargetResult:
    target = settings.target
    assert target is not None, "targets are read only where there is one"
    values = [row.value for row in rows if row.value is not None]
    test: MeanTest | None = None
    if len(values) == len(rows):
        test = one_sample_t(values, target=target)
    # The end of a two-sided interval at 1 - 2 share is the one-sided bound at 1 - share.
    interval = None if test is None or share <= 0.0 else test.interval(level=1.0 - 2.0 * share)
    mean = None if test is None else test.estimate + target
    bound = None if interval is None else interval.high + target
    p = 1.0 if test is None else test.p
    adjusted = adjust(p, share=share, alpha=settings.alpha)
    below = adjusted < settings.alpha
    parts = [f"adjusted for {variants}"] if variants > 1 else []
    if settings.looks:
        parts.append(f"look {number} of {len(settings.looks)}")
    note = "not every run has a final value: no mean, no claim" if test is None else test.note
    return TargetResult(
        variant=name,
        n=len(rows),
        target=target,
        mean=mean,
        upper_bound=bound,
        p=p,
        adjusted_p=adjusted,
        below=below,
        look=None,
        sentence=target_sentence(
            variant=name,
            target=target,
            below=below,
            mean=mean,
            upper_bound=bound,
            adjusted_p=adjusted,
            correction=", ".join(parts),
            n=len(rows),
        ),
        notes=() if note is None else (note,),
    )
