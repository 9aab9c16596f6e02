"""An outcome says in what it was computed, as the optimizer really did it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.data import TokenDataset, prepare
from harness.study.code_version import code_sha256, code_version
from harness.study.load import load_study
from harness.study.study_file import find_variant
from harness.study.trial import trial_spec
from harness.training.backends.protocol import WorkerContext
from harness.training.loop import train
from harness.training.records import Outcome
from optimizers.processor import processor_name


@pytest.fixture
def dataset(study_file: Path) -> TokenDataset:
    return prepare(load_study(study_file).data)


def outcome_of(study_file: Path, dataset: TokenDataset, variant: str, *overrides: str) -> Outcome:
    study = load_study(study_file, ["training.steps=2", *overrides])
    spec = trial_spec(study, find_variant(study, variant), 0, dataset.manifest.sha256)
    training = train(spec, WorkerContext(dataset.path))
    while True:
        try:
            next(training)
        except StopIteration as end:
            found: Outcome = end.value
            return found


def test_a_trial_of_muon_names_dtype_form_device_and_code(
    study_file: Path, dataset: TokenDataset
) -> None:
    outcome = outcome_of(study_file, dataset, "muon", "variants.muon.optimizer.ns_dtype=bf16")
    known = outcome.arithmetic
    assert known is not None
    assert (known.precision, known.ns_dtype) == ("fp32", "bf16")
    assert (known.device_type, known.device) == ("cpu", processor_name())
    assert known.torch == torch.__version__.partition("+")[0]
    assert set(known.ns_forms) == {"32x32", "32x48", "48x32"}, "the matrices of two small layers"
    assert (outcome.code_version, outcome.code_sha256) == (code_version(), code_sha256())


def test_the_form_that_is_asked_for_is_the_form_that_is_recorded(
    study_file: Path, dataset: TokenDataset
) -> None:
    outcome = outcome_of(study_file, dataset, "muon", "variants.muon.optimizer.ns_form=gram")
    assert outcome.arithmetic is not None
    assert all(form.startswith("gram") for form in outcome.arithmetic.ns_forms.values())


def test_a_trial_of_adamw_has_no_newton_schulz_and_its_own_precision(
    study_file: Path, dataset: TokenDataset
) -> None:
    outcome = outcome_of(study_file, dataset, "adamw", "training.precision=bf16")
    assert outcome.arithmetic is not None
    assert outcome.arithmetic.precision == "bf16"
    assert outcome.arithmetic.ns_dtype is None
    assert outcome.arithmetic.ns_forms == {}
