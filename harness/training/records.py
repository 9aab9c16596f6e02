"""What a trial yields: a report at each evaluation, and the outcome at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from pydantic import Field

from harness.study.record import Record

OutcomeWord = Literal["completed", "stopped", "diverged", "out_of_memory", "failed"]
"""How a trial ended, from best to worst: several runs of one configuration are as bad as the worst.
"""

OUTCOMES: tuple[OutcomeWord, ...] = get_args(OutcomeWord)


class ExpertActivity(Record):
    """Of every expert, what happened between two reports: by MoE layer, then by expert."""

    tokens: list[list[int]] = Field(
        description="assignments that the expert got in the steps since the last report, over all "
        "workers"
    )
    movement: list[list[float | None]] = Field(
        description="L2 norm of the change of all weights of the expert since the last report; "
        "null: non-finite"
    )


class Report(Record):
    """What a trial yields at an evaluation point. Losses in nats, times in seconds."""

    step: int = Field(description="optimizer steps done")
    tokens: int = Field(description="training tokens seen, over all workers")
    train_loss: float | None = Field(
        description="mean cross-entropy of the steps since the last report; null: non-finite"
    )
    validation_loss: float | None = Field(description="cross-entropy; null: non-finite")
    validation_accuracy: float = Field(description="share of next tokens predicted exactly")
    learning_rate: float = Field(description="of the first parameter group, at the last step")
    gradient_norm: float | None = Field(
        description="global L2 norm before clipping, at the last step; null: non-finite or none"
    )
    train_time_s: float = Field(
        description="training steps only, from the start; without the first step, start-up and "
        "evaluation"
    )
    step_time_s: float | None = Field(
        description="mean time of a step since the last report, the first step left out"
    )
    tokens_per_s: float | None = Field(description="tokens of a step / step_time_s")
    evaluation_time_s: float = Field(description="time in evaluations, from the start")
    checkpoint_time_s: float = Field(
        default=0.0, description="time in checkpoints, from the start; 0 in reports of 0.1.0"
    )
    startup_time_s: float = Field(
        description="from the trial's start to the end of the first step; of a trial that went on "
        "from a checkpoint, that of all its attempts"
    )
    peak_memory_bytes: int = Field(description="peak memory of worker 0 (GPU memory on a GPU)")
    router_load: list[list[float]] = Field(
        description="per MoE layer, the share of assignments of each expert, at this evaluation"
    )
    dead_experts: int = Field(description="experts without a single token at this evaluation")
    counters: dict[str, float] = Field(
        description="the optimizer's own counters, from the start (Newton-Schulz calls, bytes ..)"
    )
    leaked_loss: float | None = Field(
        default=None,
        exclude_if=lambda loss: loss is None,
        description="cross-entropy on windows of the training text (`data.leaked_windows`): no "
        "validation loss; null: not measured, or non-finite",
    )
    experts: ExpertActivity | None = Field(
        default=None,
        description="null: no MoE layer, no step since the last report, or an older version",
    )


class Arithmetic(Record):
    """In what a trial was computed: what its numbers depend on beside its spec."""

    precision: str = Field(description="of the forward and backward pass: fp32, or bf16 autocast")
    ns_dtype: str | None = Field(
        default=None, description="of the Newton-Schulz products; null: the optimizer has none"
    )
    ns_forms: dict[str, str] = Field(
        default_factory=dict, description="form of Newton-Schulz by shape, as in `384x1536`"
    )
    device_type: str = Field(description="cpu or cuda")
    device: str = Field(description="what the processor or the GPU of worker 0 is called")
    torch: str = Field(description="version of torch, without its build")


class Outcome(Record):
    """How a trial ended, and the certificate of what it started from and what it read."""

    outcome: OutcomeWord
    reason: str | None = None
    traceback: str | None = Field(default=None, description="of a failure inside a worker")
    step: int = 0
    tokens: int = 0
    validation_loss: float | None = Field(default=None, description="at the last step, nats")
    validation_accuracy: float | None = None
    diverged_at_step: int | None = None
    initial_parameters_sha256: str | None = None
    batches_sha256: str | None = Field(
        default=None,
        description="data, evaluation windows and the whole planned batch sequence; every report "
        "checks that the windows fed are those",
    )
    arithmetic: Arithmetic | None = Field(
        default=None, description="null: not recorded, by an older version or before a failure"
    )
    code_version: str | None = Field(
        default=None, description="git commit of the code, +dirty where changed; or its version"
    )
    code_sha256: str | None = Field(
        default=None, description="of the sources that decide the numbers: what is certified"
    )
    num_parameters: int | None = None
    routes: list[dict[str, Any]] = Field(
        default_factory=list, description="each parameter's route through the optimizer"
    )
    preflight: dict[str, Any] = Field(
        default_factory=dict, description="what the checks at the start of the trial found"
    )
    wall_time_s: float | None = Field(
        default=None,
        description="from the trial's start to its end; with a resume, what led to the checkpoint "
        "and the last attempt",
    )


def worst_outcome(outcomes: Sequence[Outcome | None]) -> OutcomeWord | None:
    """The worst word; None while one of them is missing."""
    words = [outcome.outcome for outcome in outcomes if outcome is not None]
    return max(words, key=OUTCOMES.index) if len(words) == len(outcomes) else None
