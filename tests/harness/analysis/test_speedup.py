"""Steps, tokens and seconds to the baseline's final loss, with runs that never arrive."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from made_up_attempts import forget_attempts

from harness.analysis.machines import hardware
from harness.analysis.speedup import Speedup, speedups
from harness.analysis.stats.speedup import cost_to_target
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import load_results
from harness.report.tables.measures import speedup, write_ratio
from harness.runs.files import write_json
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]


def only(folder: StudyFolder, *, target: float | None = None) -> Speedup:
    analyse_study(folder)
    (found,) = speedups(load_results(folder), target=target)
    return found


def test_each_seed_is_held_against_the_end_of_its_own_baseline_run(made_up_study: Write) -> None:
    folder = made_up_study()
    found = only(folder)
    view = load_results(folder)
    steps = []
    for own, base in zip(view.of("muon"), view.of("adamw"), strict=True):
        assert base.loss is not None
        losses = [float(report.validation_loss or 0.0) for report in own.reports]
        cost = cost_to_target([r.step for r in own.reports], losses, target=base.loss)
        assert cost is not None
        steps.append(cost)
    assert found.steps is not None
    assert found.steps.ratio == pytest.approx(np.exp(np.mean(np.log(120 / np.array(steps)))))
    assert found.steps.kind == "about"
    assert (found.arrived, found.seeds) == (5, 5)
    assert found.median_steps == pytest.approx(np.median(steps))
    assert found.median_tokens == pytest.approx(
        np.median(steps) * view.trials[0].reports[1].tokens / 10
    )


def test_seconds_are_steps_times_the_steady_time_of_a_step(made_up_study: Write) -> None:
    found = only(made_up_study())
    assert found.steps is not None
    assert found.seconds is not None
    assert found.steps.ratio is not None
    # The made-up Muon takes 0.13 to 0.133 seconds a step, AdamW 0.11 to 0.113.
    assert found.seconds.ratio == pytest.approx(found.steps.ratio * 0.1115 / 0.1315, rel=0.02)


def test_a_variant_that_never_arrives_is_only_bounded(made_up_study: Write) -> None:
    found = only(made_up_study(effects={"muon": 0.05}))
    assert found.steps is not None
    assert (found.steps.kind, found.arrived) == ("at most", 0)
    assert write_ratio(found.steps).startswith("at most 1.0")


def test_a_diverged_seed_never_arrives_and_stays_in_the_count(made_up_study: Write) -> None:
    found = only(made_up_study(diverged={("muon", 2): 60}))
    assert found.steps is not None
    assert (found.steps.kind, found.steps.variant_censored, found.seeds) == ("at most", 1, 5)


def test_a_run_that_reached_the_target_and_diverged_later_never_arrived(
    made_up_study: Write,
) -> None:
    found = only(made_up_study(effects={"muon": -0.08}, diverged={("muon", 2): 119}))
    assert found.steps is not None
    assert (found.steps.kind, found.arrived, found.seeds) == ("at most", 4, 5)


def test_a_run_without_a_result_gives_no_speedup_but_a_reason(made_up_study: Write) -> None:
    found = only(made_up_study(failed={("muon", 1): "out of luck"}))
    assert found.steps is None
    assert found.why_not == "a run ended without a result: it might have arrived"


def test_a_baseline_that_lost_a_seed_has_no_final_loss_to_reach(made_up_study: Write) -> None:
    folder = made_up_study(diverged={("adamw", 1): 60})
    found = only(folder)
    assert found.why_not == "adamw lost a seed: no final loss to reach"
    to_target = only(folder, target=3.5)
    assert to_target.steps is not None
    assert to_target.steps.kind == "at least", "a fixed target needs no baseline"
    assert write_ratio(to_target.steps).startswith("at least")


def test_a_loss_that_the_start_already_has_is_no_target(made_up_study: Write) -> None:
    assert only(made_up_study(), target=50.0).why_not == "the target is met before the first step"


def test_without_pairs_the_target_is_one_that_every_baseline_run_reached(
    made_up_study: Write,
) -> None:
    found = only(made_up_study(analysis={"pairing": "unpaired"}))
    assert found.steps is not None
    assert found.steps.baseline_censored == 0


def test_there_is_nothing_before_an_analysis(made_up_study: Write) -> None:
    assert speedups(load_results(made_up_study(seeds=(0, 1)))) == ()


def test_the_table_names_the_hardware_and_its_bias(made_up_study: Write) -> None:
    folder = made_up_study()
    analyse_study(folder)
    (table,) = speedup(load_results(folder))
    assert table.title == "When the final loss of adamw was first seen"  # type: ignore[union-attr]
    note = table.note  # type: ignore[union-attr]
    assert "2 workers on a processor" in note
    assert note.startswith("Not to be quoted as a speed-up")
    assert "in a direction that depends on the schedule" in note
    forget_attempts(folder)
    write_json(folder.environment_path, {"gpus": ["a card"], "cpu": "a processor"})
    assert hardware(load_results(folder)) == "2 workers on a processor", "they trained on CPU"


def test_intervals_of_several_variants_hold_together(made_up_study: Write) -> None:
    alone = only(made_up_study())
    folder = made_up_study(
        name="several",
        variants={
            "adamw": {"kind": "adamw", "lr": 0.004},
            "muon": {"kind": "muon", "lr": 0.02, "aux_lr": 0.004},
            "again": {"kind": "muon", "lr": 0.03},
        },
        effects={"muon": -0.05, "again": -0.05},
    )
    results = analyse_study(folder)
    found = {item.variant: item for item in speedups(results)}["muon"]
    for one, of_two in ((alone.steps, found.steps), (alone.seconds, found.seconds)):
        assert one is not None
        assert of_two is not None
        assert (one.level, of_two.level) == (0.95, 0.975)
        assert one.low is not None
        assert of_two.low is not None
        assert of_two.low < one.low, "a shared alpha makes each interval wider"
    (table,) = speedup(results)
    assert "hold at 95 %, all 2 together" in table.note  # type: ignore[union-attr]


def test_a_target_that_nobody_reached_is_one_sentence(made_up_study: Write) -> None:
    folder = made_up_study()
    analyse_study(folder)
    (said,) = speedup(load_results(folder), target=1.0)
    assert said.text == "No run of any variant reached a loss of 1."  # type: ignore[union-attr]
