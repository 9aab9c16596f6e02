"""A claim taken apart: the parts add up, and what begins at the baseline is what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from harness.analysis.decomposition import Decomposition, decompose
from harness.analysis.leak import leaks
from harness.analysis.study_analysis import analyse_study
from harness.report.tables import decomposition, decomposition_sentence
from harness.runs.folder import StudyFolder
from harness.study.study_file import Study

Write = Callable[..., StudyFolder]

VARIANTS: dict[str, dict[str, Any]] = {
    "adamw": {"kind": "adamw", "lr": 0.004},
    "published": {"kind": "adamw", "lr": 0.01},
    "muon": {"kind": "muon", "lr": 0.02},
    "muon-published": {"kind": "muon", "lr": 0.01},
}
STAGES = ["published@leaked", "published", "adamw", "muon", "muon-published@leaked"]
EFFECTS = {"published": 0.5, "muon": -0.2, "muon-published": -0.1}
LEAKS = dict.fromkeys(VARIANTS, 0.0) | {"published": 0.1, "muon-published": 1.0}


def made(write: Write, **changes: Any) -> StudyFolder:
    analysis = {"decomposition": STAGES, "baseline": "adamw"} | changes.pop("analysis", {})
    given = {"variants": VARIANTS, "effects": EFFECTS, "leaks": LEAKS} | changes
    return write(**given, analysis=analysis)


def found(write: Write, **changes: Any) -> Decomposition:
    result = decompose(analyse_study(made(write, **changes)))
    assert result is not None
    return result


def test_parts_add_up_to_the_whole_and_know_what_is_left(made_up_study: Write) -> None:
    result = found(made_up_study)
    differences = [part.difference for part in result.parts]
    assert all(difference is not None for difference in differences)
    assert sum(d for d in differences if d is not None) == pytest.approx(result.whole.difference)
    assert result.rest is not None
    assert result.rest.name == "adamw → muon"
    assert result.rest.difference == pytest.approx(-0.2, abs=0.02)
    assert result.parts[0].difference == pytest.approx(0.1, abs=0.02)
    assert result.parts[-1].difference == pytest.approx(0.1 - 1.0, abs=0.02)
    assert all(part.paired for part in result.parts)


def test_intervals_are_paired_t_and_hold_together(made_up_study: Write) -> None:
    folder = made(made_up_study)
    study = analyse_study(folder)
    result = decompose(study)
    assert result is not None
    assert result.rest is not None
    before, after = ([t.loss for t in study.of(name)] for name in ("adamw", "muon"))
    student = stats.ttest_rel(after, before).confidence_interval(1 - 0.05 / len(STAGES))
    assert result.rest.interval is not None
    assert (result.rest.interval.low, result.rest.interval.high) == pytest.approx(
        (student.low, student.high)
    )


def test_a_stage_that_lost_a_seed_has_no_part_and_says_so(made_up_study: Write) -> None:
    result = found(made_up_study, diverged={("published", 2): 40})
    assert result.whole.why_not == "published@leaked lost a seed"
    assert result.parts[0].difference is None
    assert result.rest is not None
    assert result.rest.difference is not None
    assert result.share_left is None


def test_the_sentence_names_claim_and_rest(made_up_study: Write) -> None:
    result = found(made_up_study)
    sentence = decomposition_sentence(result)
    assert sentence is not None
    assert sentence.startswith("Of the −1.50 nats from published@leaked to muon-published@leaked")
    assert "are left from adamw to muon" in sentence


def test_where_the_rest_points_the_other_way_nothing_of_the_claim_is_left(
    made_up_study: Write,
) -> None:
    result = found(made_up_study, effects=EFFECTS | {"muon": 0.2})
    sentence = decomposition_sentence(result)
    assert sentence is not None
    assert "nothing is left: from adamw to muon the difference is +0.2" in sentence
    assert sentence.endswith("the other way.")
    assert "%" not in sentence


def test_a_chain_past_the_baseline_has_no_rest(made_up_study: Write) -> None:
    result = found(made_up_study, analysis={"decomposition": ["published", "muon"]})
    assert result.rest is None
    assert decomposition_sentence(result) is None


def test_the_worth_of_a_leak_is_within_each_run(made_up_study: Write) -> None:
    study = analyse_study(made(made_up_study))
    by_variant = {leak.variant: leak for leak in leaks(study)}
    assert set(by_variant) == set(VARIANTS)
    own = by_variant["muon-published"]
    worths = [t.loss - t.leaked_loss for t in study.of("muon-published")]
    assert own.worth == pytest.approx(np.mean(worths))
    assert own.interval is not None
    assert own.interval.level == pytest.approx(1 - 0.05 / len(VARIANTS))


def test_a_study_that_asks_for_nothing_has_nothing(made_up_study: Write) -> None:
    study = analyse_study(made_up_study())
    assert decompose(study) is None
    assert leaks(study) == ()


@given(order=st.permutations(list(VARIANTS)))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_of_stages_adds_up(made_up_study: Write, order: list[str]) -> None:
    name = "+".join(order)
    result = found(made_up_study, name=name, analysis={"decomposition": order})
    total = sum(part.difference or 0.0 for part in result.parts)
    assert total == pytest.approx(result.whole.difference)


@pytest.mark.parametrize(
    ("stages", "leaked_windows", "message"),
    [
        (["adamw", "adam"], 0, "'adam' is not a variant"),
        (["adamw@leaked", "muon"], 0, "data.leaked_windows above 0"),
        (["adamw"], 0, "needs two stages or more"),
        (["adamw", "adamw", "muon"], 0, "neighbours that differ"),
    ],
)
def test_stages_that_nothing_measures_are_refused(
    stages: list[str], leaked_windows: int, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Study.model_validate(
            {
                "name": "claim",
                "data": {"leaked_windows": leaked_windows},
                "model": {"size": "tiny"},
                "training": {"steps": 10, "batch_size": 4},
                "variants": [
                    {"name": name, "optimizer": VARIANTS[name]} for name in ("adamw", "muon")
                ],
                "analysis": {"baseline": "adamw", "decomposition": stages},
            }
        )


def test_the_table_ends_with_the_whole(made_up_study: Write) -> None:
    study = analyse_study(made(made_up_study))
    result = decompose(study)
    assert result is not None
    rows = decomposition(study, result).rows
    assert len(rows) == len(STAGES)
    assert rows[2][-1] == "what is left of the claim"
    assert rows[-1][-1] == "the sum of the parts"
