"""What MLflow should hold for a study, as plain values made from its files.

One run for the study, below it one for each variant (its summary over seeds), below that one for
each trial.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from harness.analysis.shrinkage import not_tuned, settings_in_force
from harness.analysis.study_results import StudyResults
from harness.runs.snapshot import StudySnapshot, TrialSnapshot
from harness.study.dotted import flatten, write_value
from harness.study.plan import PlannedTrial
from harness.tracking.attempt_tags import attempt_tags
from harness.tracking.metrics import (
    FORBIDDEN_IN_KEYS,
    MetricGroup,
    metric_group,
    report_metrics,
    summary_metrics,
    with_final_loss,
)
from harness.training.records import OUTCOMES, OutcomeWord, Report

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

STATUS_OF_OUTCOME: dict[OutcomeWord, Status] = {
    "completed": "FINISHED",
    "diverged": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
    "out_of_memory": "FAILED",
}

STUDY_ROLE = "study"


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One MLflow run as it should be.

    `role` says which run of the study it is. `marker` is a metric that every group has and whose
    value grows from group to group: its latest value tells which groups are already there.
    `content` identifies where the groups come from; a run with another one is replaced. `key` is
    that of the trial, where the run is one.
    """

    role: str
    name: str
    parent: str | None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    groups: tuple[MetricGroup, ...] = ()
    marker: str = "step"
    content: str = ""
    status: Status = "RUNNING"
    duration_s: float | None = None
    key: str | None = None

    def marker_of(self, group: MetricGroup) -> float:
        return next(value for key, value, _ in group.values if key == self.marker)


def records(study: StudyResults) -> Iterator[RunRecord]:
    """Every run of the study as it is while nobody trains it, parents before their children."""
    yield at_rest(study_record(study))
    for variant in study.variants:
        yield at_rest(variant_record(study, variant))
    # A search may draw the same point twice; it is one training run, and one run here.
    trials = {role_of(trial.planned): trial for trial in study.trials}
    for trial in trials.values():
        if trial.reports or trial.outcome is not None or trial.attempts:
            yield trial_record(study, trial)


def at_rest(record: RunRecord) -> RunRecord:
    """What has not come to its end was interrupted, once no driver is there any more."""
    return replace(record, status="KILLED") if record.status == "RUNNING" else record


def study_record(study: StudyResults) -> RunRecord:
    settings = {k: v for k, v in study.plan.study.items() if k not in ("name", "question")}
    tags = {
        "study": study.name,
        "plan_sha256": study.plan.sha256,
        "data_sha256": study.plan.data_sha256,
        "mlflow.note.content": note(study),
    }
    return RunRecord(
        role=STUDY_ROLE,
        name=f"{study.name} (study)",
        parent=None,
        params=_params(settings),
        tags=tags,
        status="FINISHED" if study.complete else "RUNNING",
    )


def variant_record(study: StudyResults, variant: str) -> RunRecord:
    """Mean, interval, difference, p and verdict: what the UI cannot compute from the trials."""
    trials = study.of(variant)
    counts = {word: sum(trial.state == word for trial in trials) for word in OUTCOMES}
    known = summary_metrics(study, variant)
    comparison = study.comparison(variant)
    tags = {
        "study": study.name,
        "variant": variant,
        "phase": "confirmation",
        "plan_sha256": study.plan.sha256,
        "outcomes": ", ".join(f"{n} {word}" for word, n in counts.items() if n) or "none yet",
        "verdict": _verdict(study, variant),
    }
    if comparison:
        tags |= {"mlflow.note.content": comparison.sentence, "test": comparison.test}
    if study.search is not None:
        tags["tuned"] = f"no: {reason}" if (reason := not_tuned(study, variant)) else "yes"
    finished = sum(trial.outcome is not None for trial in trials)
    return RunRecord(
        role=f"variant/{variant}",
        name=f"{variant} (summary)",
        parent=STUDY_ROLE,
        params=_params(settings_in_force(study, variant)),
        tags=tags,
        groups=(
            metric_group({**known, "finished_trials": float(study.finished)}, step=study.finished),
        ),
        marker="finished_trials",
        content=_digest(known),
        status="FINISHED" if study.complete or finished == len(trials) else "RUNNING",
    )


def _verdict(study: StudyResults, variant: str) -> str:
    comparison = study.comparison(variant)
    if comparison is None:
        return "baseline" if variant == study.baseline else "none yet"
    return comparison.verdict + (", exploratory" if comparison.exploratory else "")


def trial_record(study: StudySnapshot, trial: TrialSnapshot) -> RunRecord:
    return trial_run(
        study,
        trial,
        groups=[report_metrics(report) for report in trial.reports],
        content=content_of(trial.reports[0]) if trial.reports else "",
    )


def content_of(first: Report) -> str:
    """Tells a training run from another one of the same trial: its first report has times."""
    return _digest(first.model_dump(mode="json"))


def trial_run(
    study: StudySnapshot,
    trial: TrialSnapshot,
    *,
    groups: Sequence[MetricGroup],
    content: str,
    training: bool = False,
) -> RunRecord:
    """The run of a trial that has begun; what is sent of its reports are the `groups`.

    Args:
        training: a driver runs the study, so a trial without an outcome is on its way to one.
    """
    outcome = trial.outcome
    tags = {
        "study": study.name,
        "variant": trial.variant,
        "seed": str(trial.seed),
        "phase": trial.planned.phase,
        "outcome": outcome.outcome if outcome else "running" if training else "interrupted",
        "trial_key": trial.key,
        "plan_sha256": study.plan.sha256,
        "data_sha256": study.plan.data_sha256,
        **attempt_tags(trial.attempts, training=training),
    }
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
        groups = [*groups[:-1], with_final_loss(groups[-1], trial.loss)]
    status: Status = "RUNNING" if training else "KILLED"
    elapsed_s = groups[-1].elapsed_s if groups else 0.0
    return RunRecord(
        role=role_of(trial.planned),
        key=trial.key,
        name=f"{trial.variant} {trial.planned.detail}"
        + (f" {trial.key[:6]} (tuning)" if trial.planned.phase == "tuning" else ""),
        parent=f"variant/{trial.variant}",
        params=_params({} if trial.spec is None else trial.spec.model_dump(mode="json")),
        tags=tags,
        groups=tuple(groups),
        content=content,
        status=status if outcome is None else STATUS_OF_OUTCOME[outcome.outcome],
        duration_s=elapsed_s if outcome is None else outcome.wall_time_s,
    )


def role_of(planned: PlannedTrial) -> str:
    """What tells a trial from all others, and stays when a changed plan changes its key.

    A search trains one variant and seed many times; only the key tells its runs apart.
    """
    role = f"trial/{planned.phase}/{planned.variant}/{planned.seed}"
    if planned.steps is not None:
        role += f"/{planned.steps}"
    return f"{role}/{planned.key}" if planned.phase == "tuning" else role


def note(study: StudyResults, *, links: Mapping[str, str] | None = None) -> str:
    """The verdict in Markdown: the first thing on the page of the experiment and of the study."""
    lines = []
    if links:
        lines += [" · ".join(f"[{text}]({address})" for text, address in links.items()), ""]
    if study.settings.question:
        lines += [f"**{study.settings.question}**", ""]
    lines += [f"- **{item.verdict}**: {item.sentence}" for item in study.comparisons]
    lines += [f"- {item.sentence}" for item in study.targets]
    reasons = {variant: not_tuned(study, variant) for variant in study.variants}
    lines += [f"- {variant} is **not tuned**: {why}" for variant, why in reasons.items() if why]
    if study.analysis is None:
        lines.append("No verdict yet.")
    if study.confirmation and not study.complete:
        lines += ["", f"{study.finished} of {len(study.confirmation)} trials are finished."]
    lines += ["", f"The report is among the artifacts of the run `{study.name} (study)`."]
    return "\n".join(lines)


def _params(settings: dict[str, Any]) -> dict[str, str]:
    return {FORBIDDEN_IN_KEYS.sub("_", k): write_value(v) for k, v in flatten(settings).items()}


def _digest(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
