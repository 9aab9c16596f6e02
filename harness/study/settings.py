"""Every setting of a study file with its default: training, seeds, tuning, analysis.

Those that are no part of what a trial is stand in `harness/study/placement.py`; those of the data,
of the model and of the optimizers where these are built: `harness/data/config.py`,
`models/config.py` and the specs in `optimizers/`.
"""

from __future__ import annotations

import itertools
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.study.record import Record
from optimizers import LearningRateSchedule

MINIMUM_SEEDS = 3
"""Fewer seeds than these say nothing: `harness.analysis.stats` refuses them too."""


class TrainingConfig(Record):
    """How every variant is trained; the same for all of them."""

    steps: int = Field(
        ge=1,
        description="optimizer steps (updates) of one trial: 250, where a program counts 1000 "
        "micro-batches and updates at every fourth",
    )
    batch_size: int = Field(
        ge=1,
        description="sequences per optimizer step, over all workers and micro-batches: 96 for "
        "four micro-batches of 24",
    )
    accumulation_steps: int = Field(
        default=1,
        ge=1,
        description="micro-batches per optimizer step on each worker: 4 cut a batch_size of 96 on "
        "one worker into four of 24",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="fp32, or bf16 autocast with fp32 weights"
    )
    backend: Literal["ddp", "deepspeed", "fsdp2"] = Field(
        default="ddp", description="what holds the weights and exchanges the gradients"
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        default=0, description="DeepSpeed ZeRO stage; read by the deepspeed backend only"
    )
    compile: Literal["auto", "on", "off"] = Field(
        default="auto",
        exclude_if=lambda value: value == "auto",  # a default changes no hash of a trial
        description="whether the model's blocks run through torch.compile; 'auto': on a GPU",
    )
    activation_checkpointing: bool = Field(
        default=False,
        exclude_if=lambda value: not value,
        description="whether the activations inside of a block are made again in the backward "
        "pass instead of kept: less memory, a third more work, the same result",
    )
    clip_norm: float = Field(
        default=1.0, ge=0, description="largest global L2 norm of the raw gradient; 0: no clipping"
    )
    schedule: LearningRateSchedule = Field(
        default_factory=LearningRateSchedule,
        description="learning-rate schedule of every variant that names none of its own",
    )
    evaluation_every: int = Field(
        default=50, ge=1, description="steps between two evaluations (the last step always has one)"
    )
    evaluation_windows: int = Field(
        default=256,
        ge=1,
        description="validation windows of one evaluation, always the same first ones",
    )
    divergence_loss: float | None = Field(
        default=None,
        gt=0,
        description="a training loss (nats) above this value counts as diverged; "
        "a non-finite loss always does",
    )
    divergence_after_step: int = Field(
        default=0, ge=0, description="`divergence_loss` is not applied before this step"
    )


class SeedsConfig(Record):
    """Which seeds choose and which seeds measure; never the same ones."""

    confirmation: tuple[int, ...] = Field(
        default=tuple(range(8)), description="seeds that measure; at least 3, 8 by default"
    )
    tuning: tuple[int, ...] = Field(
        default=(), description="seeds that choose hyperparameters; disjoint from `confirmation`"
    )

    @field_validator("confirmation", "tuning")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if repeated := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(f"seeds named more than once: {repeated}: name each seed once")
        if negative := sorted(seed for seed in seeds if seed < 0):
            raise ValueError(f"negative seeds: {negative}: seeds start at 0")
        return seeds

    @model_validator(mode="after")
    def _selection_and_measurement_are_apart(self) -> SeedsConfig:
        if shared := sorted(set(self.confirmation) & set(self.tuning)):
            raise ValueError(
                f"seeds {shared} are in `tuning` and in `confirmation`: what chose a variant "
                "must not measure it; use fresh seeds for one of the two"
            )
        return self


class AshaSettings(Record):
    """Asynchronous successive halving (ASHA, arXiv 1810.05934) within each variant.

    Early losses rank the configurations of one optimizer usefully, but not different optimizers:
    in public Muon studies the eventual winner ranked 8th of 24 early on. Hence the limits.
    """

    reduction_factor: float = Field(
        default=2.0,
        gt=1.0,
        le=2.0,
        description="at a rung a configuration goes on if it is among the best 1 / "
        "reduction_factor of its variant so far; at most 2",
    )
    grace_fraction: float = Field(
        default=0.5,
        ge=0.5,
        lt=1.0,
        description="share of the steps that every configuration gets; at least half",
    )
    scope: str = Field(
        default="variant", description="what competes: only the configurations of one `variant`"
    )
    phase: str = Field(default="tuning", description="where it may stop trials: only in `tuning`")

    @field_validator("scope")
    @classmethod
    def _within_a_variant(cls, scope: str) -> str:
        if scope != "variant":
            raise ValueError(
                f"{scope!r} would stop one optimizer because another falls faster early, which "
                "says little about the end: only 'variant' is allowed"
            )
        return scope

    @field_validator("phase")
    @classmethod
    def _never_in_confirmation(cls, phase: str) -> str:
        if phase != "tuning":
            raise ValueError(
                f"{phase!r}: a measurement that stops early is no measurement: only 'tuning' is "
                "allowed"
            )
        return phase


class TuningSettings(Record):
    """How hyperparameters are chosen before the confirmation, for every variant alike."""

    trials: int = Field(
        ge=2, description="configurations of each variant; each is trained on every tuning seed"
    )
    searcher: Literal["random", "quasi_random", "tpe", "grid"] = Field(
        default="random",
        description="random; quasi_random: a scrambled Sobol sequence; tpe: Optuna's "
        "tree-structured Parzen estimator; grid: every combination of `grid` and `choice`",
    )
    seed: int = Field(default=0, ge=0, description="of the searcher")
    steps: int | None = Field(
        default=None,
        ge=1,
        description="steps of a tuning trial; none: training.steps. A best learning rate does not "
        "carry over to another length without loss",
    )
    asha: AshaSettings | None = Field(
        default=None, description="stop bad configurations half way; none: train all to the end"
    )
    edge_fraction: float = Field(
        default=0.05,
        gt=0.0,
        lt=0.5,
        description="outermost share of an interval that counts as its edge",
    )
    sigma: float | None = Field(
        default=None,
        gt=0.0,
        description="standard deviation of a score over seeds, in nats, for the edge gate; none: "
        "from the tuning seeds, if there are two or more",
    )
    extend: bool = Field(
        default=False,
        description="when a variant's best lies at an edge, widen its space and give every "
        "variant half as many trials again; otherwise the variant is marked `not tuned`",
    )
    max_extensions: int = Field(
        default=2, ge=1, description="how often `extend` may widen the spaces"
    )

    @model_validator(mode="after")
    def _a_grid_is_not_extended(self) -> Self:
        if self.extend and self.searcher == "grid":
            raise ValueError(
                "extend: a grid cannot be extended at equal budgets: use random, quasi_random or "
                "tpe"
            )
        return self

    def trials_in_round(self, index: int) -> int:
        """Configurations of each variant in round `index`; round 0 is the search itself."""
        return self.trials if index == 0 else max(1, self.trials // 2)

    @property
    def last_round(self) -> int:
        return self.max_extensions if self.extend else 0


class AnalysisSettings(Record):
    """How the results will be judged, fixed before the first trial starts."""

    baseline: str = Field(description="the variant that the others are compared with")
    alpha: float = Field(
        default=0.05,
        ge=1e-9,
        lt=0.5,
        description="probability of any false verdict, over all comparisons together",
    )
    pairing: Literal["auto", "paired", "unpaired"] = Field(
        default="auto",
        description="auto: paired exactly when the hashes of start and batches prove it",
    )
    margin_speedup_percent: float | None = Field(
        default=None,
        gt=0.0,
        allow_inf_nan=False,
        description="smallest speed-up that matters, in percent; converted to nats by the "
        "baseline's losses at `horizons`",
    )
    margin_nats: float | None = Field(
        default=None,
        gt=0.0,
        allow_inf_nan=False,
        description="smallest difference that matters, in nats; None: equivalence is not tested",
    )
    sigma: float | None = Field(
        default=None,
        gt=0.0,
        allow_inf_nan=False,
        description="standard deviation of one run's final loss over seeds, in nats, known from "
        "earlier runs: differences are then judged by z; None: by t, with the noise of these runs",
    )
    horizons: tuple[int, ...] = Field(
        default=(),
        description="other lengths, in optimizer steps, at which the baseline is trained too, each "
        "with its own full schedule: what a speed-up is read from",
    )
    looks: tuple[int, ...] = Field(
        default=(),
        description="numbers of seeds at which to look, such as [4, 7, 10]; empty: only once",
    )
    target: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="a loss; each variant's mean is tested for being below it, one-sided",
    )
    decomposition: tuple[str, ...] = Field(
        default=(),
        exclude_if=lambda stages: not stages,
        description="a claim taken apart: variants in order, from the claim's reference to its "
        "winner, each differing from the one before in one thing; `name@leaked` reads the loss on "
        "`data.leaked_windows`. The part that begins at `baseline` is what is left of the claim",
    )
    power: float = Field(
        default=0.8,
        gt=0.5,
        lt=1.0,
        description="probability of finding an effect, for every number of seeds that is advised",
    )

    @field_validator("looks")
    @classmethod
    def _ascending_looks(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        ascending = all(a < b for a, b in itertools.pairwise(looks))
        if looks and (min(looks) < MINIMUM_SEEDS or not ascending):
            raise ValueError(
                f"looks {list(looks)} must be ascending numbers of seeds, each at least "
                f"{MINIMUM_SEEDS}, for example [4, 7, 10]"
            )
        return looks

    @field_validator("horizons")
    @classmethod
    def _ascending_horizons(cls, horizons: tuple[int, ...]) -> tuple[int, ...]:
        ascending = all(a < b for a, b in itertools.pairwise(horizons))
        if horizons and (horizons[0] < 1 or not ascending):
            raise ValueError(
                f"horizons {list(horizons)} must be ascending numbers of steps, each once, for "
                "example [25, 50, 200] beside 100 training.steps"
            )
        return horizons

    @model_validator(mode="after")
    def _one_margin(self) -> AnalysisSettings:
        if self.margin_speedup_percent is not None and self.margin_nats is not None:
            raise ValueError(
                "margin_speedup_percent and margin_nats both given: keep one, they say the same"
            )
        return self
