"""A suite's folder: its tasks' studies in, analysis.json out."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import MadeUpStudy

from harness.analysis.horizon_speedup import HorizonSpeedup
from harness.analysis.stats.between_lengths import SpeedupBetween
from harness.analysis.study_analysis import analyse_study
from harness.analysis.suite import study_task
from harness.analysis.suite.costs import costs_of
from harness.analysis.suite.study_task import task_of_study
from harness.analysis.suite.suite_analysis import analyse_suite, load_suite_results
from harness.analysis.suite.task_data import TaskData
from harness.errors import UserError
from harness.report.suite.values import speedup as written
from harness.runs.files import write_json
from harness.runs.plan_file import load_plan
from harness.runs.suite_folder import PlannedTask, SuiteFolder, SuitePlan
from harness.study.suite_settings import SuiteSettings

ALPHA = {"alpha": 0.05 / 3}


def write_suite(path: Path, *studies: MadeUpStudy, **settings) -> SuiteFolder:
    folder = SuiteFolder(path)
    tasks = []
    for index, study in enumerate(studies):
        own = study.write(path / "tasks")
        tasks.append(
            PlannedTask(
                name=study.name,
                plan_sha256=load_plan(own).sha256,
                active_parameters=10**6 * 2**index,
                tokens=10**8,
            )
        )
    plan = SuitePlan(
        name="three",
        settings=SuiteSettings(resamples=200, **settings),
        baseline="adamw",
        variants=("adamw", "muon"),
        tasks=tuple(tasks),
    )
    write_json(folder.plan_path, {**plan.model_dump(mode="json"), "suite_sha256": plan.sha256})
    return folder


def studies(**last) -> list[MadeUpStudy]:
    return [
        MadeUpStudy(name="a", analysis=ALPHA),
        MadeUpStudy(name="b", analysis=ALPHA, effects={"muon": -0.08}),
        MadeUpStudy(name="c", analysis=ALPHA, **last),
    ]


def test_a_suite_is_analysed_from_its_folder_and_read_back(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "three", *studies())
    made = analyse_suite(folder)
    assert made.complete
    assert made.analysis is not None
    assert load_suite_results(folder).analysis == made.analysis
    assert folder.task("a").analysis_path.exists()
    muon = made.analysis.standing("muon")
    assert (muon.better, muon.place, muon.reached) == (3, 1, 3)
    task = made.analysis.tasks[0]
    # Of each pair the baseline reaches its own final loss with its last step.
    assert (task.target, task.baseline_cost) == (None, 120.0)
    assert made.analysis.result("a", "muon").interval is not None
    speedup = made.analysis.result("b", "muon").speedup
    assert speedup is not None
    assert speedup.source == "inside a run"


def test_what_is_not_finished_or_diverged_is_seen(tmp_path: Path) -> None:
    lost = {("muon", seed): 60 for seed in range(5)}
    some = studies(diverged=lost)
    some[0].unfinished = frozenset(("muon", seed) for seed in (1, 2, 3, 4))
    made = analyse_suite(write_suite(tmp_path / "three", *some))
    assert not made.complete
    analysis = made.analysis
    assert analysis is not None
    assert analysis.tasks[0].why_not is not None
    assert "1 of 5 seeds" in analysis.tasks[0].why_not
    row = analysis.standing("muon")
    assert (row.tasks, row.reached, row.diverged) == (2, 1, 5)
    assert row.score is not None
    assert row.score.value == 0.5


def test_verdicts_before_the_last_run_are_said_to_be_no_planned_result(tmp_path: Path) -> None:
    some = studies()
    some[1].unfinished = frozenset({("muon", 4)})
    folder = write_suite(tmp_path / "three", *some)
    analysis = analyse_suite(folder).analysis
    assert analysis is not None
    assert analysis.result("b", "muon").verdict is not None
    assert any(note.startswith("not the planned result on b:") for note in analysis.notes)
    whole = analyse_suite(write_suite(tmp_path / "whole", *studies())).analysis
    assert whole is not None
    assert not any("planned result" in note for note in whole.notes)


def test_a_given_target_and_each_measure(tmp_path: Path) -> None:
    study = MadeUpStudy(name="a", analysis={**ALPHA, "target": 3.6})
    results = analyse_study(study.write(tmp_path))
    given = {
        m: costs_of(results, SuiteSettings(target="given", measure=m), paired=True)
        for m in ("steps", "tokens", "time")
    }
    assert given["steps"].target == 3.6
    steps, tokens, time = (given[m].by_variant["adamw"][0] for m in ("steps", "tokens", "time"))
    assert steps is not None
    assert tokens is not None
    assert time is not None
    assert steps < 120
    per_step = results.settings.tokens_per_step
    assert tokens == pytest.approx(steps * per_step)
    trial = results.of("adamw")[0]
    assert trial.step_time_s is not None
    assert time == pytest.approx(steps * trial.step_time_s)


def test_without_pairs_or_with_a_lost_baseline_the_target_is_its_highest_loss(
    tmp_path: Path,
) -> None:
    study = MadeUpStudy(name="a", diverged={("adamw", 2): 60})
    results = analyse_study(study.write(tmp_path))
    costs = costs_of(results, SuiteSettings(), paired=True)
    ends = list(results.losses("adamw").values())
    assert costs.target == max(ends)
    assert costs.by_variant["adamw"][2] is None
    assert all(costs.by_variant["adamw"][seed] is not None for seed in (0, 1, 3, 4))
    too_high = MadeUpStudy(name="b", analysis={"target": 99.0})
    met = costs_of(
        analyse_study(too_high.write(tmp_path)), SuiteSettings(target="given"), paired=True
    )
    assert met.why_not == "the target is met before the first step"


def test_a_run_that_reached_the_target_and_diverged_later_never_arrived(tmp_path: Path) -> None:
    study = MadeUpStudy(name="a", analysis={"target": 6.0}, diverged={("muon", 1): 100})
    costs = costs_of(
        analyse_study(study.write(tmp_path)), SuiteSettings(target="given"), paired=True
    )
    assert costs.by_variant["muon"][1] is None
    assert costs.by_variant["muon"][0] is not None


def test_what_horizons_say_is_quoted_be_it_a_bound_or_beyond_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read inside its runs Muon has a number, which a bound by the baseline's lengths outweighs."""

    def muon(effect: float, horizons: list[int]) -> TaskData:
        own = {**ALPHA, "horizons": horizons}
        name = f"e{round(-1000 * effect)}"
        study = MadeUpStudy(name=name, analysis=own, effects={"muon": effect})
        planned = PlannedTask(name="a", plan_sha256="", active_parameters=1, tokens=1)
        return task_of_study(planned, analyse_study(study.write(tmp_path)), SuiteSettings())

    beyond = muon(-0.4, [30, 60, 240]).speedup("muon")
    assert beyond is not None
    assert (beyond.source, beyond.kind, beyond.extrapolated) == ("horizons", "about", True)
    assert written(beyond).endswith("], extrapolated")
    within = muon(-0.05, [30, 60, 240])
    quoted = within.speedup("muon")
    assert quoted is not None
    assert (quoted.source, quoted.extrapolated) == ("horizons", False)

    def read(low: float | None, high: float | None) -> str:
        result = SpeedupBetween(speedup=None, low=low, high=high, level=0.95, seeds=5)
        found = HorizonSpeedup(variant="muon", lengths=(30, 60, 120, 240), result=result)
        monkeypatch.setattr(study_task, "horizon_speedups", lambda study: (found,))
        return written(muon(-0.05, [30, 60, 240]).speedup("muon"))

    assert read(1.96, None) == "at least 1.96"
    assert read(None, 0.8) == "at most 0.80"
    assert read(None, None).endswith("]*"), "then it is what was read inside the runs"


def test_a_folder_without_a_suite_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no suite in"):
        analyse_suite(SuiteFolder(tmp_path))
