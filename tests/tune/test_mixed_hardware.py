"""A cluster whose nodes differ is named before it trains; one that is alike is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.study.load import load_study
from harness.study.study_file import Study
from tune.checks.mixed_hardware import NodeHardware, hardware_here, hardware_notices

AMX = NodeHardware(
    device="Xeon", words=("amx_bf16", "avx512_bf16"), best="bf16", code="0" * 16, version="a1b2c3d"
)
PLAIN = replace(AMX, device="EPYC", words=(), best="fp32")


@pytest.fixture
def in_fp32(study_file: Path) -> Study:
    return load_study(study_file)


@pytest.fixture
def in_bf16(study_file: Path) -> Study:
    return load_study(study_file, ["variants.muon.optimizer.ns_dtype=bf16"])


def test_nodes_that_are_alike_are_no_news(in_fp32: Study, in_bf16: Study) -> None:
    assert not list(hardware_notices(in_fp32, {}))
    assert not list(hardware_notices(in_bf16, {"10.0.0.1": AMX, "10.0.0.2": AMX}))
    assert not list(hardware_notices(in_fp32, {"10.0.0.1": PLAIN, "10.0.0.2": PLAIN}))


def test_nodes_that_differ_are_named_with_what_they_have(in_fp32: Study) -> None:
    (notice,) = hardware_notices(in_fp32, {"10.0.0.1": AMX, "10.0.0.2": PLAIN, "10.0.0.3": AMX})
    assert "Xeon (amx_bf16, avx512_bf16) on 10.0.0.1, 10.0.0.3" in notice
    assert "EPYC (no words for bf16) on 10.0.0.2" in notice
    assert "times do not" in notice


def test_a_dtype_that_a_node_must_emulate_is_said(in_bf16: Study) -> None:
    _, slow = hardware_notices(in_bf16, {"10.0.0.1": AMX, "10.0.0.2": PLAIN})
    assert slow.startswith("Newton-Schulz (muon) is computed in bf16, as planned, and 10.0.0.2")
    (alone,) = hardware_notices(in_bf16, {"10.0.0.2": PLAIN})
    assert alone == slow, "also where no node has it"


def test_training_in_bf16_is_said_too(study_file: Path) -> None:
    study = load_study(study_file, ["training.precision=bf16"])
    (notice,) = hardware_notices(study, {"10.0.0.2": PLAIN})
    assert notice.startswith("training is computed in bf16")


def test_this_machine_answers_for_itself() -> None:
    here = hardware_here("cpu")
    assert here.device
    assert here.best in ("fp32", "bf16")
    assert len(here.code) == 16
