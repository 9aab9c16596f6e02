"""What another thread of a worker can read of its training."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.data import prepare
from harness.study.load import load_study
from harness.study.trial import trial_spec
from harness.training import pulse as pulses
from harness.training.backends.protocol import WorkerContext
from harness.training.loop import train
from harness.training.pulse import Pulse


def test_only_what_lies_between_two_steps_counts_as_the_longest_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([0.0, 30.0, 100.0, 102.0, 105.0, 165.0, 200.0, 201.0, 209.0])
    monkeypatch.setattr(pulses.time, "monotonic", lambda: next(clock))
    pulse = Pulse()
    pulse.beat("first step", step=1)
    pulse.beat("training", step=2)  # 70 s for the first step are no measure
    pulse.beat("training", step=3)
    pulse.beat("evaluating")
    pulse.beat("evaluating")
    pulse.beat("training", step=4)
    pulse.beat("training", step=5)
    assert (pulse.step, pulse.doing, pulse.beats) == (5, "training", 7)
    assert pulse.longest_s == 2.0
    assert pulse.since_s() == 8.0


def test_every_step_and_every_chunk_of_an_evaluation_beats(study_file: Path) -> None:
    study = load_study(study_file)
    dataset = prepare(study.data)
    spec = trial_spec(study, study.variants[0], 0, dataset.manifest.sha256)
    context = WorkerContext(dataset.path)
    seen = [(context.pulse.step, context.pulse.doing) for _ in train(spec, context)]
    assert seen == [(0, "evaluating"), (3, "evaluating"), (6, "evaluating")]
    # Set up, 3 evaluations of 2 chunks (20 windows by 16), the first step, 5 more.
    assert context.pulse.beats == 1 + 3 * 2 + 1 + 5
    assert context.pulse.longest_s > 0
