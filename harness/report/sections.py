"""The sections of a report, in the order of the page: the verdict first.

One more section is one more function and one more line in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.analysis.decomposition import decompose
from harness.analysis.horizon_speedup import HorizonSpeedup
from harness.analysis.leak import leaks
from harness.analysis.machines import why_no_times
from harness.analysis.shrinkage import settings_in_force
from harness.analysis.study_results import StudyResults
from harness.report import numbers, tables
from harness.report.elements import (
    Code,
    Details,
    Element,
    Facts,
    FigureImage,
    Paragraph,
    Section,
    Table,
)
from harness.report.methods import methods_paragraphs
from harness.report.references import bibtex, cited, with_citations
from harness.report.verdict_section import MANY, many, verdict_section
from harness.runs.snapshot import TrialSnapshot
from harness.study.study_file import suggested_horizons

MOST_FAILED = 12
"""Trials of which an attempt failed; more are folded."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a section may use: the study with its results, and its figures by name."""

    study: StudyResults
    figures: Mapping[str, FigureImage]
    horizons: tuple[HorizonSpeedup, ...] = ()

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Made once, for the page and for the Markdown."""
        made = (
            Section(anchor=anchor, title=title, blocks=tuple(function(self)))
            for anchor, title, function in SECTIONS
        )
        return tuple(section for section in made if section.blocks)

    def figure(self, name: str) -> Iterator[FigureImage]:
        if name in self.figures:
            yield self.figures[name]


def verdict(material: Material) -> Iterator[Element]:
    yield from verdict_section(material.study, material.figure("forest"))


def results(material: Material) -> Iterator[Element]:
    if not material.study.confirmation:
        return
    yield tables.results(material.study)
    targets = tables.targets(material.study)
    if targets:
        yield targets
    if not many(material.study):
        yield from material.figure("forest")
    yield from material.figure("seed_strip")
    yield from material.figure("comparison")
    changes = tables.changes(material.study)
    if changes:
        yield changes
    measures = tables.measures(material.study)
    few = len(material.study.variants) <= MANY
    yield measures if few else Details(title=measures.title, blocks=(measures,))


def claim(material: Material) -> Iterator[Element]:
    """A claim taken apart, and what a leak would have been worth to it."""
    study = material.study
    if found := decompose(study):
        if sentence := tables.decomposition_sentence(found):
            yield Paragraph(text=sentence, tone="summary")
        yield from material.figure("decomposition")
        yield tables.decomposition(study, found)
    if leaked := leaks(study):
        yield Paragraph(
            text="This study also measured a loss on windows of its own TRAINING text, to show "
            "what a leak is worth. It is no validation loss and decides nothing.",
            tone="warning",
        )
        yield tables.leaked_losses(study, leaked)


def curves(material: Material) -> Iterator[Element]:
    yield from material.figure("loss_curves")
    yield from material.figure("difference_curves")
    yield from material.figure("difference_panels")


def speedups(material: Material) -> Iterator[Element]:
    """By the baseline's other lengths. Crossings inside one schedule are folded: no speed-ups."""
    study, target = material.study, material.study.settings.analysis.target
    goals = (None,) if target is None else (None, target)
    crossings = [block for goal in goals for block in tables.speedup(study, target=goal)]
    if material.horizons:
        yield tables.data_efficiency(study, material.horizons)
    elif crossings and not study.settings.analysis.horizons:
        steps = suggested_horizons(study.settings)
        yield Paragraph(
            text=f"No speed-up is known: it is read from {study.baseline} trained at other lengths "
            f"too. `horizons = {steps}` under [analysis] adds them.",
            tone="note",
        )
    for block in crossings:
        if isinstance(block, Table):
            yield Details(title=f"{block.title}: not a speed-up", blocks=(block,))
        else:
            yield block


def hyperparameters(material: Material) -> Iterator[Element]:
    """The search if there was one, and what the loss does as settings change."""
    study = material.study
    chosen = tables.chosen(study)
    figures = [
        image
        for name in ("sensitivity", "heatmap", "tuning_curves")
        for image in material.figure(name)
    ]
    if chosen and study.search is not None:
        yield Paragraph(text=_about_search(study), tone="note")
        yield chosen
    elif figures:
        yield Paragraph(
            text="Nothing was searched: every variant ran with the settings of the study file. "
            "What follows compares variants that differ in one or two settings.",
            tone="note",
        )
    yield from figures
    lost = tables.search_failures(study)
    if lost:
        yield Details(title=f"{lost.title} ({len(lost.rows)})", blocks=(lost,))


def _about_search(study: StudyResults) -> str:
    assert study.search is not None
    counts = {len(found.configurations) for found in study.search.variants.values()}
    each = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    choose, measure = (
        ", ".join(map(str, seeds))
        for seeds in (study.settings.seeds.tuning, study.settings.seeds.confirmation)
    )
    return (
        f"A {study.search.searcher} search of {each} configurations for each variant. Seeds "
        f"{choose} chose, seeds {measure} measure."
    )


def outcomes(material: Material) -> Iterator[Element]:
    if material.study.confirmation:
        yield tables.outcomes(material.study)
        failures = tables.failures(material.study)
        yield failures or Paragraph(text="Every finished trial completed.", tone="note")
    ledger = tables.ledger(material.study)
    if ledger and material.study.search is not None:
        yield ledger
    elif ledger:
        yield Details(title=ledger.title, blocks=(ledger,))


def speed(material: Material) -> Iterator[Element]:
    """Time and memory, beside what they were measured on and what the machines did."""
    study = material.study
    if facts := tables.machine_facts(study):
        yield Facts(items=facts)
    if any(trial.completed for trial in study.confirmation):
        if why := why_no_times(study):
            yield Paragraph(text=f"{why}.", tone="warning")
        yield tables.speed(study)
        yield from material.figure("time_breakdown")
    if machines := tables.machines(study):
        yield machines
    if failed := tables.failed_attempts(study):
        few = len(failed.rows) <= MOST_FAILED
        yield (
            failed
            if few
            else Details(title=f"{failed.title} ({len(failed.rows)})", blocks=(failed,))
        )


def experts(material: Material) -> Iterator[Element]:
    yield from material.figure("router_load")
    for found in (tables.dead_experts(material.study), tables.expert_movement(material.study)):
        if found:
            yield found


def optimizers(material: Material) -> Iterator[Element]:
    study = material.study
    counters = tables.counters(study)
    if counters:
        yield counters
    folded = tuple(_routes(study))
    if len(folded) > MANY:
        folded = (Details(title="Settings and routes of every variant", blocks=folded),)
    yield from folded


def _routes(study: StudyResults) -> Iterator[Element]:
    for variant in study.variants:
        blocks = [tables.settings(_settings_of(study, variant), "Settings")]
        trial = _with_routes(study.of(variant))
        found = tables.routes(trial) if trial is not None else None
        if found:
            blocks.append(found)
        yield Details(
            title=f"{variant}: settings and routes of the parameters", blocks=tuple(blocks)
        )


def _settings_of(study: StudyResults, variant: str) -> dict[str, Any]:
    values = settings_in_force(study, variant)
    if values.get("schedule") is None:
        values["schedule"] = study.plan.study["training"].get("schedule")
    return values


def _with_routes(trials: tuple[TrialSnapshot, ...]) -> TrialSnapshot | None:
    return next((t for t in trials if t.outcome is not None and t.outcome.routes), None)


def evidence(material: Material) -> Iterator[Element]:
    """Tests in full, pairing, and the plan that was fixed before the first trial."""
    study = material.study
    for found in (tables.statistics_table(study), tables.looks(study), tables.pairing(study)):
        if found:
            yield found
    for comparison in study.comparisons:
        for note in comparison.notes:
            yield Paragraph(text=f"{comparison.variant}: {note}.", tone="note")
    yield tables.certificate(study)
    if computed := tables.arithmetic(study):
        yield computed
    yield Facts(
        items=(
            ("trials in the plan", str(len(study.plan.trials))),
            ("distinct training runs", str(len(study.plan.distinct_keys))),
            ("plan", numbers.short_hash(study.plan.sha256)),
            ("data", numbers.short_hash(study.plan.data_sha256)),
        )
    )
    hashes = {"plan": study.plan.sha256, "data": study.plan.data_sha256}
    yield Details(title="SHA-256 in full", blocks=(tables.settings(hashes, "Hashes"),))


def methods(material: Material) -> Iterator[Element]:
    """What was done, ready for a paper, as soon as something was."""
    study = material.study
    if all(trial.outcome is None for trial in study.trials):
        return
    paragraphs = methods_paragraphs(study)
    yield from (Paragraph(text=with_citations(text)) for text in paragraphs)
    keys = cited(" ".join(paragraphs))
    yield Details(
        title=f"BibTeX of the methods that were used ({len(keys)})",
        blocks=(Code(text=bibtex(keys), language="bibtex"),),
    )
    if study.confirmation:
        yield Paragraph(
            text="Beside this page: results.tex holds the table of results for LaTeX (booktabs), "
            "results.csv every run as one line.",
            tone="note",
        )


def setup(material: Material) -> Iterator[Element]:
    study = material.study
    shared = {
        k: v for k, v in study.plan.study.items() if k not in ("variants", "name", "question")
    }
    yield Details(title="Settings of the study", blocks=(tables.settings(shared),))
    if study.data is not None:
        yield Details(title="Data", blocks=(tables.settings(study.data, "Manifest of the data"),))
    if study.environment is not None:
        yield from _environment(study.environment)
    else:
        yield Paragraph(text="The environment was not recorded.", tone="warning")


def _environment(environment: dict[str, Any]) -> Iterator[Element]:
    packages = environment.get("packages", {})
    machine = {name: value for name, value in environment.items() if name != "packages"}
    yield Details(title="Environment", blocks=(tables.settings(machine, "Where the study ran"),))
    if packages:
        yield Details(
            title=f"Packages ({len(packages)})",
            blocks=(tables.settings({name: packages[name] for name in packages}, "Versions"),),
        )


SECTIONS: tuple[tuple[str, str, Callable[[Material], Iterator[Element]]], ...] = (
    ("verdict", "Verdict", verdict),
    ("results", "Results", results),
    ("claim", "The claim taken apart", claim),
    ("curves", "Training curves", curves),
    ("speedup", "Speed-up", speedups),
    ("hyperparameters", "Hyperparameters", hyperparameters),
    ("outcomes", "Outcomes", outcomes),
    ("speed", "Speed and memory", speed),
    ("experts", "Experts", experts),
    ("optimizers", "Optimizers", optimizers),
    ("evidence", "Evidence", evidence),
    ("methods", "Methods", methods),
    ("setup", "Data, settings, environment", setup),
)
"""Anchor, title and function. A section without blocks is left out."""
