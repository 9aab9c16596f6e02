"""The commands that do not train, with the JSON that a script reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main


@pytest.fixture
def optbench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Runs the command in this process and returns its standard output."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["optbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert not end.value.code, captured.err
        return captured.out

    return call


Optbench = Callable[..., str]


def test_the_plan_is_frozen_and_says_what_its_seeds_can_show(
    optbench: Optbench, study_file: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    arguments = ("plan", study_file, "--runs-dir", runs, "--sigma", "0.01", "--json")
    plan = json.loads(optbench(*arguments))
    assert plan["training_runs"] == 6
    assert plan["capability"]["minimum_exact_p"] == 0.25
    assert plan["capability"]["detectable_difference"] > 0.01
    assert [point["seeds"] for point in plan["power_curve"]["points"]] == list(range(3, 21))
    frozen = json.loads((runs / "tiny" / "plan.json").read_text())
    assert frozen["plan_sha256"] == plan["plan_sha256"]


def test_the_plan_draws_its_power_in_the_terminal_and_as_a_figure(
    optbench: Optbench, study_file: Path, tmp_path: Path
) -> None:
    figure = tmp_path / "power.png"
    seeds = ("--set", "seeds.confirmation=[0, 1, 2, 3, 4]")
    text = optbench("plan", study_file, "--runs-dir", tmp_path / "runs", "--figure", figure, *seeds)
    assert "looks = [3, 4, 5]" in text
    assert "100 % ┤" in text
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_draft_of_a_plan_writes_nothing_and_may_be_changed(
    optbench: Optbench, study_file: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    for steps in (6, 9):
        changed = ("--set", f"training.steps={steps}")
        assert "plan hash" in optbench("plan", study_file, "--runs-dir", runs, "--draft", *changed)
    assert not runs.exists()


def test_an_amended_plan_keeps_its_reason_and_what_changed(
    optbench: Optbench, study_file: Path, tmp_path: Path
) -> None:
    from harness.runs.folder import StudyFolder

    runs = tmp_path / "runs"
    optbench("plan", study_file, "--runs-dir", runs)
    changed = ("--set", "training.steps=9", "--amend", "too short to see anything")
    optbench("plan", study_file, "--runs-dir", runs, *changed)
    (amendment,) = StudyFolder(runs / "tiny").amendments()
    assert amendment.why == "too short to see anything"
    assert "training.steps (6 -> 9)" in amendment.changes
    assert amendment.from_sha256 != amendment.to_sha256


def test_a_seed_more_needs_no_amendment_and_the_plan_says_that_it_was_added(
    optbench: Optbench, study_file: Path, tmp_path: Path
) -> None:
    arguments = ("plan", study_file, "--runs-dir", tmp_path / "runs")
    first = json.loads(optbench(*arguments, "--json"))
    assert first["additions"] == []
    more = ("--set", "seeds.confirmation=[0, 1, 2, 3]")
    text = optbench(*arguments, *more, "--amend", "room for one more")
    assert "Added to the plan on" in text
    second = json.loads(optbench(*arguments, *more, "--json"))
    (line,) = second["additions"]
    assert line.endswith(
        "before any training run had ended: confirmation seed 3 (room for one more)."
    )
    assert (first["trials"], second["trials"]) == (6, 8)
    assert not (tmp_path / "runs" / "tiny" / "amendments.json").exists()


def test_a_run_says_what_it_adds_before_it_trains(
    optbench: Optbench, study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import harness.cli.run_study as run_study
    from harness.runs.folder import StudyFolder
    from harness.runs.plan_file import load_plan
    from harness.training.records import Outcome

    class NothingIsTrained:
        def __init__(self, study: Any, *, console: Any, **_: Any) -> None:
            self.console = console

        def __enter__(self) -> NothingIsTrained:
            return self

        def __exit__(self, *_: object) -> None: ...

        def search(self) -> None: ...

        def confirm(self, **_: Any) -> None:
            self.console.print("training")

    monkeypatch.setattr(run_study, "StudyRun", NothingIsTrained)
    monkeypatch.setattr(run_study, "conclude", lambda *_: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    command = ("run", study_file, "--runs-dir", tmp_path / "runs")
    assert optbench(*command) == "training\n"
    folder = StudyFolder(tmp_path / "runs" / "tiny")
    for trial in load_plan(folder).trials[:2]:
        folder.trial(trial.key).path.mkdir(parents=True)
        folder.trial(trial.key).finish(Outcome(outcome="completed", validation_loss=3.0))
    more = ("--set", "seeds.confirmation=[0, 1, 2, 3]")
    added, warning, training = optbench(*command, *more).splitlines()
    assert added.endswith("when 2 training runs had ended: confirmation seed 3.")
    assert "the verdicts are exploratory" in warning
    assert "declare `looks`" in warning
    assert training == "training"
    assert optbench(*command, *more) == "training\n", "it is said when it is added"


def test_routes_name_every_parameter_its_owner_and_its_bytes(
    optbench: Optbench, study_file: Path
) -> None:
    arguments = ("routes", study_file, "--set", "resources.workers=2", "--json")
    routes: dict[str, Any] = json.loads(optbench(*arguments))
    muon = {row["name"]: row for row in routes["muon"]["parameters"]}
    assert muon["embedding.weight"]["algorithm"] == "adamw"
    assert muon["blocks.0.attention.qkv.weight"]["matrices"] == 3
    assert set(muon["blocks.0.feed_forward.experts.up"]["owners"]) <= {0, 1}
    sent = routes["muon"]["bytes_sent_per_worker"]
    assert sum(sent) / 2 == pytest.approx(routes["muon"]["bytes_floor_per_worker"])
    assert routes["adamw"]["bytes_sent_per_worker"] == [0, 0]


def test_compare_prints_a_verdict_and_versioned_json(optbench: Optbench, tmp_path: Path) -> None:
    rows = [f"adamw,{seed},{3.0 + 0.01 * seed}" for seed in range(6)]
    rows += [f"muon,{seed},{2.9 + 0.011 * seed}" for seed in range(6)]
    table = tmp_path / "results.csv"
    table.write_text("variant,seed,value\n" + "\n".join(rows) + "\n")
    text = optbench("compare", table, "--baseline", "adamw", "--paired")
    assert "muon is better than adamw" in " ".join(text.split())
    values = json.loads(optbench("compare", table, "--baseline", "adamw", "--json"))
    assert values["schema_version"] == 2
    assert values["comparisons"][0]["paired"] is False


def test_the_description_of_the_data_counts_documents_and_overlap(
    optbench: Optbench, study_file: Path
) -> None:
    described = json.loads(optbench("data", study_file, "--json"))
    assert "overlap" in json.dumps(described)
    assert "documents" in json.dumps(described)


def test_schema_prints_every_section_and_one_of_them(optbench: Optbench) -> None:
    assert "zero_stage" in optbench("schema", "training")
    assert "TrainingConfig" in optbench("schema", "--json")
