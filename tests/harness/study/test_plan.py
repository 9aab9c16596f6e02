"""Study files: validation, overrides, expansion, the frozen plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis.stats.data_efficiency import MINIMUM_HORIZONS
from harness.errors import UserError
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.study.load import load_study
from harness.study.plan import expand, make_plan
from harness.study.study_file import LENGTHS_OF_A_LAW, find_variant, suggested_horizons

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


WHERE_IT_RUNS = (
    "resources.workers=4",
    "resources.cpus_per_worker=2",
    "resources.max_concurrent_trials=4",
    "resources.max_failures=9",
    "resources.placement=strict_pack",
    "checkpoints.every_steps=5",
)


@pytest.mark.parametrize("override", WHERE_IT_RUNS)
def test_where_a_study_runs_is_no_part_of_it(
    override: str, study_file: Path, tmp_path: Path
) -> None:
    folder, plan = StudyFolder(tmp_path / "runs"), make_plan(load_study(study_file), DATA)
    freeze(folder, plan, source=study_file)
    elsewhere = make_plan(load_study(study_file, [override]), DATA)
    freeze(folder, elsewhere, source=study_file)
    assert elsewhere.sha256 == plan.sha256
    assert elsewhere.distinct_keys == load_plan(folder).distinct_keys
    assert not folder.amendments()


def test_a_variant_with_a_dot_in_its_name_is_addressed(edited_study: Callable[..., Path]) -> None:
    file = edited_study(('name = "muon"', 'name = "muon-0.5"'))
    study = load_study(file, ["variants.muon-0.5.optimizer.lr=0.5"])
    assert find_variant(study, "muon-0.5").optimizer.model_dump()["lr"] == 0.5


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


def with_analysis(edited_study: Callable[..., Path], *lines: str) -> Path:
    base = 'baseline = "adamw"'
    return edited_study((base, "\n".join([base, *lines])))


def test_horizons_add_the_baseline_at_other_lengths_after_every_seed(
    edited_study: Callable[..., Path],
) -> None:
    study = load_study(with_analysis(edited_study, "horizons = [3, 4, 8]"))
    plan, specs = make_plan(study, DATA), expand(study, DATA)
    assert [(t.variant, t.phase, t.seed, t.steps) for t in plan.trials] == [
        row
        for seed in (0, 1, 2)
        for row in (
            ("adamw", "confirmation", seed, None),
            ("muon", "confirmation", seed, None),
            ("adamw", "horizon", seed, 3),
            ("adamw", "horizon", seed, 4),
            ("adamw", "horizon", seed, 8),
        )
    ]
    assert list(specs) == plan.distinct_keys
    for trial in plan.trials:
        spec = specs[trial.key]
        assert (spec.seed, spec.training.steps) == (trial.seed, trial.steps or 6)
        assert spec.optimizer.kind == trial.variant
    at_six = {t.key for t in plan.trials if (t.variant, t.phase) == ("adamw", "confirmation")}
    longer = load_study(with_analysis(edited_study, "horizons = []"), ["training.steps=8"])
    assert not at_six & {t.key for t in plan.trials if t.phase == "horizon"}
    eights = {t.key for t in plan.trials if t.steps == 8}
    assert eights == {t.key for t in make_plan(longer, DATA).trials if t.variant == "adamw"}, (
        "a horizon is the run of a study of that length"
    )


def test_a_row_at_the_length_of_the_study_is_written_as_before_horizons(
    edited_study: Callable[..., Path], tmp_path: Path
) -> None:
    path = with_analysis(edited_study, "horizons = [3, 4, 8]")
    plan = make_plan(load_study(path), DATA)
    rows = plan.model_dump(mode="json")["trials"]
    assert [set(row) - {"variant", "phase", "seed", "key"} for row in rows[:3]] == [
        set(),
        set(),
        {"steps"},
    ]
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    freeze(folder, plan, source=path)
    assert load_plan(folder) == plan


@pytest.mark.parametrize(
    ("horizons", "message"),
    [
        ("[8, 4, 3]", r"analysis\.horizons: .*must be ascending"),
        ("[3, 3, 8]", r"analysis\.horizons: .*must be ascending"),
        ("[0, 3, 8]", r"analysis\.horizons: .*must be ascending"),
        ("[3, 6, 8, 11]", r"analysis\.horizons: 6 is training\.steps"),
        ("[4, 8]", r"analysis\.horizons: 3 lengths .* needs 4: for example \[3, 8, 12\]"),
        ("[2, 4, 8]", r"analysis\.horizons: 2 steps would end within the warmup of 2"),
    ],
)
def test_horizons_that_give_no_law_are_refused(
    edited_study: Callable[..., Path], horizons: str, message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_study(with_analysis(edited_study, f"horizons = {horizons}"))
    assert "1 mistake" in str(caught.value)


def test_a_margin_of_speed_needs_horizons_and_is_told_which(
    edited_study: Callable[..., Path],
) -> None:
    margin = "margin_speedup_percent = 5"
    with pytest.raises(
        UserError,
        match=r"analysis\.margin_speedup_percent: .*horizons = \[3, 8, 12\].*margin_nats",
    ):
        load_study(with_analysis(edited_study, margin))
    load_study(with_analysis(edited_study, margin, "horizons = [3, 4, 8]"))


@pytest.mark.parametrize("warmup", [0, 2, 30])
@pytest.mark.parametrize("steps", [*range(1, 12), 60, 100, 2_000, 123_457])
def test_the_suggested_horizons_are_accepted(study_file: Path, steps: int, warmup: int) -> None:
    overrides = [f"training.steps={steps}", f"training.schedule.warmup_steps={warmup}"]
    horizons = suggested_horizons(load_study(study_file, overrides))
    study = load_study(study_file, [*overrides, f"analysis.horizons={horizons}"])
    assert study.analysis.horizons[-1] > steps, "a better variant is worth a longer baseline"


def test_the_suggested_horizons_are_a_quarter_a_half_and_twice_the_steps(study_file: Path) -> None:
    assert suggested_horizons(load_study(study_file, ["training.steps=100"])) == [25, 50, 200]


def test_a_law_needs_as_many_lengths_here_as_in_the_statistics() -> None:
    assert LENGTHS_OF_A_LAW == MINIMUM_HORIZONS
