"""What it cost, and what the model and the optimizer counted."""

from __future__ import annotations

import statistics

from harness.analysis.machines import hardware
from harness.analysis.measures import median_of, median_tokens_per_s
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.elements import Table, left, right, table
from harness.runs.snapshot import TrialSnapshot


def speed(study: StudyResults) -> Table:
    """Time and memory of each variant: medians over seeds."""

    def median(trials: list[TrialSnapshot], name: str) -> float | None:
        return median_of([getattr(trial.last, name) for trial in trials if trial.last])

    rows = []
    for variant in study.ranked():
        trials = [trial for trial in study.of(variant) if trial.completed]
        rows.append(
            (
                variant,
                numbers.duration(median_of([trial.step_time_s for trial in trials])),
                numbers.rate(median_tokens_per_s(trials)),
                numbers.duration(median(trials, "train_time_s")),
                numbers.duration(median(trials, "evaluation_time_s")),
                numbers.duration(median(trials, "startup_time_s")),
                numbers.duration(
                    median_of([t.outcome.wall_time_s for t in trials if t.outcome is not None])
                ),
                numbers.bytes_(median(trials, "peak_memory_bytes")),
            )
        )
    columns = [
        *left("variant"),
        *right("step", "tokens/s", "training", "evaluation", "start-up", "whole trial"),
        *right("peak memory"),
    ]
    return table(
        "Time and memory",
        columns,
        rows,
        note=f"Medians over the completed seeds. Times hold for {hardware(study)}, and only if "
        "nothing else ran there.",
    )


COUNTERS = {
    "optimizer_steps": "optimizer steps",
    "skipped_steps": "skipped steps",
    "newton_schulz_steps": "Newton-Schulz steps",
    "newton_schulz_calls": "Newton-Schulz calls",
    "bytes_sent": "sent",
    "bytes_between_nodes": "sent to other nodes",
    "bytes_sent_per_element": "bytes sent per element and step",
    "bytes_floor": "least to send",
    "bytes_floor_per_element": "least bytes per element and step",
}
"""What the optimizers' counters are called, in the order of the columns."""
SIZES = ("bytes_sent", "bytes_between_nodes", "bytes_floor")
"""Counters in bytes."""


def counters(study: StudyResults) -> Table | None:
    """The optimizers' own counters at the end, mean over seeds."""
    finals = {
        variant: [t.last.counters for t in study.of(variant) if t.completed and t.last is not None]
        for variant in study.ranked()
    }
    counted = {name for seeds in finals.values() for seed in seeds for name in seed}
    if not counted:
        return None
    names = [*(name for name in COUNTERS if name in counted), *sorted(counted - set(COUNTERS))]
    rows = [
        (variant, *(_count(name, [seed[name] for seed in seeds if name in seed]) for name in names))
        for variant, seeds in finals.items()
    ]
    return table(
        "Counters of the optimizer",
        [*left("variant"), *right(*(counter_name(name) for name in names))],
        rows,
        note="At the last step, mean over the completed seeds. Calls and bytes are those of one "
        "worker.",
    )


def counter_name(name: str) -> str:
    """In words; a counter of an optimizer that somebody added is read as it is written."""
    return COUNTERS.get(name, name.replace("_", " "))


def _count(name: str, values: list[float]) -> str:
    mean = statistics.fmean(values) if values else None
    if name in SIZES and mean:
        return numbers.bytes_(mean)
    return numbers.quantity(mean)


def dead_experts(study: StudyResults) -> Table | None:
    """Experts without a token, and the most and least used expert."""
    rows = []
    for variant in study.ranked():
        finals = [t.last for t in study.of(variant) if t.completed and t.last is not None]
        finals = [report for report in finals if report.router_load]
        if not finals:
            continue
        shares = [
            share * len(layer)
            for report in finals
            for layer in report.router_load
            for share in layer
        ]
        dead = [report.dead_experts for report in finals]
        rows.append(
            (
                variant,
                numbers.decimal(statistics.fmean(dead)),
                str(max(dead)),
                numbers.decimal(min(shares)),
                numbers.decimal(max(shares)),
            )
        )
    if not rows:
        return None
    columns = [*left("variant"), *right("dead experts, mean", "most in a seed")]
    columns += right("least used (× equal share)", "most used (× equal share)")
    return table("Use of the experts at the last evaluation", columns, rows)
