"""The folder of a suite with made-up results, written through the same classes as a real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from made_up import MadeUpStudy

from harness.runs.files import write_json
from harness.runs.plan_file import load_plan
from harness.runs.suite_folder import PlannedTask, SuiteFolder, SuitePlan
from harness.study.suite_settings import SuiteSettings

CONTESTANTS: dict[str, dict[str, Any]] = {
    "adamw": {"kind": "adamw", "lr": 0.004},
    "muon": {"kind": "muon", "lr": 0.02, "aux_lr": 0.004},
    "muon-hot": {"kind": "muon", "lr": 0.2, "aux_lr": 0.004},
    "muon-slow": {"kind": "muon", "lr": 0.005, "aux_lr": 0.004},
}
TASKS: dict[str, tuple[int, int, dict[str, Any]]] = {
    "small": (1_000_000, 1_000_000, {"effects": {"muon": -0.05, "muon-slow": 0.03}}),
    "medium": (
        4_000_000,
        2_000_000,
        {"effects": {"muon": -0.06}, "diverged": {("muon-hot", 3): 60}},
    ),
    "large": (
        16_000_000,
        4_000_000,
        {
            "effects": {"muon": -0.04, "muon-slow": 0.05},
            "diverged": {("muon-hot", seed): 60 for seed in range(5)},
            "failed": {("muon-slow", 1): "worker 1 died"},
        },
    ),
}
"""By name: active parameters, tokens of a run, and what a made-up study does there."""


def write_suite(
    runs_dir: Path, *, name: str = "ladder", changes: Mapping[str, Mapping[str, Any]] | None = None
) -> SuiteFolder:
    """
    Args:
        changes: of the made-up study of a task, such as `{"large": {"unfinished": ...}}`.
    """
    folder = SuiteFolder(runs_dir / name)
    settings = SuiteSettings(resamples=200)
    planned = []
    for task, (parameters, tokens, values) in TASKS.items():
        own = {**values, **(changes or {}).get(task, {})}
        made = MadeUpStudy(
            variants=CONTESTANTS,
            name=f"{name}.{task}",
            every=30,
            analysis={"alpha": settings.alpha / len(TASKS)},
            **{"seeds": (0, 1, 2, 3), **own},
        ).write(folder.path / "tasks")
        made.path.rename(folder.task(task).path)
        planned.append(
            PlannedTask(
                name=task,
                plan_sha256=load_plan(folder.task(task)).sha256,
                active_parameters=parameters,
                tokens=tokens,
            )
        )
    plan = SuitePlan(
        name=name,
        question="Does Muon's gain hold over sizes?",
        settings=settings,
        baseline="adamw",
        variants=tuple(CONTESTANTS),
        tasks=tuple(planned),
    )
    write_json(folder.plan_path, {**plan.model_dump(mode="json"), "suite_sha256": plan.sha256})
    return folder
