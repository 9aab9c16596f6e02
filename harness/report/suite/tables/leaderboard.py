"""The leaderboard, the performance profiles and the average ranks as tables."""

from __future__ import annotations

from bisect import bisect_right

from harness.analysis.suite.results import Profile, Standing, SuiteAnalysis
from harness.report import numbers
from harness.report.elements import Table, left, right, table, wide
from harness.report.suite.material import percent, ranked
from harness.report.suite.values import written

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
        written(row.speedup),
        written(row.iqm_speedup),
        written(row.iqm_difference, SIGNED),
        written(row.improvement),
        written(row.mean_rank),
        *(
            numbers.MISSING if value is None else str(value)
            for value in (row.better, row.worse, row.inconclusive, row.equivalent)
        ),
        f"{row.reached} of {analysis.timed_tasks}" if row.score is not None else numbers.MISSING,
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
