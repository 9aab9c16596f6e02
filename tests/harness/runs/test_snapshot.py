"""The rows of the plan with what their folders hold: the baseline's other lengths among them."""

from __future__ import annotations

from collections.abc import Callable

from harness.report.terminal.status import status_values
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import load_snapshot

Write = Callable[..., StudyFolder]
OWN = {"horizons": [30, 60, 240]}


def test_every_row_has_a_name_of_its_own_and_a_status(made_up_study: Write) -> None:
    snapshot = load_snapshot(made_up_study(seeds=(0, 1, 2), analysis=OWN))
    names = snapshot.trial_names()
    assert len(set(names.values())) == len(names) == 3 * (2 + 3)
    assert list(names.values())[:5] == [
        "adamw seed 0",
        "muon seed 0",
        "adamw seed 0, 30 steps",
        "adamw seed 0, 60 steps",
        "adamw seed 0, 240 steps",
    ]
    status = status_values(snapshot)["trials"]["adamw seed 0, 240 steps"]
    assert (status["phase"], status["step"]) == ("horizon", 240)


def test_other_lengths_are_no_confirmation(made_up_study: Write) -> None:
    plain = load_snapshot(made_up_study(seeds=(0, 1, 2), name="plain"))
    snapshot = load_snapshot(made_up_study(seeds=(0, 1, 2), analysis=OWN))
    assert len(snapshot.confirmation) == len(plain.confirmation) == snapshot.finished == 6
    assert snapshot.losses("adamw") == plain.losses("adamw")
    assert snapshot.whole_seeds() == (0, 1, 2)


def test_losses_come_by_length_and_seed(made_up_study: Write) -> None:
    lost = {("adamw at 60", 1): "out of luck"}
    snapshot = load_snapshot(made_up_study(seeds=(0, 1, 2), analysis=OWN, failed=lost))
    found = snapshot.losses_by_length("adamw")
    assert {steps: list(losses) for steps, losses in found.items()} == {
        30: [0, 1, 2],
        60: [0, 2],
        120: [0, 1, 2],
        240: [0, 1, 2],
    }
    assert found[120] == snapshot.losses("adamw")
    assert list(snapshot.losses_by_length("muon")) == [120]


def test_a_search_is_over_before_the_other_lengths_are_known(made_up_search: Write) -> None:
    unchosen = load_snapshot(made_up_search(analysis=OWN, unchosen=True, name="unchosen"))
    assert {trial.planned.phase for trial in unchosen.trials} == {"tuning"}
    snapshot = load_snapshot(made_up_search(analysis=OWN))
    lengths = snapshot.of("adamw", "horizon")
    assert len(lengths) == 3 * len(snapshot.seeds)
    chosen = {trial.spec.optimizer.lr for trial in snapshot.of("adamw") if trial.spec}
    assert {trial.spec.optimizer.lr for trial in lengths if trial.spec} == chosen
    assert len(chosen) == 1
    assert len(set(snapshot.trial_names().values())) == len(snapshot.trials)
