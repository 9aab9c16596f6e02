"""A suite file: each task is the study that it would be alone, and every mistake has its path."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.errors import UserError
from harness.runs.suite_plan import to_toml
from harness.study.load import load_study
from harness.study.plan import expand
from harness.study.suite_file import Suite, laid_over, load_study_or_suite, load_suite
from harness.study.suite_schema import suite_json_schema

DATA = "0" * 64
STUDIES = Path(__file__).parents[3] / "studies"


@pytest.fixture
def load(suite_file: Path) -> Any:
    return lambda *overrides: load_suite(suite_file, overrides)


def mistakes(load: Any, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as error:
        load(*overrides)
    return str(error.value).split("\n  ")[1:]


def test_a_task_is_the_common_part_with_its_own_tables_laid_over_it(load: Any) -> None:
    suite = load("tasks.long.training.batch_size=4", "tasks.long.variants.muon.optimizer.lr=0.01")
    plain, long = (task.study for task in suite.tasks)
    assert (plain.training.steps, long.training.steps) == (6, 12)
    assert (plain.training.batch_size, long.training.batch_size) == (8, 4)
    assert plain.training.schedule == long.training.schedule
    assert [study.variants[1].optimizer.lr for study in (plain, long)] == [0.02, 0.01]
    assert long.variants[1].optimizer.aux_lr == plain.variants[1].optimizer.aux_lr  # type: ignore[union-attr]
    assert plain.name == "tiny-suite.plain"
    assert (plain.question, long.question) == ("Does it hold?", "And twice as long?")


def test_the_tasks_share_the_error_rate(load: Any) -> None:
    suite = load("suite.alpha=0.03")
    assert [task.study.analysis.alpha for task in suite.tasks] == [0.015, 0.015]


def test_a_trial_of_a_task_is_the_trial_of_the_same_study_alone(load: Any, tmp_path: Path) -> None:
    """As TOML, with its name and share of the error rate, which are no part of a trial."""
    for task in load().tasks:
        (tmp_path / "alone.toml").write_text(to_toml(task.values))
        alone = load_study(tmp_path / "alone.toml")
        assert alone == task.study
        assert expand(alone, DATA).keys() == expand(task.study, DATA).keys()


def test_a_task_need_not_be_tuned_where_the_others_are(load: Any) -> None:
    plain, long = load("tasks.long.tuning=false", *TUNED).tasks
    assert plain.study.tuning is not None
    assert plain.study.variants[0].space
    assert long.study.tuning is None
    assert not long.study.variants[0].space


TUNED = (
    "tuning={trials=2}",
    "seeds.tuning=[100]",
    "variants.adamw.space={lr={kind='loguniform', low=0.001, high=0.01}}",
    "variants.muon.space={lr={kind='loguniform', low=0.001, high=0.01}}",
)


def test_every_mistake_is_told_once_with_its_path(load: Any) -> None:
    assert mistakes(
        load,
        "suite.alfa=3",
        "training.batch_size=-1",
        "tasks.long.training.stepps=3",
        "data.sorce=1",
    ) == [
        "suite.alfa: unknown key; did you mean `alpha`?",
        "data.sorce: unknown key; did you mean `source`?",
        "training.batch_size: input should be greater than or equal to 1 (got -1)",
        "tasks.long.training.stepps: unknown key; did you mean `steps`?",
    ]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("analysis.alpha=0.1", "analysis.alpha: a suite has one for all tasks"),
        ("tasks.long.analysis.alpha=0.1", "tasks.long.analysis.alpha: write it as `alpha`"),
        ("tasks.long.analysis.baseline='muon'", "tasks.long.analysis.baseline: the contestants"),
        ("tasks.long.variants.moun.optimizer.lr=1", "tasks.long.variants.moun: no such variant"),
        ("tasks.long.variants.muon.optimizer.kind='adamw'", "optimizer.kind: the contestants"),
        ("tasks.long.variants.muon.name='other'", "muon.name: the contestants are the same"),
        ("tasks.long.training={}", "tasks.long: the same as plain, and would count twice"),
        ("tasks.long.name='plain'", "tasks: names used more than once: ['plain']"),
        ("tasks.long.name='../x'", "'../x' is not a plain name"),
        ("tasks=[{name='one'}]", "tasks: a suite has two or more"),
        ("suite.target='given'", "tasks.plain.analysis.target: missing: suite.target is 'given'"),
        ("tasks.long.resources.workers=2", "tasks.1.resources: unknown key"),
        ("tasks.0=7", "tasks.0: input should be a valid dictionary"),
        ("variants=3", "variants: input should be a valid list"),
        ("tasks.long.variants=3", "tasks.1.variants: input should be a valid dictionary"),
        ("training=3", "training: input should be a valid dictionary"),
    ],
)
def test_what_a_suite_refuses(load: Any, override: str, told: str) -> None:
    assert any(told in line for line in mistakes(load, override))


def test_a_study_is_no_suite_and_a_suite_no_study(suite_file: Path, study_file: Path) -> None:
    assert isinstance(load_study_or_suite(suite_file), Suite)
    assert not isinstance(load_study_or_suite(study_file), Suite)
    with pytest.raises(UserError, match="is a suite"):
        load_study(suite_file)
    with pytest.raises(UserError, match="is no suite"):
        load_suite(study_file)


def test_tables_are_laid_over_key_by_key_and_another_kind_replaces() -> None:
    below = {"kind": "cosine", "warmup_steps": 2, "floor": 0.1}
    assert laid_over(below, {"floor": 0.0}) == {"kind": "cosine", "warmup_steps": 2, "floor": 0.0}
    assert laid_over(below, {"kind": "constant"}) == {"kind": "constant"}
    assert laid_over({"steps": {"a": 1}}, {"steps": 3}) == {"steps": 3}
    assert below == {"kind": "cosine", "warmup_steps": 2, "floor": 0.1}


@pytest.mark.parametrize("path", sorted(STUDIES.glob("suite-*.toml")), ids=lambda path: path.stem)
def test_the_schema_for_editors_takes_the_suites_and_refuses_a_wrong_key(path: Path) -> None:
    values = tomllib.loads(path.read_text())
    schema = suite_json_schema()
    jsonschema.validate(values, schema)
    values["tasks"][0]["training"] = {"stepps": 3}
    with pytest.raises(jsonschema.ValidationError, match="stepps"):
        jsonschema.validate(values, schema)
