"""From files to rows: every planned trial that ended is a row, whatever its end."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from typing import Any

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
PERCENT = {"margin_speedup_percent": 5, "horizons": [30, 60, 240]}


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


def test_the_margin_in_percent_is_what_a_longer_schedule_is_worth(
    made_up_study: Write, made_up_class: Any
) -> None:
    results = analyse_study(made_up_study(analysis=PERCENT))
    assert results.analysis is not None
    law = made_up_class().law
    assert results.analysis.margin == pytest.approx(law(120) - law(1.05 * 120), rel=0.1)
    # The slope at the end of one of these runs would have given 0.025.
    assert law(120) - law(1.05 * 120) == pytest.approx(0.0204, abs=1e-4)


def test_where_no_law_fits_the_margin_is_read_between_the_lengths(made_up_study: Write) -> None:
    folder = made_up_study(analysis=PERCENT)
    ever_steeper = {30: 3.60, 60: 3.55, None: 3.45, 240: 3.15}
    for trial in load_plan(folder).trials:
        finished = folder.trial(trial.key)
        value = ever_steeper[trial.steps] + 1e-3 * math.sin(trial.seed)
        outcome = finished.outcome()
        assert outcome is not None
        finished.finish(outcome.model_copy(update={"validation_loss": value}))
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    assert analysis.margin == pytest.approx(0.3 * math.log2(1.05))


def test_a_loss_that_does_not_fall_gives_no_margin_and_a_reason(made_up_study: Write) -> None:
    folder = made_up_study(analysis=PERCENT)
    for trial in load_plan(folder).trials:
        finished = folder.trial(trial.key)
        value = 3.0 + (trial.steps or 120) / 1000 + 1e-3 * math.sin(trial.seed)
        outcome = finished.outcome()
        assert outcome is not None
        finished.finish(outcome.model_copy(update={"validation_loss": value}))
    results = analyse_study(folder)
    assert results.analysis is None
    assert "analysis.margin_speedup_percent: " in (results.error or "")
    assert "does not fall" in (results.error or "")
    assert "margin_nats" in (results.error or "")
    assert not folder.analysis_path.exists()


@pytest.mark.parametrize("cell", [("adamw", 1), ("adamw at 60", 1)])
def test_a_baseline_that_lost_a_run_gives_no_margin_and_names_it(
    made_up_study: Write, cell: tuple[str, int]
) -> None:
    results = analyse_study(made_up_study(failed={cell: "out of luck"}, analysis=PERCENT))
    assert results.analysis is None
    steps = 60 if cell[0].endswith("60") else 120
    assert f"adamw at {steps} steps has no final loss for seed(s) [1]" in (results.error or "")
    assert "--retry-failed" in (results.error or "")


def test_a_margin_waits_for_the_horizons(made_up_study: Write) -> None:
    later = frozenset({("adamw at 60", seed) for seed in (2, 3, 4)})
    results = analyse_study(made_up_study(unfinished=later, analysis=PERCENT))
    assert (results.analysis, results.error) == (None, None)
    assert why_no_analysis(results) == (
        "The margin needs adamw at 30, 60, 240 steps too, and 2 of at least 3 seeds are finished "
        "there: run the study again, it continues where it stopped."
    )
    one_later = frozenset({("adamw at 60", 4)})
    assert analyse_study(
        made_up_study(unfinished=one_later, analysis=PERCENT, name="four")
    ).analysis
    in_nats = {"margin_nats": 0.02, "horizons": PERCENT["horizons"]}
    assert analyse_study(made_up_study(unfinished=later, analysis=in_nats, name="nats")).analysis


def test_the_margin_does_not_move_from_look_to_look(made_up_study: Write) -> None:
    """Or a comparison that an early look decided, and that was trained no further, might reopen."""
    lengths = ("adamw", "muon", *(f"adamw at {steps}" for steps in PERCENT["horizons"]))
    later = frozenset((name, seed) for name in lengths for seed in (3, 4))
    looks = {**PERCENT, "looks": [3, 5]}
    first = analyse_study(made_up_study(unfinished=later, analysis=looks, name="first")).analysis
    last = analyse_study(made_up_study(analysis=looks, name="last")).analysis
    once = analyse_study(made_up_study(analysis=PERCENT, name="once")).analysis
    assert first is not None
    assert last is not None
    assert once is not None
    assert last.margin == first.margin != once.margin


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
