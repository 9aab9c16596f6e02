"""The sections of a suite's report, in the order of the page: the leaderboard first.

One more section is one more function and one more line in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.analysis.suite.results import TaskInfo
from harness.report import numbers
from harness.report.elements import (
    Code,
    Details,
    Element,
    Facts,
    Link,
    Paragraph,
    Section,
    Table,
)
from harness.report.references import bibtex, cited, with_citations
from harness.report.suite import tables
from harness.report.suite.answer import answer
from harness.report.suite.cost import cost_table
from harness.report.suite.material import SuiteMaterial, ranked
from harness.report.suite.methods import methods_paragraphs
from harness.report.suite.values import short


def sections(material: SuiteMaterial) -> tuple[Section, ...]:
    """Those that have something to show; one for each task among them."""
    made = [
        Section(anchor=anchor, title=title, blocks=tuple(function(material)))
        for anchor, title, function in SECTIONS
    ]
    tasks = [
        Section(
            anchor=f"task-{number}",
            title=f"Task: {task.task}",
            blocks=tuple(_task(material, task)),
        )
        for number, task in enumerate(material.analysis.tasks, start=1)
    ]
    before = [section for section in made if section.anchor not in LAST]
    after = [section for section in made if section.anchor in LAST]
    return tuple(section for section in [*before, *tasks, *after] if section.blocks)


def _figure(material: SuiteMaterial, name: str) -> Iterator[Element]:
    if name in material.figures:
        yield material.figures[name]


def leaderboard(material: SuiteMaterial) -> Iterator[Element]:
    if material.analysis.leaderboard:
        yield tables.leaderboard(material.analysis)
        yield from _figure(material, "leaderboard")


def verdicts(material: SuiteMaterial) -> Iterator[Element]:
    if not material.analysis.leaderboard:
        return
    yield from _figure(material, "verdicts")
    yield tables.verdict_matrix(material.analysis)
    yield from _some(tables.lost(material.analysis))


def profiles(material: SuiteMaterial) -> Iterator[Element]:
    yield from _figure(material, "profiles")
    yield from _some(tables.profiles(material.analysis))


def ranks(material: SuiteMaterial) -> Iterator[Element]:
    yield from _figure(material, "ranks")
    yield from _some(tables.mean_ranks(material.analysis))


def scaling(material: SuiteMaterial) -> Iterator[Element]:
    analysis = material.analysis
    if not any(item.points for item in analysis.speedups):
        return
    yield from _figure(material, "speedup_by_size")
    yield from _figure(material, "speedup_by_length")
    if no_line := tables.why_no_line(analysis.speedups):
        yield from _some(tables.points(analysis))
        yield Paragraph(text=no_line, tone="note")
    else:
        yield from _some(tables.speedups(analysis))
        yield from _folded(tables.points(analysis))


def hyperparameters(material: SuiteMaterial) -> Iterator[Element]:
    yield from _figure(material, "hyperparameters")
    yield from _some(tables.hyperparameters(material.analysis))
    yield from _folded(tables.transfers(material.analysis))


def _some(found: Table | None) -> Iterator[Element]:
    if found is not None:
        yield found


def _folded(found: Table | None) -> Iterator[Element]:
    if found is not None:
        yield Details(title=found.title, blocks=(found,))


def _task(material: SuiteMaterial, task: TaskInfo) -> Iterator[Element]:
    """What the task is, its key table, and the way to its own report."""
    if task.why_not:
        yield Paragraph(text=f"Not decided: {task.why_not.rstrip('.')}.", tone="warning")
    yield Facts(items=tuple(_facts(task)))
    yield tables.task_table(material.analysis, task)
    if task.note:
        yield Paragraph(text=f"{task.note[:1].upper()}{task.note[1:].rstrip('.')}.", tone="note")
    if task.task in material.studies:
        yield Link(
            text=f"The report of {task.task}: curves, search, machines, methods",
            address=f"../tasks/{task.task}/report/index.html",
        )


def _facts(task: TaskInfo) -> Iterator[tuple[str, str]]:
    if task.active_parameters is not None:
        yield "active parameters", _named(short(task.active_parameters), task.size)
    if task.tokens is not None:
        yield "tokens of a run", _named(short(task.tokens), task.length)
    yield "seeds", f"{task.seeds}, {'paired' if task.paired else 'not paired'}"
    if task.target_in_words:
        value = "" if task.target is None else f" ({numbers.quantity(task.target)})"
        yield "target", task.target_in_words + value


def _named(value: str, name: str | None) -> str:
    return value if name is None else f"{value} ({name})"


def cost(material: SuiteMaterial) -> Iterator[Element]:
    if material.studies:
        yield cost_table(material.studies, ranked(material.analysis) or material.analysis.variants)


def methods(material: SuiteMaterial) -> Iterator[Element]:
    paragraphs = methods_paragraphs(material)
    yield from (Paragraph(text=with_citations(text)) for text in paragraphs)
    keys = cited(" ".join(paragraphs))
    yield Details(
        title=f"BibTeX of the methods that were used ({len(keys)})",
        blocks=(Code(text=bibtex(keys), language="bibtex"),),
    )
    yield Paragraph(
        text="Beside this page: leaderboard.csv and results.csv hold its numbers, leaderboard.tex "
        "the table for LaTeX (booktabs).",
        tone="note",
    )


SECTIONS: tuple[tuple[str, str, Callable[[SuiteMaterial], Iterator[Element]]], ...] = (
    ("answer", "Answer", answer),
    ("leaderboard", "Leaderboard", leaderboard),
    ("verdicts", "Verdicts on every task", verdicts),
    ("profiles", "Performance profiles", profiles),
    ("ranks", "Average ranks", ranks),
    ("scaling", "Speed-up against size and length", scaling),
    ("hyperparameters", "Hyperparameters against size", hyperparameters),
    ("cost", "Cost", cost),
    ("methods", "Methods", methods),
)
"""Anchor, title and function. A section without blocks is left out; tasks stand before `LAST`."""
LAST = ("cost", "methods")
