"""A loss on the training text is measured beside the honest one, and changes nothing."""

from __future__ import annotations

from pathlib import Path

from harness.data import TokenDataset, prepare
from harness.study.load import load_study
from harness.study.trial import trial_spec
from harness.training.backends.protocol import WorkerContext
from harness.training.loop import train
from harness.training.records import Report

TIMES = {name for name in Report.model_fields if name.endswith(("_s", "_bytes"))}


def reports_of(study_file: Path, *overrides: str) -> list[Report]:
    study = load_study(
        study_file, ["training.steps=40", "training.evaluation_every=40", *overrides]
    )
    dataset: TokenDataset = prepare(study.data)
    spec = trial_spec(study, study.variants[0], 0, dataset.manifest.sha256)
    return list(train(spec, WorkerContext(dataset.path)))


def test_the_leaked_loss_stands_beside_the_same_numbers(study_file: Path) -> None:
    plain = reports_of(study_file)
    leaked = reports_of(study_file, "data.leaked_windows=8")
    for before, after in zip(plain, leaked, strict=True):
        assert before.leaked_loss is None
        assert after.leaked_loss is not None
        left_out = {*TIMES, "leaked_loss"}
        assert before.model_dump(exclude=left_out) == after.model_dump(exclude=left_out)
    assert "leaked_loss" not in plain[-1].model_dump()


def test_a_study_that_measures_no_leak_has_the_keys_that_it_had(study_file: Path) -> None:
    study = load_study(study_file)
    assert "leaked_windows" not in study.model_dump()["data"]
    assert "decomposition" not in study.model_dump()["analysis"]
