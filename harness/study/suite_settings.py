"""The `[suite]` section: how the tasks of a suite are judged together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.study.record import Record


class SuiteSettings(Record):
    """How the results of all tasks will be judged, fixed before the first trial starts.

    A run that diverged, failed or ran out of memory never reaches a target and ranks last, behind
    every run that completed; two such runs tie. It is counted and shown, never left out.
    """

    alpha: float = Field(
        default=0.05,
        ge=1e-6,
        lt=0.5,
        description="probability of any false verdict, over all comparisons of all tasks together: "
        "each task's own analysis gets this, divided by the number of tasks",
    )
    target: Literal["baseline", "given"] = Field(
        default="baseline",
        description="the loss that profiles measure the way to, on each task; baseline: the final "
        "loss of the baseline's run of the same seed, and the highest of its final losses where "
        "runs are no pairs or it lost one; given: the task's analysis.target",
    )
    measure: Literal["steps", "tokens", "time"] = Field(
        default="steps",
        description="what is counted on the way to the target; the leaderboard is in the order of "
        "the area under this profile",
    )
    largest_ratio: float = Field(
        default=4.0,  # tau_max of AlgoPerf, arXiv:2306.07179, section 4.4
        gt=1.0,
        allow_inf_nan=False,
        description="profiles end at this ratio to the fastest variant of a task",
    )
    resamples: int = Field(
        default=2000, ge=100, description="resamples of the bootstrap, stratified by task"
    )
    seed: int = Field(default=0, ge=0, description="of the bootstrap")
