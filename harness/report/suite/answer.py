"""What a reader of a suite wants first: who leads, by how much it is decided, what is missing."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.suite.results import Standing, SuiteAnalysis
from harness.report import numbers
from harness.report.elements import Element, Facts, Paragraph
from harness.report.prose import listing, plural
from harness.report.suite.cost import spent
from harness.report.suite.material import SuiteMaterial
from harness.report.suite.tables import lost_runs
from harness.report.suite.values import written


def answer_sentence(analysis: SuiteAnalysis) -> str:
    """Who is first over how many tasks, with its score and its verdicts."""
    first = [row for row in analysis.leaderboard if row.place == 1]
    if not first:
        return "No answer yet: no task has a result."
    tasks = plural(first[0].tasks, "task")
    if len(first) > 1:
        names = listing([row.variant for row in first])
        return f"{names} share the first place over {tasks}: {_told(analysis, first[0])}."
    leader = first[0]
    if leader.is_baseline:
        return (
            f"{leader.variant}, the baseline, is first over {tasks}: {_told(analysis, leader)}. "
            f"{_best_challenger(analysis)}"
        ).strip()
    return f"{leader.variant} is first over {tasks}: {_told(analysis, leader)}. {leader.sentence}."


def _told(analysis: SuiteAnalysis, row: Standing) -> str:
    if row.score is not None:
        timed = analysis.timed_tasks
        over = f" over the {plural(timed, 'task')} with costs" if timed < row.tasks else ""
        return f"profile area {written(row.score)}{over}"
    return f"average rank {written(row.mean_rank)}"


def _best_challenger(analysis: SuiteAnalysis) -> str:
    found = next((row for row in analysis.leaderboard if not row.is_baseline), None)
    return "" if found is None else f"The next one: {found.sentence}."


def answer(material: SuiteMaterial) -> Iterator[Element]:
    """The question, the answer, the warnings that belong to it, and the headlines."""
    analysis = material.analysis
    if material.question:
        yield Paragraph(text=material.question, tone="question")
    yield Paragraph(text=answer_sentence(analysis), tone="summary")
    yield from (Paragraph(text=text, tone="warning") for text in warnings(material))
    yield from (Paragraph(text=f"{_sentence(note)}.", tone="note") for note in analysis.notes)
    yield Facts(items=tuple(_headlines(material)))


def warnings(material: SuiteMaterial) -> Iterator[str]:
    """Tasks that are not decided, runs that were lost, and changes of the plan."""
    analysis = material.analysis
    for task in analysis.tasks:
        if task.why_not:
            yield f"{task.task} is not decided: {task.why_not.rstrip('.')}."
    for row in analysis.leaderboard:
        if row.lost:
            where = [result.task for result in material.lost_on(row.variant)]
            yield f"{row.variant} lost runs: {lost_runs(analysis, row)} ({listing(where)})."
    for amendment in material.amendments:
        yield (
            f"The suite was amended on {amendment.when}: {amendment.why}. Changed: "
            + "; ".join(amendment.changes)
        )
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name, study in material.studies.items():
        for own in study.amendments:
            alike.setdefault((own.why, own.changes), []).append(name)
    for (why, changes), tasks in alike.items():
        yield f"The plan of {listing(tasks)} was amended: {why}. Changed: {'; '.join(changes)}"


def _headlines(material: SuiteMaterial) -> Iterator[tuple[str, str]]:
    analysis = material.analysis
    done = sum(task.why_not is None for task in analysis.tasks)
    yield "tasks with a result", f"{done} of {len(analysis.tasks)}"
    yield "contestants", str(len(analysis.variants))
    yield "baseline", analysis.baseline
    runs = sum(row.runs for row in analysis.leaderboard)
    lost = sum(row.lost for row in analysis.leaderboard)
    yield "runs that completed", f"{runs - lost} of {runs}"
    if material.studies:
        found = [spent(material.studies.values(), name) for name in analysis.variants]
        hours = sum(item.search_hours + item.measured_hours for item in found)
        yield "time of all trials", numbers.duration(3600 * hours)
        tokens = sum(item.search_tokens + item.measured_tokens for item in found)
        yield "tokens of all trials", numbers.count(tokens)


def _sentence(note: str) -> str:
    return (note[:1].upper() + note[1:]).replace(" - ", " − ").rstrip(".")
