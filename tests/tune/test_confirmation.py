"""A study with looks trains further seeds only for variants that are not decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.study.plan import expand, make_plan
from tune.confirmation import confirmation_batches, wanted_keys

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


HORIZONS = {"horizons": [60, 85, 170]}


def test_the_horizons_go_with_the_other_trials_of_their_seed(
    made_up_class: Any, tmp_path: Path
) -> None:
    made_up = made_up_class(seeds=(0, 1, 2), analysis=HORIZONS, name="lengths")
    folder = made_up.write(tmp_path / "runs")
    for trial in load_plan(folder).trials:
        if (trial.seed, trial.phase) != (0, "confirmation"):
            folder.trial(trial.key).outcome_path.unlink()
    (batch,) = confirmation_batches(made_up.study(), folder, retry_failed=False)
    assert batch.wanted == 3 * (2 + 3)
    assert [job.name for job in batch.missing][:6] == [
        "adamw seed 0, 60 steps",
        "adamw seed 0, 85 steps",
        "adamw seed 0, 170 steps",
        "adamw seed 1",
        "muon seed 1",
        "adamw seed 1, 60 steps",
    ]
    assert [job.spec.training.steps for job in batch.missing][:4] == [60, 85, 170, 120]
    assert [job.comparable for job in batch.missing][:4] == [False, False, False, True]


def test_with_looks_the_horizons_come_up_to_the_same_look(
    made_up_class: Any, tmp_path: Path
) -> None:
    made_up = made_up_class(
        effects={"muon": -0.5}, seeds=tuple(range(10)), analysis={"looks": [4, 10], **HORIZONS}
    )
    study = made_up.study()
    plan = make_plan(study, DATA)
    first = next(wanted_keys(study, plan, StudyFolder(tmp_path)))
    rows = [trial for trial in plan.trials if trial.key in first]
    assert len(rows) == len(first) == 4 * (2 + 3)
    assert {trial.seed for trial in rows if trial.phase == "horizon"} == {0, 1, 2, 3}


def test_the_margin_of_the_first_look_is_known_when_it_is_needed(
    made_up_class: Any, tmp_path: Path
) -> None:
    analysis = {"looks": [4, 10], "margin_speedup_percent": 5, **HORIZONS}
    made_up = made_up_class(effects={"muon": -0.5}, seeds=tuple(range(10)), analysis=analysis)
    study = made_up.study()
    plan, specs = make_plan(study, DATA), expand(study, DATA)
    folder = StudyFolder(tmp_path / "runs" / study.name)
    freeze(folder, plan, source=Path(__file__))
    (keys,) = [
        [made_up.train(folder, plan, t, specs[t.key]) for t in plan.trials if t.key in wanted]
        for wanted in wanted_keys(study, plan, folder)
    ]
    assert len(keys) == 4 * (2 + 3), "Muon was decided at the first look: nothing more is wanted"
