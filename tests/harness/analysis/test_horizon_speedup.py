"""The speed-up in data, from studies of one baseline at several lengths."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from harness.analysis.horizon_speedup import horizon_speedups
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.errors import UserError
from harness.report.html import write_html
from harness.report.write import gather
from harness.runs.files import read_json, write_json
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan

Write = Callable[..., StudyFolder]
LENGTHS = (60, 120, 240, 480)


def law(steps: float) -> float:
    return 2.0 + 4.0 * math.pow(steps, -0.3)


def write_lengths(made_up_study: Write, lengths: tuple[int, ...] = LENGTHS) -> list[StudyFolder]:
    """Studies whose AdamW follows a law and whose Muon is as good as 1.5 times as much data."""
    folders = []
    for steps in lengths:
        folder = made_up_study(name=f"steps-{steps}", steps=steps, every=steps, seeds=(0, 1, 2))
        for trial in load_plan(folder).trials:
            path = folder.trial(trial.key).outcome_path
            worth = 1.5 if trial.variant == "muon" else 1.0
            # The luck of a seed moves both variants alike.
            value = law(worth * steps) + 1e-4 * math.sin(trial.seed + steps)
            write_json(path, {**read_json(path), "validation_loss": value})
        folders.append(folder)
    return folders


def test_a_variant_worth_half_as_much_data_again_is_found(made_up_study: Write) -> None:
    *others, last = [load_results(folder) for folder in write_lengths(made_up_study)]
    (found,) = horizon_speedups(others[1], [others[0], others[2], last])
    assert found.result is not None
    assert found.result.speedup == pytest.approx(1.5, rel=0.01)
    assert found.result.low is not None
    assert found.result.high is not None
    assert found.result.low < 1.5 < found.result.high
    assert not found.result.extrapolated
    (beyond,) = horizon_speedups(last, others)
    assert beyond.result is not None
    assert beyond.result.extrapolated, "its loss is below that of the longest baseline"


def test_the_page_shows_it_when_asked(made_up_study: Write) -> None:
    *others, last = write_lengths(made_up_study)
    text = write_html(gather(analyse_study(last), horizons=others, draw=lambda view: {}))
    assert ">Speed-up in data<" in text
    assert "extrapolated" in text
    assert "Speed-up in data" not in write_html(gather(analyse_study(last), draw=lambda view: {}))


def test_what_is_no_length_of_one_baseline_is_refused(made_up_study: Write) -> None:
    first, second, third, last = (load_results(f) for f in write_lengths(made_up_study))
    with pytest.raises(UserError, match="3 length"):
        horizon_speedups(last, [first, second])
    stranger = load_results(
        made_up_study(
            name="stranger",
            steps=30,
            every=30,
            variants={"sgd": {"kind": "adamw", "lr": 0.1}, "x": {"kind": "adamw", "lr": 0.2}},
        )
    )
    with pytest.raises(UserError, match="there is no variant 'adamw'"):
        horizon_speedups(last, [first, second, third, stranger])
    folder = made_up_study(name="lost", steps=30, every=15, diverged={("adamw", 1): 15})
    with pytest.raises(UserError, match=r"lost: adamw has no final loss for seed\(s\) \[1\]"):
        horizon_speedups(last, [first, second, third, load_results(folder)])
