"""The table of the experts: tokens, movement, and movement without tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.analysis.expert_activity import expert_use
from harness.analysis.study_results import load_results
from harness.report.tables import expert_movement
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]


def test_the_largest_movement_without_a_token_is_that_of_any_seed(made_up_study: Write) -> None:
    study = load_results(made_up_study())
    found = expert_movement(study)
    assert found is not None
    rows = {row[0]: row[1:] for row in found.rows}
    assert list(rows) == list(study.ranked())
    for variant, row in rows.items():
        uses = [expert_use(trial.reports) for trial in study.of(variant)]
        drifts = [u.starved_movement for u in uses if u and u.starved_movement is not None]
        assert row[3] == f"{max(drifts):.3f}"
        shares = [u.starved_periods for u in uses if u]
        assert row[2] == f"{100 * sum(shares) / len(shares):.1f} %"


def test_a_study_without_such_reports_has_no_table(
    made_up_study: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("made_up._activity", lambda *_, **__: None)
    assert expert_movement(load_results(made_up_study())) is None
