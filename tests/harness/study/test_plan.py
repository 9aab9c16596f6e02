"""Study files: validation, overrides, expansion, the frozen plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.study.load import load_study
from harness.study.plan import expand, make_plan

DATA = "0" * 64


def test_a_valid_study_expands_to_one_trial_per_variant_and_seed(study_file: Path) -> None:
    study = load_study(study_file)
    plan = make_plan(study, DATA)
    assert [(t.variant, t.seed) for t in plan.trials] == [
        (variant, seed) for seed in (0, 1, 2) for variant in ("adamw", "muon")
    ]
    assert set(expand(study, DATA)) == set(plan.distinct_keys)


def test_all_mistakes_are_reported_at_once_with_dotted_paths(
    edited_study: Callable[..., Path],
) -> None:
    path = edited_study(
        ("steps = 6", 'stepz = 6\nsteps = "many"'),
        ("workers = 1", "workers = 0"),
        ("lr = 0.02", "lr = -1.0"),
    )
    with pytest.raises(UserError) as caught:
        load_study(path)
    message = str(caught.value)
    assert "4 mistakes" in message
    assert "training.stepz: unknown key; did you mean `steps`?" in message
    assert "training.steps: " in message
    assert "'many'" in message
    assert "resources.workers: " in message
    assert "variants.1.optimizer.lr: " in message


def test_an_unknown_optimizer_setting_names_the_nearest_one(
    edited_study: Callable[..., Path],
) -> None:
    with pytest.raises(UserError, match=r"variants\.1\.optimizer\.momentun.*`momentum`"):
        load_study(edited_study(("lr = 0.02", "lr = 0.02, momentun = 0.9")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('kind = "muon"', 'kind = "moun"', "choose one of"),
        ("num_heads = 2", "num_heads = 5", "num_heads"),
        ('size = "tiny"', 'size = "tinny"', "tiny"),
        ("batch_size = 8", "batch_size = 8\naccumulation_steps = 3", "not a multiple"),
        ('name = "muon"', 'name = "adamw"', "more than once"),
        ('baseline = "adamw"', 'baseline = "sgd"', "is not a variant"),
        ("confirmation = [0, 1, 2]", "confirmation = [0, 1, 2]\ntuning = [2, 3]", "fresh seeds"),
        ("confirmation = [0, 1, 2]", "confirmation = [0, 1, 1]", "more than once"),
        ('name = "tiny"\n', 'name = "../tiny"\n', "plain name"),
        ("[analysis]", "[analysis", "not valid TOML"),
    ],
)
def test_one_mistake_gives_one_clear_sentence(
    edited_study: Callable[..., Path], old: str, new: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load_study(edited_study((old, new)))


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the study file"):
        load_study(tmp_path / "none.toml")


def test_overrides_go_through_the_same_schema(study_file: Path) -> None:
    study = load_study(
        study_file, ["training.steps=9", "variants.muon.optimizer.lr=0.5", "data.source=stdlib"]
    )
    assert study.training.steps == 9
    assert study.variants[1].optimizer.lr == 0.5
    with pytest.raises(UserError, match=r"training\.stepps"):
        load_study(study_file, ["training.stepps=9"])


@pytest.mark.parametrize("override", ["training.steps", "=3", "variants.sgd.lr=1", "name.x=1"])
def test_a_malformed_override_is_one_clear_error(study_file: Path, override: str) -> None:
    with pytest.raises(UserError, match="--set"):
        load_study(study_file, [override])


def test_the_key_depends_on_what_decides_the_result_and_on_nothing_else(study_file: Path) -> None:
    plain = make_plan(load_study(study_file), DATA).distinct_keys
    renamed = make_plan(load_study(study_file, ["variants.muon.name=other"]), DATA).distinct_keys
    longer = make_plan(load_study(study_file, ["training.steps=7"]), DATA).distinct_keys
    other_text = make_plan(load_study(study_file), "1" * 64).distinct_keys
    assert plain == renamed
    assert not set(plain) & set(longer)
    assert not set(plain) & set(other_text)


def test_two_variants_with_the_same_settings_are_one_trial(
    edited_study: Callable[..., Path],
) -> None:
    twin = '[[variants]]\nname = "twin"\noptimizer = { kind = "adamw", lr = 0.004 }\n\n[analysis]'
    plan = make_plan(load_study(edited_study(("[analysis]", twin))), DATA)
    assert len(plan.trials) == 9
    assert len(plan.distinct_keys) == 6
    assert plan.variants_by_key()[plan.distinct_keys[0]] == ("adamw", "twin")


def test_a_changed_study_is_refused_and_nothing_is_overwritten(
    study_file: Path, tmp_path: Path
) -> None:
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    freeze(folder, make_plan(load_study(study_file), DATA), source=study_file)
    before = folder.plan_path.read_bytes()
    changed = make_plan(load_study(study_file, ["training.steps=9"]), DATA)
    with pytest.raises(UserError, match=r"training\.steps \(6 -> 9\)"):
        freeze(folder, changed, source=study_file)
    assert folder.plan_path.read_bytes() == before


def test_a_plan_that_was_edited_by_hand_is_refused(study_file: Path, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    plan = make_plan(load_study(study_file), DATA)
    freeze(folder, plan, source=study_file)
    assert load_plan(folder) == plan
    values = json.loads(folder.plan_path.read_text())
    values["study"]["analysis"]["alpha"] = 0.5
    folder.plan_path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="changed after it was written"):
        load_plan(folder)


def test_a_margin_of_speed_needs_evaluations_near_the_end(
    edited_study: Callable[..., Path],
) -> None:
    margin = ('baseline = "adamw"', 'baseline = "adamw"\nmargin_speedup_percent = 5')
    with pytest.raises(UserError, match=r"analysis\.margin_speedup_percent.*evaluation_every"):
        load_study(edited_study(margin))
    load_study(edited_study(margin, ("evaluation_every = 3", "evaluation_every = 1")))
