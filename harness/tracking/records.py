"""What MLflow should hold for a study, as plain values made from its files.

One run for the study, below it one for each variant (its summary over seeds), below that one for
each trial.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.report.rows import perplexity
from harness.report.tables import flatten, write_value
from harness.report.tuned import not_tuned, settings_in_force
from harness.report.view import OUTCOMES, StudyView, TrialView
from harness.results import Report
from harness.tracking.summaries import FINAL_LOSS, summary_values

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

STATUS_OF_OUTCOME: dict[str, Status] = {
    "completed": "FINISHED",
    "diverged": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
    "out_of_memory": "FAILED",
}

BY_TOKENS = ("train_loss", "validation_loss", "validation_accuracy", "train_time_s", "tokens_per_s")
"""Fields of a report that get a second curve, over tokens instead of steps."""

STUDY_ROLE = "study"
_FORBIDDEN_IN_KEYS = re.compile(r"[^\w\-./ ]")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Metrics that are written together or not at all.

    `elapsed_s` is the time since the start of the run: with the run's start it gives every point
    the same time stamp whenever it is written.
    """

    values: tuple[tuple[str, float, int], ...]  # (key, value, step), all values finite
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One MLflow run as it should be.

    `role` says which run of the study it is. `marker` is a metric that every group has and whose
    value grows from group to group: its latest value tells which groups are already there.
    `content` identifies where the groups come from; a run with another one is replaced.
    """

    role: str
    name: str
    parent: str | None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()
    marker: str = "step"
    content: str = ""
    status: Status = "RUNNING"
    duration_s: float | None = None

    def marker_of(self, group: Group) -> float:
        return next(value for key, value, _ in group.values if key == self.marker)


def records(view: StudyView) -> Iterator[RunRecord]:
    """Every run of the study, parents before their children."""
    yield study_record(view)
    for variant in view.variants:
        yield variant_record(view, variant)
    # A search may draw the same point twice; it is one training run, and one run here.
    trials = {role_of(trial): trial for trial in view.trials}
    for trial in trials.values():
        if trial.reports or trial.outcome is not None:
            yield trial_record(view, trial)


def study_record(view: StudyView) -> RunRecord:
    settings = {k: v for k, v in view.study.items() if k not in ("name", "question")}
    tags = {
        "study": view.name,
        "plan_sha256": view.plan.sha256,
        "data_sha256": view.plan.data_sha256,
        "mlflow.note.content": note(view),
    }
    return RunRecord(
        role=STUDY_ROLE,
        name=f"{view.name} (study)",
        parent=None,
        params=_params(settings),
        tags=tags,
        status="FINISHED" if view.complete else "RUNNING",
    )


def variant_record(view: StudyView, variant: str) -> RunRecord:
    """Mean, interval, difference, p and verdict: what the UI cannot compute from the trials."""
    trials = view.of(variant)
    counts = {word: sum(trial.state == word for trial in trials) for word in OUTCOMES}
    known = summary_values(view, variant)
    comparison = view.comparison(variant)
    tags = {
        "study": view.name,
        "variant": variant,
        "phase": "confirmation",
        "plan_sha256": view.plan.sha256,
        "outcomes": ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "none yet",
        "verdict": comparison["verdict"] if comparison else _no_verdict(view, variant),
    }
    if comparison:
        tags |= {"mlflow.note.content": comparison["sentence"], "test": comparison["test"]}
    if view.tuning is not None:
        tags["tuned"] = f"no: {reason}" if (reason := not_tuned(view, variant)) else "yes"
    finished = sum(trial.outcome is not None for trial in trials)
    return RunRecord(
        role=f"variant/{variant}",
        name=f"{variant} (summary)",
        parent=STUDY_ROLE,
        params=_params(settings_in_force(view, variant)),
        tags=tags,
        groups=(_group({**known, "finished_trials": float(view.finished)}, step=view.finished),),
        marker="finished_trials",
        content=_digest(known),
        status="FINISHED" if view.complete or finished == len(trials) else "RUNNING",
    )


def _no_verdict(view: StudyView, variant: str) -> str:
    return "baseline" if variant == view.baseline else "none yet"


def trial_record(view: StudyView, trial: TrialView) -> RunRecord:
    tags = {
        "study": view.name,
        "variant": trial.variant,
        "seed": str(trial.seed),
        "phase": trial.planned.phase,
        "outcome": trial.state,
        "trial_key": trial.key,
        "plan_sha256": view.plan.sha256,
        "data_sha256": view.plan.data_sha256,
    }
    outcome = trial.outcome
    groups = [_report_group(report) for report in trial.reports]
    if outcome is not None:
        optional = {
            "initial_sha256": outcome.initial_parameters_sha256,
            "batches_sha256": outcome.batches_sha256,
            "reason": outcome.reason,
        }
        tags |= {key: value for key, value in optional.items() if value is not None}
        if outcome.outcome == "diverged":
            tags["diverged"] = str(outcome.diverged_at_step)
    if groups and trial.loss is not None:
        groups[-1] = _with_final_loss(groups[-1], trial.loss, trial.reports[-1].step)
    return RunRecord(
        role=role_of(trial),
        name=f"{trial.variant} seed {trial.seed}"
        + (f" {trial.key[:6]} (tuning)" if trial.planned.phase == "tuning" else ""),
        parent=f"variant/{trial.variant}",
        params=_params(trial.spec),
        tags=tags,
        groups=tuple(groups),
        content=_digest(trial.reports[0].model_dump(mode="json")) if trial.reports else "",
        status="RUNNING" if outcome is None else STATUS_OF_OUTCOME[outcome.outcome],
        duration_s=outcome.wall_time_s if outcome is not None else None,
    )


def role_of(trial: TrialView) -> str:
    """A search trains one variant and seed many times; only the key tells its runs apart."""
    role = f"trial/{trial.planned.phase}/{trial.variant}/{trial.seed}"
    return f"{role}/{trial.key}" if trial.planned.phase == "tuning" else role


def _report_group(report: Report) -> Group:
    """All fields of a report by step, and some of them by tokens.

    A value that is not finite is left out, so the run page shows the last finite one.
    """
    values = report.model_dump(exclude={"router_load", "counters"})
    for name, value in report.counters.items():
        values[f"counters/{name}"] = value
    for layer, shares in enumerate(report.router_load):
        # All shares would be a curve for each expert; they are in the study's files.
        values[f"router/layer_{layer}/largest_share"] = max(shares)
        values[f"router/layer_{layer}/smallest_share"] = min(shares)
    group = _group(values, step=report.step)
    by_tokens = tuple(
        (f"by_tokens/{name}", value, report.tokens)
        for name, value, _ in group.values
        if name in BY_TOKENS
    )
    elapsed = report.startup_time_s + report.train_time_s + report.evaluation_time_s
    return Group(values=group.values + by_tokens, elapsed_s=elapsed)


def _with_final_loss(group: Group, loss: float, step: int) -> Group:
    """Only a completed trial has a final loss, so this column holds nothing misleading."""
    final = ((FINAL_LOSS, loss, step), ("perplexity", perplexity(loss), step))
    return Group(values=group.values + final, elapsed_s=group.elapsed_s)


def _group(values: dict[str, Any], *, step: int) -> Group:
    finite = tuple(
        (_FORBIDDEN_IN_KEYS.sub("_", key), float(value), step)
        for key, value in values.items()
        if value is not None and math.isfinite(value)
    )
    return Group(values=finite, elapsed_s=0.0)


def note(view: StudyView, *, links: Mapping[str, str] | None = None) -> str:
    """The verdict in Markdown: the first thing on the page of the experiment and of the study."""
    lines = []
    if links:
        lines += [" · ".join(f"[{text}]({address})" for text, address in links.items()), ""]
    if view.study.get("question"):
        lines += [f"**{view.study['question']}**", ""]
    lines += [f"- **{item['verdict']}**: {item['sentence']}" for item in view.comparisons]
    lines += [f"- {item['sentence']}" for item in view.targets]
    reasons = {variant: not_tuned(view, variant) for variant in view.variants}
    lines += [f"- {variant} is **not tuned**: {why}" for variant, why in reasons.items() if why]
    if view.analysis is None:
        lines.append("No verdict yet.")
    if view.confirmation and not view.complete:
        lines += ["", f"{view.finished} of {len(view.confirmation)} trials are finished."]
    lines += ["", f"The report is among the artifacts of the run `{view.name} (study)`."]
    return "\n".join(lines)


def _params(settings: dict[str, Any]) -> dict[str, str]:
    return {_FORBIDDEN_IN_KEYS.sub("_", k): write_value(v) for k, v in flatten(settings).items()}


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
