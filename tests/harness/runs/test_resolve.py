"""A study's dtype is decided once, by its plan, whatever machine goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.runs.resolve import ResolvedStudy, resolve, this_machine
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.resolution import Resolution, is_resolved, resolved
from harness.study.study_file import Study

DATA = "0" * 64


@pytest.fixture
def asked(edited_study: Callable[..., Path]) -> Study:
    """A study that leaves the dtype of its Muon to the hardware."""
    return load_study(edited_study((', ns_dtype = "fp32"', "")))


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "runs" / "tiny")


def frozen(folder: StudyFolder, found: ResolvedStudy) -> StudyFolder:
    source = folder.path.parent / "source.toml"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text("")
    freeze(folder, make_plan(found.study, DATA, resolution=found.resolution), source=source)
    return folder


def of_another_machine(asked: Study) -> Resolution:
    """What a machine would have frozen that prefers the other dtype."""
    here = this_machine(asked)
    other = {"fp32": "bf16", "bf16": "fp32"}[here.ns_dtype]
    return here.model_copy(
        update={"ns_dtype": other, "device": "another CPU", "reason": f"{other}: as it is there"}
    )


def dtypes(study: Study) -> list[str]:
    return [v.optimizer.ns_dtype for v in study.variants if v.optimizer.kind == "muon"]  # type: ignore[attr-defined]


def test_a_new_study_takes_what_this_machine_is_good_at_and_its_plan_says_why(
    asked: Study, folder: StudyFolder
) -> None:
    found = resolve(asked, folder)
    here = this_machine(asked)
    assert dtypes(found.study) == [here.ns_dtype]
    assert found.notice is None
    plan = load_plan(frozen(folder, found))
    assert plan.resolution == here
    assert here.reason.startswith(here.ns_dtype)
    assert here.device


def test_a_study_that_goes_on_elsewhere_keeps_the_dtype_of_its_plan_and_says_so(
    asked: Study, folder: StudyFolder
) -> None:
    there = of_another_machine(asked)
    began = ResolvedStudy(study=resolved(asked, there), resolution=there)
    frozen(folder, began)
    goes_on = resolve(asked, folder)
    assert dtypes(goes_on.study) == [there.ns_dtype]
    assert goes_on.resolution == there
    assert goes_on.notice is not None
    assert f"computed in {there.ns_dtype}, as this study's plan says" in goes_on.notice
    assert "another CPU" in goes_on.notice
    frozen(folder, goes_on)  # the same plan: nothing is refused
    assert load_plan(folder).resolution == there


def test_a_study_that_goes_on_where_it_began_hears_nothing(
    asked: Study, folder: StudyFolder
) -> None:
    frozen(folder, resolve(asked, folder))
    assert resolve(asked, folder).notice is None


def test_a_study_file_that_names_another_dtype_is_another_plan(
    asked: Study, folder: StudyFolder
) -> None:
    there = of_another_machine(asked)
    frozen(folder, ResolvedStudy(study=resolved(asked, there), resolution=there))
    named = resolved(asked, this_machine(asked))
    with pytest.raises(UserError, match=r"Changed: variants\.1\.optimizer\.ns_dtype"):
        frozen(folder, resolve(named, folder))


def test_a_plan_for_another_kind_of_device_is_decided_anew(
    asked: Study, folder: StudyFolder
) -> None:
    there = of_another_machine(asked).model_copy(update={"device_type": "cuda"})
    frozen(folder, ResolvedStudy(study=resolved(asked, there), resolution=there))
    assert resolve(asked, folder).resolution == this_machine(asked)


def test_a_study_without_auto_is_not_touched(study_file: Path, folder: StudyFolder) -> None:
    named = load_study(study_file)
    assert resolve(named, folder) == ResolvedStudy(study=named, resolution=None)


def test_a_plan_from_before_dtypes_were_resolved_keeps_its_keys(
    asked: Study, folder: StudyFolder
) -> None:
    frozen(folder, ResolvedStudy(study=asked, resolution=None))
    before = load_plan(folder)
    goes_on = resolve(asked, folder)
    assert not is_resolved(goes_on.study)
    assert goes_on.notice is not None
    assert "a version that left" in goes_on.notice
    frozen(folder, goes_on)
    assert load_plan(folder) == before
