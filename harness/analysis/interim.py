"""Interim analyses: which runs of a comparison are read, all or up to a look fixed in advance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from harness.analysis.result_rows import ResultRow
from harness.analysis.results import Look
from harness.analysis.stats.comparison import RunComparison, compare_runs
from harness.analysis.stats.pairing import PairingCertificate, certify
from harness.analysis.stats.power import Pairs
from harness.analysis.stats.sequential import LookBounds, calibrated_bounds
from harness.errors import UserError
from harness.study.settings import AnalysisSettings

CALIBRATION_SEED = 20_250_704
"""Any number, fixed, so that the same looks have the same bounds in every place and at any time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One comparison before its verdict.

    `adjusted_p` is None where Holm will adjust, and `p * alpha / nominal_p` at a look.
    """

    certificate: PairingCertificate
    result: RunComparison
    look: Look | None = None
    adjusted_p: float | None = None
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=32)
def look_bounds(
    looks: tuple[int, ...], *, alpha: float, comparisons: int, design: Pairs
) -> LookBounds:
    """The nominal p at each look, for one of several comparisons that share alpha evenly.

    Takes seconds the first time (two million studies are drawn).
    """
    rng = np.random.default_rng(CALIBRATION_SEED)
    return calibrated_bounds(looks, rng, alpha=alpha / comparisons, design=design)


def read_all(
    own: Sequence[ResultRow],
    base: Sequence[ResultRow],
    *,
    settings: AnalysisSettings,
    comparisons: int,
    margin: float | None,
    rng: np.random.Generator | None,
) -> Read:
    """Every run of both sides, judged once; `comparisons` is for the looks only."""
    certificate = _certificate(own, base, settings)
    result = compare_runs(own, base, paired=certificate.paired, margin=margin, rng=rng)
    return Read(certificate=certificate, result=result)


def read_at_looks(
    own: Sequence[ResultRow],
    base: Sequence[ResultRow],
    *,
    settings: AnalysisSettings,
    comparisons: int,
    margin: float | None,
    rng: np.random.Generator | None,
) -> Read:
    """The first runs of both sides by seed, up to the look that decides or the last one reached.

    Runs after a decision, and runs on the way to the next look, are not read. Equivalence is
    tested at the last look only, so it is tested once.
    """
    looks = settings.looks
    available = min(len(own), len(base))
    reached = [look for look in looks if look <= available]
    read: Read | None = None
    for number, seeds in enumerate(reached, start=1):
        read = read_all(
            own[:seeds],
            base[:seeds],
            settings=settings,
            comparisons=comparisons,
            margin=margin if seeds == looks[-1] else None,
            rng=rng,
        )
        design: Pairs = "paired" if read.certificate.paired else "unpaired"
        bounds = look_bounds(looks, alpha=settings.alpha, comparisons=comparisons, design=design)
        nominal = bounds.nominal_p[number - 1]
        decided = read.result.p < nominal and read.result.direction != 0
        upcoming = None if decided or seeds == looks[-1] else looks[number]
        look = Look(
            number=number,
            of=len(looks),
            seeds=seeds,
            unused_seeds=len(own) - seeds,
            nominal_p=nominal,
            decided=decided,
            next_look=upcoming,
        )
        read = replace(
            read,
            look=look,
            adjusted_p=min(1.0, read.result.p * settings.alpha / nominal) if nominal else 1.0,
            notes=tuple(_notes(look, read)),
        )
        if decided:
            break
    assert read is not None, "fewer seeds than the first look are refused before"
    return read


def _notes(look: Look, read: Read) -> list[str]:
    notes = [
        f"look {look.number} of {look.of}, {look.seeds} seeds: raw p {read.result.p:.2g} against "
        f"the bound {look.nominal_p:.2g}"
    ]
    if look.unused_seeds:
        why = "after the decision" if look.decided else "on the way to the next look"
        notes.append(f"{look.unused_seeds} seed(s) {why} are not read")
    if look.next_look is not None:
        notes.append(f"not decided yet: the next look is at {look.next_look} seeds")
    if read.result.mean_test is None:
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
