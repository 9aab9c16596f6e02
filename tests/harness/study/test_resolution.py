"""`auto` becomes one dtype for the whole study, which the trials' specs and keys hold."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from harness.study.plan import expand, make_plan
from harness.study.resolution import Resolution, device_type, is_resolved, resolved
from harness.study.study_file import Study
from harness.study.trial import TrialSpec, tuning_spec

DATA = "0" * 64
MUON = {"kind": "muon", "lr": 0.02}


def study(optimizer: dict[str, Any], **changes: Any) -> Study:
    return Study.model_validate(
        {
            "name": "small",
            "model": {"size": "tiny"},
            "training": {"steps": 4, "batch_size": 8},
            "seeds": {"confirmation": [0, 1, 2]},
            "variants": [
                {"name": "adamw", "optimizer": {"kind": "adamw", "lr": 0.004}},
                {"name": "muon", "optimizer": optimizer},
            ],
            "analysis": {"baseline": "adamw"},
            **changes,
        }
    )


def resolution(dtype: Literal["fp32", "bf16"]) -> Resolution:
    return Resolution(ns_dtype=dtype, reason="as a test asks", device_type="cpu", device="a CPU")


def keys(study: Study) -> set[str]:
    return set(expand(study, DATA))


def test_every_trial_holds_the_dtype_that_auto_was_resolved_to() -> None:
    asked = study(MUON)
    assert not is_resolved(asked)
    for dtype in ("fp32", "bf16"):
        found = resolved(asked, resolution(dtype))
        assert is_resolved(found)
        specs = expand(found, DATA).values()
        assert {s.optimizer.ns_dtype for s in specs if s.optimizer.kind == "muon"} == {dtype}


def test_the_keys_of_muon_tell_the_dtypes_apart_and_those_of_adamw_do_not() -> None:
    in_fp32, in_bf16 = (keys(resolved(study(MUON), resolution(d))) for d in ("fp32", "bf16"))
    assert len(in_fp32 & in_bf16) == 3, "the baseline's"


def test_a_study_that_names_the_dtype_is_left_alone_and_has_the_same_plan() -> None:
    named, asked = study({**MUON, "ns_dtype": "bf16"}), study(MUON)
    assert is_resolved(named)
    assert resolved(named, resolution("fp32")) == named
    plan = make_plan(resolved(asked, resolution("bf16")), DATA, resolution=resolution("bf16"))
    assert plan.sha256 == make_plan(named, DATA).sha256
    assert plan.model_dump()["resolution"]["reason"] == "as a test asks"
    assert "resolution" not in make_plan(named, DATA).model_dump(), "as plans before it"


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["auto", "fp32"], ("bf16", "fp32")), (["auto", "bf16"], ("bf16",)), (["fp32"], ("fp32",))],
)
def test_a_search_never_draws_auto(values: list[str], expected: tuple[str, ...]) -> None:
    choice = {"ns_dtype": {"kind": "choice", "values": values}}
    rate = {"lr": {"kind": "loguniform", "low": 0.001, "high": 0.1}}
    table = study(MUON).model_dump(mode="json")
    table["seeds"]["tuning"], table["tuning"] = [100], {"trials": 4}
    table["variants"][0]["space"] = rate
    table["variants"][1]["space"] = choice
    searched = resolved(Study.model_validate(table), resolution("bf16"))
    muon = searched.variants[1]
    assert muon.space["ns_dtype"].values == expected  # type: ignore[union-attr]
    for value in expected:
        spec = tuning_spec(searched, muon, {"ns_dtype": value}, seed=100, data_sha256=DATA)
        assert spec.optimizer.ns_dtype == value  # type: ignore[attr-defined]


def test_the_device_is_that_of_the_workers() -> None:
    assert device_type(study(MUON)) == "cpu"
    assert device_type(study(MUON, resources={"gpus_per_worker": 1})) == "cuda"


@pytest.mark.parametrize("policy", ["orthogonalize", "skip"])
def test_a_spec_that_is_written_is_read_back_the_same(policy: str) -> None:
    """Also where a default is left out of it, so that older keys stay."""
    for spec in expand(study({**MUON, "starved_matrices": policy}), DATA).values():
        assert TrialSpec.model_validate_json(spec.model_dump_json()) == spec
