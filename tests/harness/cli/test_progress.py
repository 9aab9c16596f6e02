"""What a person sees while trials run."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from harness.cli.progress import Progress
from harness.study.plan import expand, make_plan
from harness.training.records import Outcome
from tune.job import Job

DATA = "0" * 64


def test_a_longer_run_of_the_baseline_does_not_lead(made_up_class: Any) -> None:
    study = made_up_class(seeds=(0, 1, 2), analysis={"horizons": [30, 60, 240]}).study()
    plan, specs = make_plan(study, DATA), expand(study, DATA)
    console = Console(file=io.StringIO(), width=200)
    progress = Progress(total=len(specs), already_done=0, console=console)
    losses = {None: 3.4, 30: 4.0, 60: 3.7, 240: 3.0}
    for row in (trial for trial in plan.trials if (trial.seed, trial.variant) == (0, "adamw")):
        comparable = row.phase == "confirmation"
        job = Job(
            spec=specs[row.key], variants=("adamw",), detail=row.detail, comparable=comparable
        )
        progress.trial_started(job)
        loss = losses[row.steps]
        progress.trial_ended(job.key, Outcome(outcome="completed", validation_loss=loss))
    assert progress.best == {"adamw": 3.4}
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[4/15] adamw seed 0, 240 steps: completed, validation loss 3.0000" in written


def test_somebody_who_waits_for_the_first_trial_reads_what_goes_on(made_up_class: Any) -> None:
    study = made_up_class(seeds=(0,)).study()
    plan, specs = make_plan(study, DATA), expand(study, DATA)
    shown = []
    for terminal in (True, False):
        console = Console(file=io.StringIO(), width=200, force_terminal=terminal)
        with Progress(total=2, already_done=0, console=console) as progress:
            progress.say("starting Ray")
            console.print(progress)
            row = plan.trials[0]
            progress.trial_started(Job(spec=specs[row.key], variants=("adamw",), detail="seed 0"))
            console.print(progress)
        shown.append(console.file.getvalue())  # type: ignore[attr-defined]
    in_a_terminal, in_a_log = shown
    assert "starting Ray" in in_a_terminal
    assert "training" in in_a_terminal
    assert in_a_log.startswith("starting Ray (0 s so far)\n")
