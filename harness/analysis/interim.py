"""Interim analyses: which runs of a comparison are read, and what error it may make there.

Without looks there is one analysis, of every run. With looks, fixed before the first run, a
comparison is read at each look that its seeds have reached until one decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import stats

from harness.analysis.result_rows import ResultRow
from harness.analysis.results import Look
from harness.analysis.stats.comparison import RunComparison, compare_runs
from harness.analysis.stats.pairing import PairingCertificate, certify
from harness.analysis.stats.sequential import LookBounds, calibrated_bounds, normal_bounds
from harness.analysis.stats.verdict import Decision, decide, decide_by_p
from harness.errors import UserError
from harness.study.settings import AnalysisSettings

CALIBRATION_SEED = 20_250_704
"""Any number, fixed, so that the same looks have the same bounds in every place and at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One comparison with its decision, at the last analysis that there was."""

    certificate: PairingCertificate
    result: RunComparison
    decision: Decision
    look: Look | None = None
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=32)
def look_bounds(looks: tuple[int, ...], *, alpha: float, comparisons: int) -> LookBounds:
    """The nominal p at each look, for one of several comparisons that share alpha evenly.

    Takes seconds the first time (two million studies are drawn).
    """
    rng = np.random.default_rng(CALIBRATION_SEED)
    return calibrated_bounds(looks, rng, alpha=alpha / comparisons)


def look_shares(
    settings: AnalysisSettings, *, comparisons: int, alpha: float | None = None
) -> tuple[float, ...]:
    """The two-sided error that one comparison may make at each look; of several, an even part.

    Args:
        alpha: of all comparisons together; None: that of the settings.
    """
    alpha = settings.alpha if alpha is None else alpha
    looks = settings.looks
    if settings.sigma is not None:
        # A z statistic is normal: its bounds need no simulation.
        fractions = [look / looks[-1] for look in looks]
        z = normal_bounds(fractions, alpha=alpha / comparisons)
        return tuple(float(p) for p in 2.0 * stats.norm.sf(z))
    return look_bounds(looks, alpha=alpha, comparisons=comparisons).nominal_p


def read_comparison(
    own: Sequence[ResultRow],
    base: Sequence[ResultRow],
    *,
    settings: AnalysisSettings,
    comparisons: int,
    margin: float | None,
    rng: np.random.Generator | None,
) -> Reading:
    """The comparison of one variant with the baseline, at once or at its looks.

    Args:
        own, base: the runs of both sides by seed.
        comparisons: with how many others it shares alpha, itself included.
        margin: smallest difference that matters, in the unit of the values.
    """
    if settings.looks:
        return _at_looks(
            own, base, settings=settings, comparisons=comparisons, margin=margin, rng=rng
        )
    certificate = _certificate(own, base, settings)
    result, decision = _judge(
        own,
        base,
        certificate,
        settings=settings,
        share=settings.alpha / comparisons,
        margin=margin,
        rng=rng,
    )
    return Reading(certificate=certificate, result=result, decision=decision)


def _judge(
    own: Sequence[ResultRow],
    base: Sequence[ResultRow],
    certificate: PairingCertificate,
    *,
    settings: AnalysisSettings,
    share: float,
    margin: float | None,
    rng: np.random.Generator | None,
) -> tuple[RunComparison, Decision]:
    result = compare_runs(own, base, paired=certificate.paired, sigma=settings.sigma, rng=rng)
    alpha = settings.alpha
    if result.mean_test is not None:
        return result, decide(result.mean_test, share=share, alpha=alpha, margin=margin)
    direction = result.direction
    return result, decide_by_p(result.p, direction=direction, share=share, alpha=alpha)


def _at_looks(
    own: Sequence[ResultRow],
    base: Sequence[ResultRow],
    *,
    settings: AnalysisSettings,
    comparisons: int,
    margin: float | None,
    rng: np.random.Generator | None,
) -> Reading:
    """The first runs of both sides by seed, up to the look that decides or the last one reached.

    Runs after a decision, and runs on the way to the next look, are not read. Paired or not is
    settled by the seeds of the first look, because the bounds of all looks are made for one test:
    a later look whose seeds are no longer pairs is not judged.
    """
    looks = settings.looks
    first = _certificate(own[: looks[0]], base[: looks[0]], settings)
    shares = look_shares(settings, comparisons=comparisons)
    reading: Reading | None = None
    for number, (seeds, share) in enumerate(zip(looks, shares, strict=True), start=1):
        if seeds > min(len(own), len(base)):
            break
        certificate = _certificate(own[:seeds], base[:seeds], settings)
        broken = first.paired and not certificate.paired
        if not first.paired:
            certificate = replace(first, reason=_as_at_first_look(certificate))
        result, decision = _judge(
            own[:seeds],
            base[:seeds],
            certificate,
            settings=settings,
            share=0.0 if broken else share,
            margin=margin,
            rng=rng,
        )
        decided = decision.verdict != "inconclusive"
        look = Look(
            number=number,
            of=len(looks),
            seeds=seeds,
            unused_seeds=len(own) - seeds,
            nominal_p=share,
            decided=decided,
            next_look=None if decided or seeds == looks[-1] else looks[number],
        )
        reading = Reading(
            certificate=certificate,
            result=result,
            decision=decision,
            look=look,
            notes=tuple(_notes(look, result, broken=broken)),
        )
        if decided:
            break
    assert reading is not None, "fewer seeds than the first look are refused before"
    return reading


def _as_at_first_look(certificate: PairingCertificate) -> str:
    if certificate.paired:
        return "unpaired, as at the first look: the bounds of all looks are made for one test"
    return certificate.reason


def _notes(look: Look, result: RunComparison, *, broken: bool) -> list[str]:
    notes = [
        f"look {look.number} of {look.of}, {look.seeds} seeds: raw p {result.p:.2g} against "
        f"the bound {look.nominal_p:.2g}"
    ]
    if broken:
        notes.append(
            "the first look was paired and the seeds of this look are not: it is not judged, "
            "because its bound was made for pairs"
        )
    if look.unused_seeds:
        why = "after the decision" if look.decided else "on the way to the next look"
        notes.append(f"{look.unused_seeds} seed(s) {why} are not read")
    if look.next_look is not None:
        notes.append(f"not decided yet: the next look is at {look.next_look} seeds")
    if result.mean_test is None:
        notes.append("the bound was calibrated for t statistics, here it judges ranks")
    return notes


def _certificate(
    own: Sequence[ResultRow], base: Sequence[ResultRow], settings: AnalysisSettings
) -> PairingCertificate:
    try:
        return certify(
            {row.seed: row for row in own},
            {row.seed: row for row in base},
            pairing=settings.pairing,
        )
    except ValueError as error:
        where = f"variant {own[0].variant!r} against {settings.baseline!r}"
        raise UserError(f"{where}: {error}") from None
