"""From files to rows: every planned trial that ended is a row, whatever its end."""

from __future__ import annotations

import csv
from collections.abc import Callable

import pytest

from harness.analysis.from_csv import read_results
from harness.analysis.result_rows import ResultRow
from harness.analysis.study_analysis import (
    analyse_study,
    analysed_seeds,
    results_rows,
    why_no_analysis,
)
from harness.analysis.study_results import load_results
from harness.report.results_csv import write_results_csv
from harness.runs.files import read_json
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.runs.snapshot import load_snapshot
from harness.training.records import Outcome

Write = Callable[..., StudyFolder]


def by_cell(rows: list[ResultRow]) -> dict[tuple[str, int], ResultRow]:
    return {(row.variant, row.seed): row for row in rows}


def test_a_diverged_seed_stays_in_the_table(eventful_study: StudyFolder) -> None:
    rows = by_cell(results_rows(load_snapshot(eventful_study)))
    assert len(rows) == 25
    lost = rows["muon-hot", 3]
    assert (lost.outcome, lost.value, lost.diverged_at_step) == ("diverged", None, 60)


def test_a_failed_trial_is_a_row_without_a_value(eventful_study: StudyFolder) -> None:
    rows = by_cell(results_rows(load_snapshot(eventful_study)))
    assert (rows["muon-slow", 1].outcome, rows["muon-slow", 1].value) == ("failed", None)


def test_a_trial_that_has_not_ended_is_no_row(made_up_study: Write) -> None:
    folder = made_up_study(unfinished=frozenset({("muon", 2), ("muon", 4)}))
    plan = load_plan(folder)
    rows = results_rows(load_snapshot(folder))
    assert len(rows) == len(plan.trials) - 2
    assert ("muon", 2) not in by_cell(rows)


def test_only_seeds_that_every_variant_has_finished_are_analysed(made_up_study: Write) -> None:
    folder = made_up_study(unfinished=frozenset({("muon", 4)}))
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    assert [summary.seeds for summary in analysis.variants] == [(0, 1, 2, 3)] * 2
    assert analysis.comparisons[0].paired


def test_with_looks_a_variant_that_is_decided_may_have_fewer_seeds(made_up_study: Write) -> None:
    unfinished = {("muon", 3), ("muon", 4), ("adamw", 4)}
    folder = made_up_study(unfinished=frozenset(unfinished), analysis={"looks": [3, 5]})
    assert analysed_seeds(load_results(folder)) == {"adamw": (0, 1, 2, 3), "muon": (0, 1, 2)}


def test_with_looks_a_gap_ends_the_seeds(made_up_study: Write) -> None:
    folder = made_up_study(unfinished=frozenset({("muon", 3)}), analysis={"looks": [3, 5]})
    assert analysed_seeds(load_results(folder))["muon"] == (0, 1, 2)


def test_the_analysis_is_on_disk(made_up_study: Write) -> None:
    folder = made_up_study()
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    stated = read_json(folder.plan_path)["plan_sha256"]
    assert read_json(folder.analysis_path) == {**analysis.to_json(), "plan_sha256": stated}
    assert analysis.comparisons[0].verdict == "better"


def test_fewer_than_three_seeds_give_no_analysis_and_a_reason(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1))
    assert analyse_study(folder).analysis is None
    assert not folder.analysis_path.exists()
    assert "at least 3" in (why_no_analysis(load_results(folder)) or "")


def test_an_analysis_that_the_files_no_longer_support_is_removed(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2))
    analyse_study(folder)
    key = load_plan(folder).trials[0].key
    folder.trial(key).outcome_path.unlink()
    assert analyse_study(folder).analysis is None
    assert not folder.analysis_path.exists()


def test_a_single_variant_gives_a_reason(made_up_study: Write) -> None:
    folder = made_up_study(variants={"adamw": {"kind": "adamw", "lr": 0.004}})
    assert "one variant only" in (why_no_analysis(load_results(folder)) or "")


def test_the_margin_in_percent_follows_from_the_baselines_curve(made_up_study: Write) -> None:
    folder = made_up_study(analysis={"margin_speedup_percent": 5})
    analysis = analyse_study(folder).analysis
    baseline = [t.reports for t in load_results(folder).of("adamw")]
    late = [r for reports in baseline for r in reports if r.step >= 96]
    losses = [r.validation_loss for r in late if r.validation_loss is not None]
    # The made-up curves fall steadily, so the slope is close to that between first and last.
    slope = (min(losses) - max(losses)) / (120 - 100)
    assert analysis is not None
    assert analysis.margin == pytest.approx(0.05 * 120 * abs(slope), rel=0.8)


def test_a_baseline_without_a_curve_for_a_margin_in_percent_is_said(made_up_study: Write) -> None:
    crashed = {("adamw", seed): "out of luck" for seed in range(5)}
    folder = made_up_study(failed=crashed, analysis={"margin_speedup_percent": 5})
    results = analyse_study(folder)
    assert results.analysis is None
    assert "analysis.margin_speedup_percent" in (results.error or "")
    assert not folder.analysis_path.exists()


def test_the_csv_is_what_compare_reads(eventful_study: StudyFolder) -> None:
    path = write_results_csv(load_results(eventful_study))
    assert read_results(path) == results_rows(load_snapshot(eventful_study))


def test_the_csv_keeps_every_digit(made_up_study: Write) -> None:
    folder = made_up_study()
    view = load_results(folder)
    with write_results_csv(view).open(newline="") as file:
        records = list(csv.DictReader(file))
    assert [float(record["value"]) for record in records] == [trial.loss for trial in view.trials]
    assert [float(record["tokens_per_s"]) for record in records] == [
        trial.tokens_per_s for trial in view.trials
    ]


def test_a_reason_with_commas_and_lines_stays_one_record(made_up_study: Write) -> None:
    folder = made_up_study(failed={("muon", 1): 'line one,\n"line two"'})
    with write_results_csv(load_results(folder)).open(newline="") as file:
        records = list(csv.DictReader(file))
    assert len(records) == 10
    assert [r["reason"] for r in records if r["outcome"] == "failed"] == ['line one,\n"line two"']


def test_a_stopped_trial_has_no_value_though_it_reported_a_loss(made_up_study: Write) -> None:
    folder = made_up_study()
    trial = folder.trial(load_plan(folder).trials[0].key)
    trial.finish(Outcome(outcome="stopped", step=60, validation_loss=3.5))
    assert results_rows(load_snapshot(folder))[0].value is None
