"""A study with looks trains further seeds only for variants that are not decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze
from harness.study.plan import expand, make_plan
from tune.confirmation import wanted_keys

DATA = "0" * 64


def test_a_decided_variant_gets_no_more_seeds(made_up_class: Any, tmp_path: Path) -> None:
    made_up = made_up_class(
        variants={
            "adamw": {"kind": "adamw", "lr": 0.004},
            "muon": {"kind": "muon", "lr": 0.02},
            "same": {"kind": "adamw", "lr": 0.0041},
        },
        effects={"muon": -0.5},
        seeds=tuple(range(10)),
        analysis={"looks": [4, 7, 10]},
    )
    study = made_up.study()
    plan, specs = make_plan(study, DATA), expand(study, DATA)
    folder = StudyFolder(tmp_path / "runs" / study.name)
    source = tmp_path / "study.toml"
    source.write_text("")
    freeze(folder, plan, source=source)
    rounds = 0
    for keys in wanted_keys(study, plan, folder):
        rounds += 1
        for trial in plan.trials:
            if trial.key in keys and folder.trial(trial.key).outcome() is None:
                made_up.train(folder, plan, trial, specs[trial.key])
    trained = [trial for trial in plan.trials if folder.trial(trial.key).outcome() is not None]
    seeds = {
        variant: sorted(trial.seed for trial in trained if trial.variant == variant)
        for variant in ("adamw", "muon", "same")
    }
    assert rounds == 3
    assert seeds == {
        "adamw": list(range(10)),
        "muon": list(range(4)),
        "same": list(range(10)),
    }


def test_without_looks_every_trial_is_wanted_once(made_up_class: Any, tmp_path: Path) -> None:
    study = made_up_class().study()
    plan = make_plan(study, DATA)
    (keys,) = wanted_keys(study, plan, StudyFolder(tmp_path))
    assert keys == plan.distinct_keys
