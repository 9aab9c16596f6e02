"""What a suite computed, for a paper: every sentence belongs to something that was done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.analysis.suite.results import SuiteAnalysis
from harness.report.prose import listing, plural
from harness.report.suite.material import SuiteMaterial, percent


def methods_paragraphs(material: SuiteMaterial) -> tuple[str, ...]:
    """Tasks, verdicts, scores, ranks, scaling; citations as keys."""
    analysis = material.analysis
    parts: tuple[Iterable[str], ...] = (
        _tasks(material),
        _lost(analysis),
        _scores(analysis),
        _ranks(analysis),
        _scaling(analysis),
    )
    joined = (" ".join(sentences) for sentences in parts)
    return tuple(paragraph for paragraph in joined if paragraph)


def _tasks(material: SuiteMaterial) -> Iterator[str]:
    analysis = material.analysis
    challengers = [name for name in analysis.variants if name != analysis.baseline]
    family = len(analysis.tasks) * len(challengers)
    yield (
        f"{plural(len(analysis.tasks), 'task')} ({listing([t.task for t in analysis.tasks])}) and "
        f"{plural(len(analysis.variants), 'contestant')}, {analysis.baseline} being the baseline."
    )
    if material.studies:
        yield (
            "Tasks, contestants, seeds and the rules of the analysis were fixed before the first "
            f"run{_changed(material)}. Each task is a study of its own, whose page tells how it "
            "trained and tested."
        )
    yield (
        f"Every contestant was compared with {analysis.baseline} on every task; the {family} "
        f"verdicts are read from intervals that hold together at {percent(analysis)} "
        "(Bonferroni over contestants and tasks) [@dunn1961]."
    )


def _changed(material: SuiteMaterial) -> str:
    """What was not fixed then, as the pages of the tasks tell it."""
    late = [
        task
        for task, study in material.studies.items()
        if study.amendments or any(addition.measured for addition in study.additions)
    ]
    parts = []
    if material.amendments:
        parts.append(
            f"the suite was changed later ({plural(len(material.amendments), 'amendment')})"
        )
    if late:
        parts.append(f"the plan of {listing(late)} was changed or added to later")
    return "".join(f"; {part}" for part in parts)


def _lost(analysis: SuiteAnalysis) -> Iterator[str]:
    yield (
        "A run that diverged, failed or ran out of memory never reaches a target and counts as the "
        "worst result of its task; none was left out."
    )
    lost = sum(row.lost for row in analysis.leaderboard)
    diverged = sum(row.diverged for row in analysis.leaderboard)
    runs = sum(row.runs for row in analysis.leaderboard)
    if lost:
        yield f"Of {runs} runs {lost} were lost, {diverged} of them by divergence."
    elif runs:
        yield f"All {runs} runs completed."


def _scores(analysis: SuiteAnalysis) -> Iterator[str]:
    settings = analysis.settings
    if not analysis.leaderboard:
        return
    if analysis.profiles:
        yield (
            f"Contestants are ordered by the area under their performance profile of "
            f"{analysis.measure_in_words} [@dolan2002], up to {settings.largest_ratio:g} times the "
            "fastest, which is how AlgoPerf scores [@dahl2023]; on each task the median over seeds "
            "counts."
        )
        targets = {task.target_in_words for task in analysis.tasks if task.target_in_words}
        if targets:
            yield f"The target of a task is {listing(sorted(targets))}."
    else:
        yield "Without a target there are no costs: contestants are ordered by average rank."
    yield (
        "Over the runs of all tasks stand the interquartile mean and the probability of "
        "improvement [@agarwal2021], with intervals of "
        f"{settings.resamples} bootstrap resamples of the seeds, stratified by task: percentiles, "
        "expanded for few seeds [@hesterberg2015]. They speak of "
        "these tasks, not of others."
    )


def _ranks(analysis: SuiteAnalysis) -> Iterator[str]:
    if analysis.ranks.friedman_p is not None:
        yield (
            "Average ranks over the tasks were compared by Friedman's test and Nemenyi's critical "
            "difference [@demsar2006]."
        )


def _scaling(analysis: SuiteAnalysis) -> Iterator[str]:
    if any(item.fit for item in analysis.speedups):
        yield (
            "Speed-ups against active parameters and tokens are fitted by least squares in "
            "logarithms; extrapolations carry the prediction interval of one new task and assume "
            "that the power law goes on."
        )
    if analysis.hyperparameters:
        yield "Tuned settings are set against size and length in the same way."
