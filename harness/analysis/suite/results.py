"""What the analysis of a suite finds: frozen results, and their JSON.

Names of tasks and contestants are in the order of the suite file everywhere; the leaderboard is in
its own order. None stands for what is not known or not finite; the field says why. Costs are what a
run spends until it reaches the task's target, in the suite's measure: optimizer steps, tokens, or
seconds of steady-state training. Lower losses are better.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from harness.analysis.results import plain
from harness.analysis.stats.intervals import Interval
from harness.analysis.stats.verdict import Verdict
from harness.runs.reading import exists, read_values, validated
from harness.study.suite_settings import SuiteSettings

SUITE_SCHEMA_VERSION = 1
REBUILD = "delete it: it is made again from the tasks' results"

SpeedupSource = Literal["horizons", "inside a run", "table"]
Axis = Literal["size", "tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its interval, in the unit that the field names.

    An end is None where that side is open (runs that never arrived), both where nothing varied or
    there are too few seeds for an interval; `unbounded` says that both are open. `level` is the
    coverage that the interval promises.
    """

    value: float
    low: float | None
    high: float | None
    level: float
    unbounded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """One task, its target, and how far it has come.

    `active_parameters` (of the model, those that one token uses) and `tokens` (of one whole run)
    are where the task lies on the axes of scaling; None where a table does not say. `size` and
    `length` are the names that the suite gave them. `target` is the loss that costs are counted to;
    None where each pair has its own (the final loss of the baseline's run of that seed), or where
    there are no costs; `target_in_words` says which. `baseline_cost` is the median over the
    baseline's seeds, None if it did not arrive. `why_not` says why nothing can be decided here yet;
    such a task counts nowhere, and `note` what else a reader must know of it.
    """

    task: str
    active_parameters: float | None
    tokens: float | None
    size: str | None
    length: str | None
    seeds: int
    paired: bool
    unit: str | None
    target: float | None
    target_in_words: str
    baseline_cost: float | None
    why_not: str | None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """How many times less a contestant needs than the baseline; above 1 it needs less.

    `source`: `horizons`: tokens of the baseline, trained at several lengths, for the same final
    loss: the one to quote; `inside a run`: costs to the target within one schedule, which is biased
    in a direction that depends on the schedule; `table`: costs that a table gave. `kind` is `at
    least` or `at most` where runs never arrived, and where a contestant ended beyond the horizons:
    then the one end is all that is known. `value` is None where `why_not` has a reason. The
    interval (`low`, `high`, each None where open) holds with those of all contestants of the task.
    `extrapolated`: the contestant ended below the baseline's longest run, so the law of its
    horizons was read beyond them.
    """

    source: SpeedupSource
    kind: Literal["about", "at least", "at most", "undetermined"]
    value: float | None
    low: float | None
    high: float | None
    level: float
    why_not: str | None = None
    extrapolated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """One contestant on one task.

    `mean_loss` exists only if every run completed. `difference` is contestant - baseline (the unit
    of the task), with the interval that covers together with those of all contestants on all tasks
    at 1 - suite alpha; `adjusted_p` is its dual, adjusted for all of them too: below suite alpha
    exactly where the interval does not contain 0. The verdict is read from the interval. These five
    are None for the baseline. `cost` is the median over seeds, runs that never arrived being the
    worst; None: it did not arrive. `ratio` is cost over the lowest cost of the task (1: the
    fastest); None where `cost` is. `rank` is 1 for the best of the task, ties share their mean
    rank, contestants that lost a run stand last; None where the task has no result.
    """

    task: str
    variant: str
    seeds: int
    completed: int
    diverged: int
    lost: int
    mean_loss: float | None
    difference: float | None
    interval: Interval | None
    adjusted_p: float | None
    verdict: Verdict | None
    sentence: str | None
    cost: float | None
    ratio: float | None
    rank: float | None
    speedup: Speedup | None
    exploratory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One row of the leaderboard. `place` 1 is the best, equal scores share the better place.

    Every estimate is over the tasks with results; its interval is a bootstrap over seeds,
    stratified by task, so it speaks of these tasks only and not of others. Those of different
    contestants do not hold together: the per-task verdicts decide, these describe.

    - `score`: area under the performance profile up to the suite's largest ratio, 0 to 1, over the
      tasks that have costs; the leaderboard is in its order. Without any it is None and `mean_rank`
      orders.
    - `reached`: number of tasks, of those with costs, on which the median run reached the target.
    - `speedup`: geometric mean over tasks of baseline's cost / contestant's cost, medians over
      seeds; None if one of them did not arrive on a task.
    - `iqm_speedup`: the same ratio seed by seed, interquartile mean of its logarithm over all runs
      of all tasks together; None where too many runs never arrived.
    - `iqm_difference`: interquartile mean over all runs of all tasks of the loss minus the
      baseline's; in the tasks' unit, None if they have several.
    - `improvement`: probability that a run of the contestant ends below one of the baseline, mean
      over tasks; 0.5 is no difference.
    - `mean_rank`: over tasks, 1 the best.
    - `better`, `worse`, `equivalent`, `inconclusive`: numbers of tasks by verdict, all of which
      hold together at 1 - suite alpha; None for the baseline. `sentence` says it.
    - `lost`: runs that did not complete, over all tasks; `diverged` of them diverged.
    """

    variant: str
    is_baseline: bool
    place: int
    score: Estimate | None
    reached: int
    tasks: int
    speedup: Estimate | None
    iqm_speedup: Estimate | None
    iqm_difference: Estimate | None
    improvement: Estimate | None
    mean_rank: Estimate | None
    better: int | None
    worse: int | None
    equivalent: int | None
    inconclusive: int | None
    runs: int
    lost: int
    diverged: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A performance profile: a step function of the ratio to the fastest (Dolan and More 2002).

    `shares[i]` is the share of tasks whose cost is at most `ratios[i]` times the lowest, from
    `ratios[i]` on until the next one; `ratios` ascend from 1 to the suite's largest ratio, where
    the last share is repeated. A task that was not reached never enters.
    """

    variant: str
    ratios: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankComparison:
    """Average ranks over tasks, and which contestants they do not separate (Demsar 2006).

    `mean_ranks` by contestant, 1 the best. `friedman_p`: of no difference between any of them.
    `critical_difference`: mean ranks closer than it are not separable (Nemenyi, at suite alpha over
    all pairs). `groups`: the bars of a critical-difference diagram: maximal sets of two or more
    that are not separable, best first. The three are None or empty where `why_not` has a reason.
    `note` says when the result is worth little, such as for fewer than 5 tasks.
    """

    tasks: int
    mean_ranks: dict[str, float]
    friedman_statistic: float | None
    friedman_p: float | None
    critical_difference: float | None
    groups: tuple[tuple[str, ...], ...]
    why_not: str | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPoint:
    """A task as a point of a fit: `value` is the speed-up or the hyperparameter, with the interval
    of its own task where it has one. `active_parameters` and `tokens` as in `TaskInfo`, of tasks
    with one name of `size` or of `length` their geometric mean."""

    task: str
    active_parameters: float | None
    tokens: float | None
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extrapolation:
    """What a fit says of a task larger than any that was trained: no measurement.

    `factor` is by how much `at` lies beyond the largest task, along `axis` (the other axis stays at
    its largest value). `value` has a prediction interval: for one new task, not for the mean line.
    `sentence` says all this.
    """

    axis: Axis
    at: float
    factor: float
    value: Estimate
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFit:
    """`log2 value = intercept + sum over axes of slope * log2 axis`, least squares over the tasks.

    `per_doubling[axis]` is the factor (2^slope) that the value changes by when that axis doubles: 1
    is no change, below 1 a speed-up shrinks as models grow. Its t interval rests on the scatter of
    the tasks around the fit, `degrees_of_freedom` of them; with 1 it is very wide.
    `exponents[axis]` is the slope. `curve` draws the fit: along each axis alone, the other at its
    geometric mean, pairs (axis value, value). `predictions` has the extrapolations, one an axis.
    """

    exponents: dict[Axis, Estimate]
    per_doubling: dict[Axis, Estimate]
    intercept: float
    residual_sd: float
    degrees_of_freedom: int
    curve: dict[Axis, tuple[tuple[float, float], ...]]
    predictions: tuple[Extrapolation, ...]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedupScaling:
    """One contestant's speed-up against size and length. `fit` is None where `why_not` says why."""

    variant: str
    points: tuple[ScalingPoint, ...]
    fit: ScalingFit | None
    why_not: str | None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What it costs to train task `to` with what was tuned on task `source`.

    Read from the search log of `to`: its tried configuration nearest to the one chosen on `source`.
    `distance` is the largest distance of a setting, in shares of its search interval (0: the very
    point was tried). `loss` is that configuration's score minus the chosen one's, in nats, 0 or
    more; None where the nearest did not complete. It is as noisy as the search was.
    """

    source: str
    to: str
    distance: float
    loss: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HyperparameterScaling:
    """One tuned, positive setting of one contestant against size and length.

    `points` hold the chosen value of each task that was tuned. `not_tuned` names tasks whose best
    lay at the edge of the space: their points are bounds rather than optima. `transfers` are the
    same for every setting of a contestant.
    """

    variant: str
    setting: str
    points: tuple[ScalingPoint, ...]
    not_tuned: tuple[str, ...]
    fit: ScalingFit | None
    why_not: str | None
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteAnalysis:
    """All tasks together: the leaderboard, and what it rests on.

    `results` hold every contestant on every task, task by task. `profiles` are empty without costs.
    `measure_in_words` names the costs, such as `steps to the target`. `notes` are what the reader
    must know: what the promise of all verdicts together is, which tasks are missing, and so on.
    """

    name: str
    settings: SuiteSettings
    baseline: str
    variants: tuple[str, ...]
    measure_in_words: str
    tasks: tuple[TaskInfo, ...]
    results: tuple[TaskResult, ...]
    leaderboard: tuple[Standing, ...]
    ordered_by: Literal["score", "mean rank"]
    profiles: tuple[Profile, ...]
    ranks: RankComparison
    speedups: tuple[SpeedupScaling, ...]
    hyperparameters: tuple[HyperparameterScaling, ...]
    notes: tuple[str, ...]

    @property
    def timed_tasks(self) -> int:
        """How many tasks have costs, which the score and speed-ups rest on."""
        return sum(bool(task.target_in_words) for task in self.tasks)

    def result(self, task: str, variant: str) -> TaskResult:
        """Raises KeyError for what is not in the suite."""
        for result in self.results:
            if (result.task, result.variant) == (task, variant):
                return result
        raise KeyError((task, variant))

    def standing(self, variant: str) -> Standing:
        """Raises KeyError for what is not in the suite."""
        for standing in self.leaderboard:
            if standing.variant == variant:
                return standing
        raise KeyError(variant)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps(..., allow_nan=False)`; None stands for undefined."""
        values = asdict(self)
        values["settings"] = self.settings.model_dump(mode="json")
        return {"suite_schema_version": SUITE_SCHEMA_VERSION, **plain(values)}


_ANALYSIS: TypeAdapter[SuiteAnalysis] = TypeAdapter(SuiteAnalysis)


def read_suite_analysis(path: Path) -> SuiteAnalysis | None:
    """The analysis in a suite's analysis.json; None if there is none, or one of another version.

    Raises:
        UserError: the file is damaged.
    """
    if not exists(path):
        return None
    values = read_values(path, REBUILD)
    if values.get("suite_schema_version") != SUITE_SCHEMA_VERSION:
        return None
    return validated(_ANALYSIS, values, path, REBUILD)
