"""The sections of a report, in the order of the page: the verdict first.

One more section is one more function and one more line in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.report import tables
from harness.report.answer import MANY, answer
from harness.report.blocks import (
    Block,
    Details,
    Facts,
    FigureImage,
    Paragraph,
    Section,
)
from harness.report.horizons import HorizonSpeedup
from harness.report.tuned import settings_in_force
from harness.report.view import StudyView, TrialView


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a section may use: the study, its figures by name, and why there is no analysis."""

    view: StudyView
    figures: Mapping[str, FigureImage]
    analysis_error: str | None = None
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


def verdict(material: Material) -> Iterator[Block]:
    yield from answer(material.view, error=material.analysis_error)


def results(material: Material) -> Iterator[Block]:
    if not material.view.confirmation:
        return
    yield tables.results(material.view)
    targets = tables.targets(material.view)
    if targets:
        yield targets
    yield from material.figure("forest")
    yield from material.figure("seed_strip")
    yield from material.figure("comparison")
    changes = tables.changes(material.view)
    if changes:
        yield changes
    measures = tables.measures(material.view)
    few = len(material.view.variants) <= MANY
    yield measures if few else Details(title=measures.title, blocks=(measures,))


def curves(material: Material) -> Iterator[Block]:
    yield from material.figure("loss_curves")
    yield from material.figure("difference_curves")
    yield from material.figure("difference_panels")


def speedups(material: Material) -> Iterator[Block]:
    """To the baseline's final loss and, if the study named one, to its target."""
    if material.horizons:
        yield tables.data_efficiency(material.view, material.horizons)
    target = material.view.study["analysis"].get("target")
    for goal in (None, *([] if target is None else [float(target)])):
        yield from tables.speedup(material.view, target=goal)


def hyperparameters(material: Material) -> Iterator[Block]:
    """The search if there was one, and what the loss does as settings change."""
    view = material.view
    chosen = tables.chosen(view)
    figures = [
        image
        for name in ("sensitivity", "heatmap", "tuning_curves")
        for image in material.figure(name)
    ]
    if chosen and view.tuning is not None:
        yield Paragraph(text=_about_search(view), tone="note")
        yield chosen
    elif figures:
        yield Paragraph(
            text="Nothing was searched: every variant ran with the settings of the study file. "
            "What follows compares variants that differ in one or two settings.",
            tone="note",
        )
    yield from figures
    lost = tables.search_failures(view)
    if lost:
        yield Details(title=f"{lost.title} ({len(lost.rows)})", blocks=(lost,))


def _about_search(view: StudyView) -> str:
    assert view.tuning is not None
    counts = {len(found.configurations) for found in view.tuning.variants.values()}
    each = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    choose, measure = (
        ", ".join(map(str, view.study["seeds"][phase])) for phase in ("tuning", "confirmation")
    )
    return (
        f"A {view.tuning.searcher} search of {each} configurations for each variant. Seeds "
        f"{choose} chose, seeds {measure} measure."
    )


def outcomes(material: Material) -> Iterator[Block]:
    if material.view.confirmation:
        yield tables.outcomes(material.view)
        failures = tables.failures(material.view)
        yield failures or Paragraph(text="Every finished trial completed.", tone="note")
    ledger = tables.ledger(material.view)
    if ledger and material.view.tuning is not None:
        yield ledger
    elif ledger:
        yield Details(title=ledger.title, blocks=(ledger,))


def speed(material: Material) -> Iterator[Block]:
    if any(trial.completed for trial in material.view.confirmation):
        yield tables.speed(material.view)
        yield from material.figure("time_breakdown")


def experts(material: Material) -> Iterator[Block]:
    yield from material.figure("router_load")
    found = tables.dead_experts(material.view)
    if found:
        yield found


def optimizers(material: Material) -> Iterator[Block]:
    view = material.view
    counters = tables.counters(view)
    if counters:
        yield counters
    folded = tuple(_routes(view))
    if len(folded) > MANY:
        folded = (Details(title="Settings and routes of every variant", blocks=folded),)
    yield from folded


def _routes(view: StudyView) -> Iterator[Block]:
    for variant in view.variants:
        blocks = [tables.settings(_settings_of(view, variant), "Settings")]
        trial = _with_routes(view.of(variant))
        found = tables.routes(trial) if trial is not None else None
        if found:
            blocks.append(found)
        yield Details(
            title=f"{variant}: settings and routes of the parameters", blocks=tuple(blocks)
        )


def _settings_of(view: StudyView, variant: str) -> dict[str, Any]:
    values = settings_in_force(view, variant)
    if values.get("schedule") is None:
        values["schedule"] = view.study["training"].get("schedule")
    return values


def _with_routes(trials: tuple[TrialView, ...]) -> TrialView | None:
    return next((t for t in trials if t.outcome is not None and t.outcome.routes), None)


def evidence(material: Material) -> Iterator[Block]:
    """Tests in full, pairing, and the plan that was fixed before the first trial."""
    view = material.view
    for found in (tables.statistics_table(view), tables.looks(view), tables.pairing(view)):
        if found:
            yield found
    for comparison in view.comparisons:
        for note in comparison["notes"]:
            yield Paragraph(text=f"{comparison['variant']}: {note}.", tone="note")
    yield tables.certificate(view)
    yield Facts(
        items=(
            ("plan", view.plan.sha256),
            ("trials in the plan", str(len(view.plan.trials))),
            ("distinct training runs", str(len(view.plan.distinct_keys))),
            ("data", view.plan.data_sha256),
        )
    )


def setup(material: Material) -> Iterator[Block]:
    view = material.view
    shared = {k: v for k, v in view.study.items() if k not in ("variants", "name", "question")}
    yield Details(title="Settings of the study", blocks=(tables.settings(shared),))
    if view.data is not None:
        yield Details(title="Data", blocks=(tables.settings(view.data, "Manifest of the data"),))
    if view.environment is not None:
        yield from _environment(view.environment)
    else:
        yield Paragraph(text="The environment was not recorded.", tone="warning")


def _environment(environment: dict[str, Any]) -> Iterator[Block]:
    packages = environment.get("packages", {})
    machine = {name: value for name, value in environment.items() if name != "packages"}
    yield Details(title="Environment", blocks=(tables.settings(machine, "Where the study ran"),))
    if packages:
        yield Details(
            title=f"Packages ({len(packages)})",
            blocks=(tables.settings({name: packages[name] for name in packages}, "Versions"),),
        )


SECTIONS: tuple[tuple[str, str, Callable[[Material], Iterator[Block]]], ...] = (
    ("verdict", "Verdict", verdict),
    ("results", "Results", results),
    ("curves", "Training curves", curves),
    ("speedup", "Speed-up", speedups),
    ("hyperparameters", "Hyperparameters", hyperparameters),
    ("outcomes", "Outcomes", outcomes),
    ("speed", "Speed and memory", speed),
    ("experts", "Experts", experts),
    ("optimizers", "Optimizers", optimizers),
    ("evidence", "Evidence", evidence),
    ("setup", "Data, settings, environment", setup),
)
"""Anchor, title and function. A section without blocks is left out."""
