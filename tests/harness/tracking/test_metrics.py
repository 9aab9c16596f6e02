"""The summary run of a variant: changes, speed-up, and what its search found and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from harness.analysis.shrinkage import settings_in_force, shrinkages
from harness.analysis.speedup import speedups
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.runs.folder import StudyFolder
from harness.runs.search_log import SearchLog, Suggested
from harness.tracking.metrics import summary_metrics
from harness.tracking.run_records import note, records, variant_record

Write = Callable[..., StudyFolder]


def test_changes_and_the_speedup_are_metrics(made_up_study: Write) -> None:
    folder = made_up_study()
    analysis = analyse_study(folder).analysis
    assert analysis is not None
    view = load_results(folder)
    values = summary_metrics(view, "muon")
    (comparison,), base = analysis.comparisons, analysis.variants[0]
    assert comparison.mean_difference is not None
    assert base.mean is not None
    assert values["change_percent/validation_loss"] == pytest.approx(
        100 * comparison.mean_difference / base.mean
    )
    (found,) = speedups(view)
    assert found.steps is not None
    assert values["speedup_steps"] == found.steps.ratio
    assert values["speedup_steps/low"] == found.steps.low
    assert "speedup_steps" not in summary_metrics(view, "adamw")


def test_of_a_censored_speedup_only_the_bound_is_a_metric(made_up_study: Write) -> None:
    folder = made_up_study(effects={"muon": 0.0}, diverged={("muon", 2): 60})
    analyse_study(folder)
    values = summary_metrics(load_results(folder), "muon")
    assert "speedup_steps" not in values
    assert "speedup_steps/low" not in values
    assert values["speedup_steps/high"] > 0


def test_the_search_is_told_with_its_luck_and_its_price(made_up_search: Write) -> None:
    folder = made_up_search(tuning={"trials": 3})
    analyse_study(folder)
    view = load_results(folder)
    values = summary_metrics(view, "muon")
    shrunk = next(item for item in shrinkages(view) if item.variant == "muon")
    assert values["shrinkage"] == shrunk.shrinkage
    assert values["tuning_score"] == shrunk.tuning_score
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
