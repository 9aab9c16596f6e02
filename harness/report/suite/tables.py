"""The tables of a suite's report: one function each, from the analysis to text."""

from __future__ import annotations

from bisect import bisect_right

from harness.analysis.suite.results import (
    Axis,
    HyperparameterScaling,
    Profile,
    ScalingFit,
    ScalingPoint,
    Standing,
    SuiteAnalysis,
    TaskInfo,
    TaskResult,
)
from harness.report import numbers
from harness.report.elements import Column, Table, left, right, table, wide
from harness.report.suite.material import percent, ranked
from harness.report.suite.values import (
    arrived,
    lost_words,
    short,
    speedup,
    tone,
    verdict_cell,
    written,
)

SIGNED = numbers.difference


def leaderboard(analysis: SuiteAnalysis) -> Table:
    """Every contestant, the best first; columns that nobody has a value for are left out."""
    rows = [_standing(analysis, standing) for standing in analysis.leaderboard]
    titles = [*left("place", "contestant"), *right(*ESTIMATES), *right(*COUNTS), *left("lost runs")]
    kept = [
        index
        for index, column in enumerate(titles)
        if column.title not in ESTIMATES or any(row[index] != numbers.MISSING for row in rows)
    ]
    return table(
        "Leaderboard",
        [titles[index] for index in kept],
        [[row[index] for index in kept] for row in rows],
        note=leaderboard_note(analysis),
        strong_rows=frozenset(
            index for index, row in enumerate(analysis.leaderboard) if row.is_baseline
        ),
    )


ESTIMATES = (
    "profile area",
    "speed-up",
    "speed-up, IQM",
    "loss − baseline, IQM",
    "P(improvement)",
    "average rank",
)
COUNTS = ("better", "worse", "undecided", "equivalent", "target reached")


def _standing(analysis: SuiteAnalysis, row: Standing) -> list[str]:
    return [
        str(row.place),
        row.variant,
        written(row.score),
        written(arrived(row.speedup)),
        written(arrived(row.iqm_speedup)),
        written(row.iqm_difference, SIGNED),
        written(row.improvement),
        written(row.mean_rank),
        *(
            numbers.MISSING if value is None else str(value)
            for value in (row.better, row.worse, row.inconclusive, row.equivalent)
        ),
        f"{row.reached} of {row.tasks}" if row.score is not None else numbers.MISSING,
        lost_runs(analysis, row),
    ]


def lost_runs(analysis: SuiteAnalysis, row: Standing) -> str:
    """`none of 30`, or `2 diverged, 5 failed of 30, on 2 tasks`."""
    if not row.lost:
        return f"none of {row.runs}"
    tasks = sum(bool(r.lost) for r in analysis.results if r.variant == row.variant)
    failed = row.lost - row.diverged
    words = [
        f"{count} {word}"
        for count, word in ((row.diverged, "diverged"), (failed, "failed"))
        if count
    ]
    return f"{', '.join(words)} of {row.runs}, on {tasks} task{'s' if tasks > 1 else ''}"


def leaderboard_note(analysis: SuiteAnalysis) -> str:
    """How to read the columns, and what they may be quoted for."""
    what = (
        f"the area under the performance profile of {analysis.measure_in_words}, up to "
        f"{analysis.settings.largest_ratio:g} times the fastest"
        if analysis.ordered_by == "score"
        else "the average rank"
    )
    return (
        f"In the order of {what}. Estimates are over all tasks, each task counting alike, with "
        "bootstrap intervals (seeds are drawn again within each task): they describe these tasks "
        "and decide nothing. Better, worse, undecided and equivalent count tasks by their verdict "
        f"against {analysis.baseline}; all verdicts hold together at {percent(analysis)}. IQM: "
        "interquartile mean over all runs of all tasks. P(improvement): how often a run ends below "
        "one of the baseline, mean over tasks. A run that diverged, failed or ran out of memory "
        "never reaches a target and is the worst of its task: it is counted, never left out."
    )


def verdict_matrix(analysis: SuiteAnalysis) -> Table:
    """Contestants down, tasks across: sign, difference and family-wise interval."""
    names = [name for name in ranked(analysis) if name != analysis.baseline]
    tasks = [task.task for task in analysis.tasks]
    results = [[analysis.result(task, name) for task in tasks] for name in names]
    tones = {
        (row, column + 1): found
        for row, own in enumerate(results)
        for column, result in enumerate(own)
        if (found := tone(result)) is not None
    }
    return table(
        "Verdicts",
        [*left("contestant"), *(Column(title=task, align="left") for task in tasks)],
        [
            [name, *(verdict_cell(result) for result in own)]
            for name, own in zip(names, results, strict=True)
        ],
        note=f"Loss minus that of {analysis.baseline}, with the interval that the verdict is read "
        f"from; over all contestants and tasks they hold together at {percent(analysis)}. "
        "▼ better, ▲ worse, = equivalent, ? inconclusive, two signs: by the margin. Where a run "
        "was lost there is no mean and the verdict is one of ranks.",
        tones=tones,
    )


def lost(analysis: SuiteAnalysis) -> Table | None:
    """Every task on which a contestant lost runs, whatever its verdict."""
    rows = [
        (r.task, r.variant, lost_words(r), r.verdict or numbers.MISSING, _rank(r))
        for r in analysis.results
        if r.lost
    ]
    columns = [*left("task", "contestant", "lost runs", "verdict"), *right("rank on the task")]
    return table("Tasks on which runs were lost", columns, rows, note=LOST_NOTE) if rows else None


LOST_NOTE = (
    "A run that diverged, failed or ran out of memory counts as the worst result of its task: it "
    "never reaches the target, and its contestant ranks behind all that completed every run."
)


def profiles(analysis: SuiteAnalysis) -> Table | None:
    """The data of the profiles: the share of tasks at a few ratios, and the area."""
    if not analysis.profiles:
        return None
    largest = analysis.settings.largest_ratio
    ratios = [ratio for ratio in RATIOS if ratio < largest] + [largest]
    found = {profile.variant: profile for profile in analysis.profiles}
    rows = [
        [
            name,
            *(numbers.percent(share_at(found[name], ratio), digits=0) for ratio in ratios),
            written(analysis.standing(name).score),
        ]
        for name in ranked(analysis)
        if name in found
    ]
    return table(
        "Share of tasks solved within a factor of the fastest",
        [*left("contestant"), *right(*(f"≤ {ratio:g}" for ratio in ratios), "area")],
        rows,
    )


RATIOS = (1.0, 1.1, 1.25, 1.5, 2.0, 3.0)


def share_at(profile: Profile, ratio: float) -> float:
    """The step function at `ratio`, at least 1."""
    return profile.shares[bisect_right(profile.ratios, ratio * (1 + 1e-12)) - 1]


def mean_ranks(analysis: SuiteAnalysis) -> Table | None:
    """Average ranks, and whom each contestant is not separated from."""
    found = analysis.ranks
    if not found.mean_ranks:
        return None
    order = sorted(found.mean_ranks, key=lambda name: found.mean_ranks[name])
    rows = []
    for name in order:
        near = {other for group in found.groups if name in group for other in group} - {name}
        same = ", ".join(other for other in order if other in near)
        known = found.critical_difference is not None
        rows.append(
            (
                name,
                numbers.decimal(found.mean_ranks[name]),
                same or ("all others are separated" if known else numbers.MISSING),
            )
        )
    test = ""
    if found.friedman_p is not None:
        test = f"Friedman's test of no difference at all: {numbers.p_equals(found.friedman_p)}."
    if found.why_not:
        test += f" No critical difference: {found.why_not}."
    return table(
        "Average ranks",
        [*left("contestant"), *right("average rank"), wide("not separated from")],
        rows,
        note=test.strip(),
    )


WORDS: dict[Axis, str] = {"size": "when the model doubles", "tokens": "when the run doubles"}


def _per_doubling(fit: ScalingFit | None, axis: Axis) -> str:
    return numbers.MISSING if fit is None else written(fit.per_doubling.get(axis))


def _predicted(fit: ScalingFit | None, axis: Axis) -> str:
    """`1.21 [0.98, 1.50] at 4 times 32M`: what lies beyond is told with how far."""
    found = next((p for p in fit.predictions if p.axis == axis), None) if fit else None
    if found is None:
        return numbers.MISSING
    at = f"{found.factor:.3g}× the largest, {short(found.at)}"
    return f"{written(found.value)} at {at}"


def speedups(analysis: SuiteAnalysis) -> Table | None:
    """The fits of the speed-ups over size and length, with what they extrapolate to."""
    axes = _axes([item.fit for item in analysis.speedups])
    found = {item.variant: item for item in analysis.speedups}
    rows = [
        [
            name,
            str(len(found[name].points)),
            *(_per_doubling(found[name].fit, axis) for axis in axes),
            *(_predicted(found[name].fit, axis) for axis in axes),
            _remark(found[name].fit, found[name].why_not, found[name].note),
        ]
        for name in ranked(analysis)
        if name in found
    ]
    if not rows:
        return None
    beyond = [f"extrapolated over {'size' if axis == 'size' else 'length'}" for axis in axes]
    columns = [*left("contestant"), *right("tasks", *(WORDS[axis] for axis in axes))]
    return table(
        "Speed-up against size and length",
        [*columns, *right(*beyond), wide("remark")],
        rows,
        note="The factor by which the speed-up changes when the model or the run doubles (1: not "
        "at all), by a power law through the tasks, with its t interval. An extrapolation is no "
        "measurement: its interval is for one new task, if the law goes on.",
    )


def _axes(fits: list[ScalingFit | None]) -> list[Axis]:
    known: list[Axis] = ["size", "tokens"]
    return [axis for axis in known if any(fit and axis in fit.per_doubling for fit in fits)]


def _remark(fit: ScalingFit | None, why_not: str | None, note: str | None = None) -> str:
    if why_not:
        return "; ".join(filter(None, (f"no fit: {why_not}", note)))
    return "; ".join(filter(None, (fit.sentence.rstrip(".") if fit else "", note)))


def points(analysis: SuiteAnalysis) -> Table | None:
    """The data of the figures of speed-ups: each contestant on each task."""
    names = [item.variant for item in analysis.speedups]
    rows = [
        [
            task.task,
            short(task.active_parameters),
            short(task.tokens),
            *(speedup(analysis.result(task.task, name).speedup) for name in names),
        ]
        for task in analysis.tasks
    ]
    if not names:
        return None
    columns = [*left("task"), *right("active parameters", "tokens", *names)]
    return table(
        "Speed-up of every contestant on every task", columns, rows, note=_sources(analysis)
    )


SOURCES = {
    "horizons": "tokens, by the baseline's own lengths",
    "inside a run": "read inside one schedule, which is biased: not to be quoted alone",
    "table": "by the costs that the table gave",
}


def _sources(analysis: SuiteAnalysis) -> str:
    used = {r.speedup.source for r in analysis.results if r.speedup is not None}
    ways = [words for source, words in SOURCES.items() if source in used]
    return f"How many times less it needs than {analysis.baseline}: {'; '.join(ways)}."


def hyperparameters(analysis: SuiteAnalysis) -> Table | None:
    """The chosen values of every task, and how they change."""
    found = [item for item in analysis.hyperparameters if item.points]
    if not found:
        return None
    axes = _axes([item.fit for item in found])
    tasks = [task.task for task in analysis.tasks]
    rows = [
        [
            item.variant,
            item.setting,
            *(_chosen(item, task) for task in tasks),
            *(_per_doubling(item.fit, axis) for axis in axes),
            _remark(item.fit, item.why_not),
        ]
        for item in found
    ]
    return table(
        "Tuned settings of each task",
        [
            *left("contestant", "setting"),
            *right(*tasks, *(WORDS[axis] for axis in axes)),
            wide("fit"),
        ],
        rows,
        note="The value that the search of each task chose; a star: at the edge of its space, so "
        "that the optimum may lie beyond. Then the factor by which it changes when the model or "
        "the run doubles.",
    )


def _chosen(item: HyperparameterScaling, task: str) -> str:
    point: ScalingPoint | None = next((p for p in item.points if p.task == task), None)
    if point is None:
        return numbers.MISSING
    return f"{point.value:.4g}" + ("*" if task in item.not_tuned else "")


def transfers(analysis: SuiteAnalysis) -> Table | None:
    """What settings tuned on one task cost on another; once for each contestant."""
    seen: dict[str, HyperparameterScaling] = {}
    for item in analysis.hyperparameters:
        seen.setdefault(item.variant, item)
    rows = [
        (
            item.variant,
            moved.source,
            moved.to,
            numbers.difference(moved.loss) if moved.loss is not None else "did not complete",
            numbers.percent(moved.distance, digits=0),
        )
        for item in seen.values()
        for moved in item.transfers
    ]
    columns = [*left("contestant", "tuned on", "used on"), *right("loss", "distance")]
    return (
        table(
            "What settings of another task cost",
            columns,
            rows,
            note="Read from the search of the task where they are used: its tried configuration "
            "nearest to what the other task chose, against its own best, in nats. The distance is "
            "the largest of any setting, in shares of its space; the loss is as noisy as the "
            "search.",
        )
        if rows
        else None
    )


def task_table(analysis: SuiteAnalysis, task: TaskInfo) -> Table:
    """Every contestant on one task, the best first."""
    own = [analysis.result(task.task, name) for name in analysis.variants]
    own.sort(key=lambda result: (result.rank is None, result.rank or 0.0))
    costs = any(result.cost is not None for result in own)
    columns = [*right("rank"), *left("contestant")]
    columns += right("mean loss", "difference", "interval", "p")
    columns += [*left("verdict"), *right(*[analysis.measure_in_words, "× fastest"] * costs)]
    columns += [*right("speed-up"), *left("lost runs")]
    rows = [
        [
            _rank(r),
            r.variant,
            numbers.loss(r.mean_loss),
            numbers.difference(r.difference),
            numbers.interval(r.interval),
            numbers.probability(r.adjusted_p),
            _verdict(analysis, r),
            *([_cost(r), numbers.decimal(r.ratio)] if costs else []),
            speedup(r.speedup),
            lost_words(r) or f"none of {r.seeds}",
        ]
        for r in own
    ]
    return table(
        f"{task.task}: results",
        columns,
        rows,
        strong_rows=frozenset(i for i, r in enumerate(own) if r.variant == analysis.baseline),
        tones={(i, 6): found for i, r in enumerate(own) if (found := tone(r)) is not None},
    )


def _verdict(analysis: SuiteAnalysis, result: TaskResult) -> str:
    if result.verdict is None:
        return "baseline" if result.variant == analysis.baseline else "none yet"
    return result.verdict + (", exploratory" if result.exploratory else "")


def _rank(result: TaskResult) -> str:
    return numbers.MISSING if result.rank is None else f"{result.rank:g}"


def _cost(result: TaskResult) -> str:
    return "not reached" if result.cost is None else numbers.quantity(result.cost)
