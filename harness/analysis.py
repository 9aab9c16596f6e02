"""From a table of results to comparisons with verdicts.

The same code serves the files of a study and anybody's CSV. Rows in, one frozen `Analysis` out;
nothing here reads or writes a file.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import UserError
from harness.result_table import OUTCOMES, ResultRow, by_variant, ends, fingerprints
from harness.sentences import comparison_sentence
from harness.stats.arrays import FRAGILE_SEEDS, MINIMUM_SEEDS
from harness.stats.comparison import RunComparison, compare_runs
from harness.stats.effects import EffectSizes
from harness.stats.equivalence import EquivalenceTest, margin_loss
from harness.stats.intervals import Interval, mean_interval, simultaneous_level
from harness.stats.multiplicity import holm
from harness.stats.pairing import PairingCertificate, certify
from harness.stats.verdict import Verdict, verdict

__all__ = [
    "Analysis",
    "AnalysisSettings",
    "BaselineSlope",
    "Comparison",
    "ResultRow",
    "VariantSummary",
    "analyse",
]

SCHEMA_VERSION = 1


class AnalysisSettings(BaseModel):
    """How the results will be judged, fixed before the first trial starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline: str = Field(description="the variant that the others are compared with")
    alpha: float = Field(
        default=0.05,
        gt=0.0,
        lt=0.5,
        description="probability of any false better or worse, over all comparisons together",
    )
    pairing: Literal["auto", "paired", "unpaired"] = Field(
        default="auto",
        description="auto: paired exactly when the hashes of start and batches prove it",
    )
    margin_speedup_percent: float | None = Field(
        default=None,
        gt=0.0,
        description="smallest speed-up that matters, in percent; converted to nats",
    )
    margin_nats: float | None = Field(
        default=None,
        gt=0.0,
        description="smallest difference that matters, in nats; None: equivalence is not tested",
    )

    @model_validator(mode="after")
    def _one_margin(self) -> AnalysisSettings:
        if self.margin_speedup_percent is not None and self.margin_nats is not None:
            raise ValueError(
                "margin_speedup_percent and margin_nats both given: keep one, they say the same"
            )
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineSlope:
    """What turns a margin in percent of speed into nats: from the baseline's own curve.

    See `harness.stats.equivalence.slope_near_end`.
    """

    steps: int
    loss_per_step: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSummary:
    """One variant over its seeds. Mean, deviation and interval exist only if every run completed.

    `median` counts runs without a final value as the worst; None if half of them or more are.
    """

    variant: str
    seeds: tuple[int, ...]
    n: int
    outcomes: dict[str, int]
    mean: float | None
    sd: float | None
    interval: Interval | None
    median: float | None
    fragile: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One variant against the baseline, over seeds, with a verdict.

    The difference is variant - baseline. `interval` covers this difference alone at 1 - alpha,
    `simultaneous_interval` all differences of the study together (Bonferroni). `p_holm` is what
    the verdict reads. See docs/reference/compare-json.md.
    """

    variant: str
    baseline: str
    n: int
    mean_difference: float | None
    interval: Interval | None
    simultaneous_interval: Interval | None
    test: str
    statistic: float | None
    degrees_of_freedom: float | None
    p: float
    p_holm: float
    exact_p: float
    minimum_exact_p: float
    divergence_p: float
    paired: bool
    pairing_certified: bool
    pairing_reason: str
    effects: EffectSizes
    equivalence: EquivalenceTest | None
    fragile: bool
    verdict: Verdict
    sentence: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Every variant, every comparison and what the reader must know about them."""

    settings: AnalysisSettings
    margin: float | None
    variants: tuple[VariantSummary, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps(..., allow_nan=False)`; None stands for undefined."""
        return {
            "schema_version": SCHEMA_VERSION,
            "settings": self.settings.model_dump(mode="json"),
            "margin": self.margin,
            "variants": [_plain(asdict(summary)) for summary in self.variants],
            "comparisons": [_plain(asdict(comparison)) for comparison in self.comparisons],
            "notes": list(self.notes),
        }


def analyse(
    rows: Sequence[ResultRow],
    settings: AnalysisSettings,
    *,
    slope: BaselineSlope | None = None,
    rng: np.random.Generator | None = None,
) -> Analysis:
    """Compares every variant with the baseline, over seeds.

    Args:
        rows: one a run, in any order; every run of the study, whatever its outcome.
        settings: fixed before the runs started.
        slope: needed if the margin is stated in percent of speed.
        rng: draws the arrangements of exact tests too large to enumerate; left out, the same
            ones every time.

    Raises:
        UserError: duplicates, a missing baseline, nothing to compare, fewer than 3 seeds, pairs
            asked for where seeds are missing, a margin that cannot be computed.
    """
    runs = by_variant(rows)
    _check(runs, settings)
    margin = _margin(settings, slope)
    names = [name for name in runs if name != settings.baseline]
    base = runs[settings.baseline]
    certificates = {name: _certificate(name, runs[name], base, settings) for name in names}
    tested = {
        name: compare_runs(
            ends(runs[name]), ends(base), paired=certificates[name].paired, margin=margin, rng=rng
        )
        for name in names
    }
    adjusted = holm([tested[name].p for name in names])
    comparisons = tuple(
        _comparison(name, tested[name], certificates[name], float(p), settings, len(names))
        for name, p in zip(names, adjusted, strict=True)
    )
    return Analysis(
        settings=settings,
        margin=margin,
        variants=tuple(_summary(name, runs[name], settings.alpha) for name in runs),
        comparisons=comparisons,
        notes=_notes(comparisons, settings),
    )


def _check(runs: Mapping[str, Sequence[ResultRow]], settings: AnalysisSettings) -> None:
    mistakes = []
    for name, own in runs.items():
        counts = Counter(row.seed for row in own)
        if repeated := sorted(seed for seed, count in counts.items() if count > 1):
            mistakes.append(
                f"variant {name!r} has more than one row for seed(s) {repeated}: keep one row a run"
            )
        elif len(own) < MINIMUM_SEEDS:
            mistakes.append(
                f"variant {name!r} has {len(own)} seed(s), at least {MINIMUM_SEEDS} are needed: "
                "run more seeds (8 is a good number, 3 to 5 are fragile)"
            )
    if settings.baseline not in runs:
        mistakes.append(
            f"the baseline {settings.baseline!r} has no results: choose one of {', '.join(runs)}"
            if runs
            else "there are no results: run the study first"
        )
    elif len(runs) == 1:
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


def _certificate(
    name: str, own: Sequence[ResultRow], base: Sequence[ResultRow], settings: AnalysisSettings
) -> PairingCertificate:
    try:
        return certify(fingerprints(own), fingerprints(base), pairing=settings.pairing)
    except ValueError as error:
        raise UserError(f"variant {name!r} against {settings.baseline!r}: {error}") from None


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


def _comparison(
    name: str,
    tested: RunComparison,
    certificate: PairingCertificate,
    adjusted_p: float,
    settings: AnalysisSettings,
    family: int,
) -> Comparison:
    mean_test, equivalence = tested.mean_test, tested.equivalence
    level = 1.0 - settings.alpha
    wide = simultaneous_level(level, comparisons=family)
    interval = None if mean_test is None else mean_test.interval(level=level)
    simultaneous = None if mean_test is None else mean_test.interval(level=wide)
    decision = verdict(
        direction=tested.direction,
        adjusted_p=adjusted_p,
        alpha=settings.alpha,
        equivalence_p=None if equivalence is None else equivalence.p,
    )
    fragile = tested.n <= FRAGILE_SEEDS
    difference = None if mean_test is None else mean_test.estimate
    return Comparison(
        variant=name,
        baseline=settings.baseline,
        n=tested.n,
        mean_difference=difference,
        interval=interval,
        simultaneous_interval=simultaneous,
        test=tested.test,
        statistic=None if mean_test is None else mean_test.statistic,
        degrees_of_freedom=None if mean_test is None else mean_test.degrees_of_freedom,
        p=tested.p,
        p_holm=adjusted_p,
        exact_p=tested.exact_p,
        minimum_exact_p=tested.minimum_exact_p,
        divergence_p=tested.divergence_p,
        paired=certificate.paired,
        pairing_certified=certificate.certified,
        pairing_reason=certificate.reason,
        effects=tested.effects,
        equivalence=equivalence,
        fragile=fragile,
        verdict=decision,
        sentence=comparison_sentence(
            variant=name,
            baseline=settings.baseline,
            verdict=decision,
            difference=difference,
            interval=simultaneous,
            adjusted_p=adjusted_p,
            test=tested.test,
            n=tested.n,
            paired=certificate.paired,
            fragile=fragile,
        ),
        notes=tested.notes,
    )


def _notes(comparisons: Sequence[Comparison], settings: AnalysisSettings) -> tuple[str, ...]:
    level = 1.0 - settings.alpha
    together = "" if len(comparisons) == 1 else f", all {len(comparisons)} together (Bonferroni)"
    notes = [
        f"difference = variant - {settings.baseline}, lower is better; "
        f"intervals in the sentences hold at {100 * level:.4g} %{together}",
    ]
    if any(comparison.fragile for comparison in comparisons):
        notes.append(f"{FRAGILE_SEEDS} seeds or fewer are fragile: one odd run can decide")
    return tuple(notes)


def _plain(value: Any) -> Any:
    """Tuples become lists, NumPy scalars Python ones; a number that is not finite is a bug."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        assert math.isfinite(value), "a result that is not finite must be None"
        return float(value)
    return value
