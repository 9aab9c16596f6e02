"""The summary run of a variant: changes, speed-up, and what its search found and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from harness.analysis.horizon_speedup import horizon_speedups
from harness.analysis.shrinkage import settings_in_force, shrinkages
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.runs.folder import StudyFolder
from harness.runs.search_log import SearchLog, Suggested
from harness.tracking.metrics import (
    report_metrics,
    rounded,
    summary_metrics,
    with_final_loss,
)
from harness.tracking.run_records import note, records, variant_record

Write = Callable[..., StudyFolder]


def test_changes_in_percent_are_metrics(made_up_study: Write) -> None:
    view = analyse_study(made_up_study())
    assert view.analysis is not None
    values = summary_metrics(view, "muon")
    (comparison,), base = view.analysis.comparisons, view.analysis.variants[0]
    assert comparison.mean_difference is not None
    assert base.mean is not None
    assert values["change_percent/validation_loss"] == pytest.approx(
        100 * comparison.mean_difference / base.mean, rel=1e-5
    )


def test_the_speedup_is_that_of_the_other_lengths(made_up_study: Write) -> None:
    view = analyse_study(made_up_study(analysis={"horizons": [30, 60, 240]}, every=60))
    (found,) = horizon_speedups(view)
    assert found.result is not None
    assert found.result.speedup is not None
    values = summary_metrics(view, "muon")
    assert values["speedup_data"] == rounded(found.result.speedup)
    assert "speedup_data" not in summary_metrics(view, "adamw")
    crossings = analyse_study(made_up_study(name="crossings", every=60))
    assert not any("speedup" in name for name in summary_metrics(crossings, "muon"))


def test_a_report_of_a_deep_model_is_some_thirty_metrics(made_up_study: Write) -> None:
    trial = load_results(made_up_study(seeds=(0, 1, 2), every=60)).of("muon")[0]
    last = trial.last
    assert last is not None
    deep = last.model_copy(
        update={
            "router_load": [[0.1, 0.9], [0.3, 0.7], *[[0.5, 0.5]] * 46],
            "counters": {f"counter_{index}": 1.5 for index in range(100)} | last.counters,
        }
    )
    found = with_final_loss(report_metrics(deep), 3.0)
    values = {key: value for key, value, _ in found.values}
    assert len(values) < 40
    assert (values["router/largest_share"], values["router/smallest_share"]) == (0.9, 0.1)
    assert "counters/Newton-Schulz calls" in values, "ours come before those of others"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3.4312712345, 3.43127), (13107200.0, 13107200.0), (0.00123456789, 0.00123457), (-0.0, 0.0)],
)
def test_a_metric_has_the_digits_that_it_carries(value: float, expected: float) -> None:
    assert rounded(value) == expected


def test_the_search_is_told_with_its_luck_and_its_price(made_up_search: Write) -> None:
    folder = made_up_search(tuning={"trials": 3})
    analyse_study(folder)
    view = load_results(folder)
    values = summary_metrics(view, "muon")
    shrunk = next(item for item in shrinkages(view) if item.variant == "muon")
    assert shrunk.shrinkage is not None
    assert values["shrinkage"] == rounded(shrunk.shrinkage)
    assert values["tuning_score"] == rounded(shrunk.tuning_score)
    assert values["ledger/configurations"] == 3
    assert values["ledger/training_runs"] == 6
    assert variant_record(view, "muon").tags["tuned"].startswith(("yes", "no: "))


def test_what_a_search_may_still_choose_is_not_written_yet(made_up_search: Write) -> None:
    under_way = load_results(made_up_search(tuning={"trials": 2}, unchosen=True))
    optimizer = settings_in_force(under_way, "muon")["optimizer"]
    assert "lr" not in optimizer
    assert optimizer["kind"] == "muon"
    assert "0 of 0" not in note(under_way)
    view = load_results(made_up_search(name="over", tuning={"trials": 2}))
    assert view.search is not None
    chosen = view.search.variants["muon"].chosen
    assert chosen is not None
    assert settings_in_force(view, "muon")["optimizer"]["lr"] == chosen.point["lr"]


def test_every_training_run_of_a_search_is_one_run(made_up_search: Write) -> None:
    folder = made_up_search(tuning={"trials": 3})
    events = SearchLog(folder.path).events()
    again = next(event for event in events if isinstance(event, Suggested))
    SearchLog(folder.path).append(again.model_copy(update={"index": 3}))
    roles = Counter(record.role for record in records(load_results(folder)))
    assert set(roles.values()) == {1}
    assert sum(role.startswith("trial/tuning/muon/") for role in roles) == 6


def test_checkpoints_take_time_and_move_the_points(made_up_study: Write) -> None:
    report = load_results(made_up_study(seeds=(0, 1, 2))).trials[0].reports[-1]
    plain = report_metrics(report)
    slow = report_metrics(report.model_copy(update={"checkpoint_time_s": 7.0}))
    assert ("time/checkpoint_s", 7.0, report.step) in slow.values
    assert slow.elapsed_s == pytest.approx(plain.elapsed_s + 7.0)
