"""Speed-up from single curves: steps, tokens or seconds to a target, with censoring."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.stats.arrays import MINIMUM_SEEDS, FloatArray
from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.mean_tests import MeanTest, paired_t, welch_t

SpeedupKind = Literal["about", "at least", "at most", "undetermined"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSpeedup:
    """`ratio = cost of the baseline / cost of the variant`, the geometric mean over seeds.

    Above 1 the variant is faster. `kind` says how to read it: `at least` where runs of the baseline
    never arrived, `at most` where runs of the variant never did, `undetermined` where both
    happened. `interval` is open (None on one side) where the censoring leaves it open.
    """

    kind: SpeedupKind
    ratio: float | None
    low: float | None
    high: float | None
    level: float
    n: int
    variant_censored: int
    baseline_censored: int
    statement: str


def cost_to_target(costs: ArrayLike, losses: ArrayLike, *, target: float) -> float | None:
    """Where a curve first reaches the target, linear between evaluations; None if it never does.

    Reading crossings inside one run with a decaying learning rate is biased: its slope is steeper
    than the slope between runs that each end there. Prefer
    `harness.analysis.stats.data_efficiency`.

    Args:
        costs: shape (m,), ascending: steps, tokens, or steps times the steady-state step time.
        losses: shape (m,), the validation loss at these points.
    """
    x, y = np.asarray(costs, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or x.size == 0:
        raise ValueError(f"costs {x.shape} and losses {y.shape} must be vectors of one length")
    if np.any(np.diff(x) <= 0.0):
        raise ValueError("costs must ascend")
    arrived = np.flatnonzero(y <= target)
    if arrived.size == 0:
        return None
    first = int(arrived[0])
    if first == 0 or not math.isfinite(y[first - 1]):
        return float(x[first])
    share = (y[first - 1] - target) / (y[first - 1] - y[first])
    return float(x[first - 1] + share * (x[first] - x[first - 1]))


def target_speedup(
    variant: Sequence[float | None],
    baseline: Sequence[float | None],
    *,
    variant_budget: float | Sequence[float],
    baseline_budget: float | Sequence[float],
    paired: bool,
    level: float = 0.95,
    unit: str = "steps",
) -> TargetSpeedup:
    """How many times less the variant spends than the baseline to reach the same target.

    The t interval on `log(cost_baseline / cost_variant)`, paired or Welch. A run that never
    arrived (None) enters with its whole budget, which bounds its true cost from below, so only
    the matching one-sided statement is made, with a one-sided bound at the same level.

    Args:
        variant, baseline: cost to the target by seed, None if the run never arrived.
        variant_budget, baseline_budget: the cost of a whole run, or of each seed's run.
        unit: "steps", "tokens", or "seconds on <hardware>", for the statement.

    Raises:
        ValueError: fewer than 3 seeds, unequal numbers when paired, costs that are not positive or
            above their budget.
    """
    if min(len(variant), len(baseline)) < MINIMUM_SEEDS:
        raise ValueError(
            f"{min(len(variant), len(baseline))} seed(s), at least {MINIMUM_SEEDS} are needed"
        )
    x = _log_costs(variant, budget=variant_budget)
    y = _log_costs(baseline, budget=baseline_budget)
    variant_late = sum(cost is None for cost in variant)
    baseline_late = sum(cost is None for cost in baseline)
    # log(baseline / variant): the baseline takes the place of the variant in the tests.
    test = paired_t(y, x) if paired else welch_t(y, x)
    kind = _kind(variant_late, baseline_late)
    low, high = _ends(test, kind, level)
    ratio = None if kind == "undetermined" else math.exp(test.estimate)
    return TargetSpeedup(
        kind=kind,
        ratio=ratio,
        low=low,
        high=high,
        level=level,
        n=test.n,
        variant_censored=variant_late,
        baseline_censored=baseline_late,
        statement=_statement(kind, ratio, low, high, variant_late, baseline_late, unit),
    )


def _log_costs(costs: Sequence[float | None], *, budget: float | Sequence[float]) -> FloatArray:
    budgets = np.atleast_1d(np.asarray(budget, dtype=np.float64))
    if budgets.size not in (1, len(costs)):
        raise ValueError(f"{budgets.size} budgets for {len(costs)} runs: give one, or one a run")
    budgets = np.broadcast_to(budgets, len(costs))
    arrived = np.array([cost is not None for cost in costs])
    known = np.where(arrived, np.array([cost or 0.0 for cost in costs]), budgets)
    if not (np.isfinite(known).all() and (known > 0.0).all()):
        raise ValueError("costs and budgets must be positive and finite")
    if (known > budgets).any():
        raise ValueError(f"a cost to target is above the budget of its run ({budgets.max():g})")
    return np.asarray(np.log(known), dtype=np.float64)


def _kind(variant_late: int, baseline_late: int) -> SpeedupKind:
    if variant_late and baseline_late:
        return "undetermined"
    if baseline_late:
        return "at least"
    return "at most" if variant_late else "about"


def _ends(test: MeanTest, kind: SpeedupKind, level: float) -> tuple[float | None, float | None]:
    """Ends of the interval of the ratio; a one-sided bound uses the whole error on its side."""
    one_sided = kind in ("at least", "at most")
    interval: Interval | None = test.interval(level=2.0 * level - 1.0 if one_sided else level)
    if interval is None or kind == "undetermined":
        return None, None
    low, high = math.exp(interval.low), math.exp(interval.high)
    return (None if kind == "at most" else low), (None if kind == "at least" else high)


def _statement(
    kind: SpeedupKind,
    ratio: float | None,
    low: float | None,
    high: float | None,
    variant_late: int,
    baseline_late: int,
    unit: str,
) -> str:
    late = f"{variant_late} run(s) of the variant and {baseline_late} of the baseline never arrived"
    if ratio is None:
        return f"the speed-up in {unit} to the target is undetermined: {late}"
    if kind == "at least":
        bound = "" if low is None else f", with confidence above {low:.2f}"
        return f"at least {ratio:.2f} times fewer {unit} to the target{bound}: {late}"
    if kind == "at most":
        bound = "" if high is None else f", with confidence below {high:.2f}"
        return f"at most {ratio:.2f} times fewer {unit} to the target{bound}: {late}"
    ends = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{ratio:.2f}{ends} times fewer {unit} to the target"
