"""What an analysis finds: frozen results, and their JSON.

The JSON is documented field by field in docs/reference/compare-json.md and versioned by
`SCHEMA_VERSION`: a field may be added, but none changes its meaning within a version.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.analysis.stats.effects import EffectSizes
from harness.analysis.stats.equivalence import EquivalenceTest
from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.verdict import Verdict
from harness.runs.reading import exists, read_values, validated
from harness.study.settings import AnalysisSettings

SCHEMA_VERSION = 2


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
class Look:
    """Where a comparison with fixed looks stands.

    `seeds` were used: up to the look that decided, else up to the last look reached.
    `nominal_p` is what the raw p must stay below at this look. `next_look` is None once the
    comparison is decided or the last look is over.
    """

    number: int
    of: int
    seeds: int
    unused_seeds: int
    nominal_p: float
    decided: bool
    next_look: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One variant against the baseline, over seeds, with a verdict.

    The difference is variant - baseline. The verdict is read from `interval`, which covers together
    with those of all other comparisons (and over all looks) at 1 - alpha. `adjusted_p` is its dual:
    below alpha exactly where the interval does not contain 0; so are `equivalence_p` (where it lies
    inside the margin) and `margin_p` (where it lies beyond). `interval_alone` and `p` are those of
    this comparison if there were no other. `exploratory` ones do not keep alpha, because seeds were
    added after results could be seen.
    """

    variant: str
    baseline: str
    n: int
    mean_difference: float | None
    interval: Interval | None
    interval_alone: Interval | None
    test: str
    statistic: float | None
    degrees_of_freedom: float | None
    p: float
    adjusted_p: float
    exact_p: float
    minimum_exact_p: float
    block_dunnett_p: float | None
    divergence_p: float
    paired: bool
    pairing_certified: bool
    pairing_reason: str
    effects: EffectSizes
    equivalence: EquivalenceTest | None
    equivalence_p: float | None
    margin_p: float | None
    look: Look | None
    seeds_to_settle: int | None
    fragile: bool
    verdict: Verdict
    sentence: str
    notes: tuple[str, ...]
    exploratory: bool = False

    @property
    def decisive_p(self) -> float:
        """The adjusted p of what the verdict claims, which is the one in its sentence."""
        p: float | None = self.adjusted_p
        if self.verdict == "equivalent":
            p = self.equivalence_p
        elif self.verdict in ("better by the margin", "worse by the margin"):
            p = self.margin_p
        return self.adjusted_p if p is None else p


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetResult:
    """One variant's mean against a target fixed in advance, one-sided: is it below?

    `upper_bound` is the one-sided upper confidence bound of the mean; the bounds of all variants
    hold together (and over all looks) at 1 - alpha. `adjusted_p` is below alpha exactly where the
    bound is below the target. Without a final value for every seed nothing is claimed: p is 1.
    """

    variant: str
    n: int
    target: float
    mean: float | None
    upper_bound: float | None
    p: float
    adjusted_p: float
    below: bool
    look: Look | None
    sentence: str
    notes: tuple[str, ...]
    exploratory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """Every variant, every comparison and what the reader must know about them."""

    settings: AnalysisSettings
    margin: float | None
    variants: tuple[VariantSummary, ...]
    comparisons: tuple[Comparison, ...]
    targets: tuple[TargetResult, ...]
    notes: tuple[str, ...]

    def seeds_wanted(self) -> dict[str, int]:
        """Variants that a study with looks must train further, and up to how many seeds.

        Those that a comparison or a target still waits for, and the baseline with the comparisons.
        Empty when everything is decided.
        """
        wanted: dict[str, int] = {}
        for comparison in self.comparisons:
            if comparison.look is not None and comparison.look.next_look is not None:
                wanted[comparison.variant] = comparison.look.next_look
        if wanted:
            wanted[self.settings.baseline] = max(wanted.values())
        for target in self.targets:
            if target.look is not None and target.look.next_look is not None:
                wanted[target.variant] = max(wanted.get(target.variant, 0), target.look.next_look)
        return wanted

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps(..., allow_nan=False)`; None stands for undefined."""
        return {
            "schema_version": SCHEMA_VERSION,
            "settings": plain(self.settings.model_dump(mode="json")),
            "margin": self.margin,
            "variants": [plain(asdict(summary)) for summary in self.variants],
            "comparisons": [plain(asdict(comparison)) for comparison in self.comparisons],
            "targets": [plain(asdict(target)) for target in self.targets],
            "notes": list(self.notes),
        }


def plain(value: Any) -> Any:
    """Tuples become lists, NumPy floats Python ones; a number that is not finite is a bug."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        assert math.isfinite(value), "a result that is not finite must be None"
        return float(value)
    return value


REBUILD = "delete it: `optbench report STUDY` makes it again"
_ANALYSIS: TypeAdapter[Analysis] = TypeAdapter(Analysis)


def read_analysis(path: Path) -> Analysis | None:
    """The analysis in analysis.json; None if there is none, or one of another version.

    Raises:
        UserError: the file is damaged.
    """
    if not exists(path):
        return None
    values = read_values(path, REBUILD)
    if values.get("schema_version") != SCHEMA_VERSION:
        return None
    return validated(_ANALYSIS, values, path, REBUILD)
