"""Trials of one process that save and go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data import prepare
from harness.study.load import load_study
from harness.study.study_file import find_variant
from harness.study.trial import TrialSpec, trial_spec
from harness.training.backends.protocol import WorkerContext
from harness.training.loop import train
from harness.training.records import Outcome, Report

Run = Callable[..., tuple[list[Report], Outcome]]
Make = Callable[..., tuple[TrialSpec, WorkerContext]]


def trial_of(study_file: Path, overrides: tuple[str, ...], variant: str, **context: Any) -> Any:
    study = load_study(study_file, overrides)
    dataset = prepare(study.data)
    spec = trial_spec(study, find_variant(study, variant), 0, dataset.manifest.sha256)
    return spec, dataclasses.replace(WorkerContext(dataset.path), **context)


def train_to_the_end(spec: TrialSpec, context: WorkerContext) -> tuple[list[Report], Outcome]:
    training, reports = train(spec, context), []
    while True:
        try:
            reports.append(next(training))
        except StopIteration as end:
            return reports, end.value


@pytest.fixture
def make(study_file: Path) -> Make:
    """Spec and context of a trial."""
    return lambda *overrides, variant="muon", **context: trial_of(
        study_file, overrides, variant, **context
    )


@pytest.fixture
def run(make: Make) -> Run:
    """The same, trained."""
    return lambda *overrides, **context: train_to_the_end(*make(*overrides, **context))


@pytest.fixture(scope="session")
def saved_once(study_text: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of steps 2 and 4 of a trial that reports every step; not to be touched."""
    path = tmp_path_factory.mktemp("saved")
    (path / "tiny.toml").write_text(study_text)
    every_two = {"checkpoint_every_minutes": 0.0, "checkpoint_every_steps": 2}
    overrides = ("training.evaluation_every=1",)
    kept = path / "kept"
    train_to_the_end(
        *trial_of(path / "tiny.toml", overrides, "muon", checkpoints=str(kept), **every_two)
    )
    return kept


TIMES = {
    "train_time_s", "evaluation_time_s", "startup_time_s", "checkpoint_time_s", "step_time_s",
    "tokens_per_s", "wall_time_s", "peak_memory_bytes",
}  # fmt: skip


@pytest.fixture
def without_times() -> Callable[[Report | Outcome], dict[str, Any]]:
    """A report or an outcome as plain values, to be compared to the last bit."""

    def plain(record: Report | Outcome) -> dict[str, Any]:
        return record.model_dump(mode="json", exclude=TIMES)

    return plain
