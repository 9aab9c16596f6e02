"""The study file: its sections, their checks and their meaning.

One TOML file is one question. Everything here is frozen; a mistake is reported with its dotted
path, and all mistakes of a file are reported together (see `harness.study.load_study`).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from harness.analysis_settings import AnalysisSettings
from harness.data import DataConfig
from harness.stats.arrays import NEAR_THE_END
from harness.tuning_settings import Dimension, Point, TuningSettings, searcher_mistake
from models import AnyModel, resolve_size
from optimizers import REGISTRY, DeepSpeedMuonSpec, LearningRateSchedule, OptimizerSpec

if TYPE_CHECKING:
    AnyOptimizer = OptimizerSpec
else:
    from typing import Union

    # Built from the registry, so that one registry line is enough to add an optimizer.
    AnyOptimizer = Annotated[
        Union[tuple(entry.spec for entry in REGISTRY.values())],  # noqa: UP007
        Field(discriminator="kind"),
    ]

Phase = Literal["tuning", "confirmation"]
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


class Section(BaseModel):
    """A frozen table of a study file; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrainingConfig(Section):
    """How every variant is trained; the same for all of them."""

    steps: int = Field(ge=1, description="optimizer steps of one trial")
    batch_size: int = Field(
        ge=1, description="sequences per optimizer step, over all workers and micro-batches"
    )
    accumulation_steps: int = Field(
        default=1, ge=1, description="micro-batches per optimizer step on each worker"
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


class ResourcesConfig(Section):
    """What one trial occupies."""

    workers: int = Field(default=1, ge=1, description="processes of one trial (its gang)")
    cpus_per_worker: int = Field(default=1, ge=1, description="CPU cores (threads) of one worker")
    gpus_per_worker: Literal[0, 1] = Field(
        default=0, description="0: CPU with gloo; 1: one CUDA device with NCCL"
    )
    max_concurrent_trials: int | None = Field(
        default=None,
        ge=1,
        description="trials at the same time; none: as many as fit at the start (give a number "
        "for a cluster that grows on demand)",
    )


class SeedsConfig(Section):
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


class VariantConfig(Section):
    """A named optimizer configuration that competes."""

    name: str = Field(description="unique; letters, digits and . _ + -")
    optimizer: AnyOptimizer = Field(description="a table with `kind` and that kind's settings")
    schedule: LearningRateSchedule | None = Field(
        default=None, description="this variant's own learning-rate schedule"
    )
    space: dict[str, Dimension] = Field(
        default_factory=dict,
        description="what [tuning] searches: settings of the optimizer, each with its dimension",
    )

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME_PATTERN.fullmatch(name):
            raise ValueError(f"{name!r} is not a plain name: use letters, digits and . _ + -")
        return name

    @model_validator(mode="after")
    def _space_of_this_optimizer(self) -> VariantConfig:
        known = sorted(set(type(self.optimizer).model_fields) - {"kind"})
        mistakes = []
        for setting, dimension in self.space.items():
            if setting not in known:
                near = difflib.get_close_matches(setting, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                mistakes.append(f"space.{setting}: unknown setting of this optimizer; {hint}")
                continue
            for value in (dimension.at(0.0), dimension.at(1.0)):
                try:
                    self.with_settings({setting: value})
                except ValidationError as error:
                    mistakes.append(
                        f"space.{setting}: the optimizer refuses {value!r}: "
                        f"{error.errors()[0]['msg']}"
                    )
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def with_settings(self, point: Point) -> VariantConfig:
        """This variant with a point of its space in place of its own settings, no longer tunable.

        Raises:
            pydantic.ValidationError: the optimizer refuses a value.
        """
        optimizer = type(self.optimizer).model_validate({**self.optimizer.model_dump(), **point})
        return self.model_copy(update={"optimizer": optimizer, "space": {}})


class Study(Section):
    """One question: model, data, training, variants, seeds, analysis."""

    name: str = Field(description="name of the study and of its folder of results")
    question: str = Field(default="", description="what the study asks, in one sentence")
    data: DataConfig = Field(default_factory=DataConfig)
    model: AnyModel = Field(description="`size` names a size; other keys override it")
    training: TrainingConfig
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    seeds: SeedsConfig = Field(default_factory=SeedsConfig)
    variants: tuple[VariantConfig, ...] = Field(min_length=1)
    tuning: TuningSettings | None = Field(
        default=None,
        description="how each variant's hyperparameters are chosen before the confirmation; none: "
        "the variants compete with the settings they name",
    )
    analysis: AnalysisSettings

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return VariantConfig._plain_name(name)

    @field_validator("model", mode="before")
    @classmethod
    def _named_size(cls, values: Any) -> Any:
        return resolve_size(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _sections_agree(self) -> Study:
        if mistakes := list(_disagreements(self)):
            raise ValueError("\n".join(mistakes))
        return self


def _disagreements(study: Study) -> list[str]:
    """Checks over more than one section, each as `dotted.path: message`."""
    mistakes = []
    names = [variant.name for variant in study.variants]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        mistakes.append(f"variants: names used more than once: {repeated}: rename one of each")
    if study.analysis.baseline not in names:
        mistakes.append(
            f"analysis.baseline: {study.analysis.baseline!r} is not a variant: "
            f"choose one of {names}"
        )
    looks, seeds = study.analysis.looks, study.seeds.confirmation
    if looks and looks[-1] != len(seeds):
        mistakes.append(
            f"analysis.looks: the last look is at {looks[-1]} seeds and seeds.confirmation names "
            f"{len(seeds)}: make them agree"
        )
    training, workers = study.training, study.resources.workers
    share = workers * training.accumulation_steps
    if training.batch_size % share:
        nearest = max(share, training.batch_size // share * share)
        mistakes.append(
            f"training.batch_size: {training.batch_size} is not a multiple of workers x "
            f"accumulation_steps ({workers} x {training.accumulation_steps}): try {nearest}"
        )
    if study.analysis.margin_speedup_percent is not None:
        mistakes += _too_few_evaluations(training)
    return [*mistakes, *_peers_out_of_place(study), *_unfair_tuning(study)]


def _too_few_evaluations(training: TrainingConfig) -> Iterator[str]:
    """A margin in percent of speed is converted by the baseline's slope near the end."""
    steps, every = training.steps, training.evaluation_every
    begin = steps * (1.0 - NEAR_THE_END)
    if sum(step >= begin for step in {*range(0, steps, every), steps}) < 2:
        yield (
            "analysis.margin_speedup_percent: needs two evaluations in the last "
            f"{NEAR_THE_END:.0%} of {steps} steps, to read the slope of the loss there: lower "
            f"training.evaluation_every ({every}) or state margin_nats"
        )


def _unfair_tuning(study: Study) -> Iterator[str]:
    """Budgets that would not be equal, and searches that could not work."""
    tuning = study.tuning
    if tuning is None:
        for variant in study.variants:
            if variant.space:
                yield (
                    f"variants.{variant.name}.space: nothing searches it: add a [tuning] section, "
                    "or leave the space out"
                )
        return
    if not study.seeds.tuning:
        yield (
            "seeds.tuning: [tuning] needs at least one seed that chooses, apart from those that "
            "measure"
        )
    for variant in study.variants:
        if not variant.space:
            yield (
                f"variants.{variant.name}.space: missing: with [tuning] every variant is tuned "
                "with the same budget; an untuned opponent proves nothing"
            )
        elif mistake := searcher_mistake(variant.space, tuning):
            yield f"variants.{variant.name}.space: {mistake}"
    if tuning.asha is None:
        return
    if len(study.seeds.tuning) > 1:
        yield (
            f"tuning.asha: compares trials of one seed, and seeds.tuning names "
            f"{len(study.seeds.tuning)}: name one, or leave asha out"
        )
    steps, every = tuning.steps or study.training.steps, study.training.evaluation_every
    grace = math.ceil(steps * tuning.asha.grace_fraction)
    if math.ceil(grace / every) * every >= steps:
        yield (
            f"tuning.asha: no evaluation lies between the grace of {grace} and {steps} steps, so "
            f"nothing could be stopped: lower training.evaluation_every ({every})"
        )


def _peers_out_of_place(study: Study) -> Iterator[str]:
    """Variants that the study's backend cannot run, or would run as something else."""
    training = study.training
    for variant in study.variants:
        if not isinstance(variant.optimizer, DeepSpeedMuonSpec):
            continue
        if training.backend != "deepspeed":
            yield (
                f"variants.{variant.name}: deepspeed_muon runs inside DeepSpeed and "
                f"training.backend is {training.backend!r}: set it to 'deepspeed', or use the kind "
                "muon"
            )
        elif training.zero_stage and training.clip_norm:
            yield (
                f"training.clip_norm: at ZeRO stage {training.zero_stage} DeepSpeed clips not the "
                f"gradient but the orthogonalised update of its own Muon (variant {variant.name}): "
                "set it to 0, for all variants alike, or training.zero_stage to 0"
            )


class TrialSpec(Section):
    """All that decides the result of one training run, and nothing else.

    The variant's name and the phase are not part of it: two variants with the same settings are
    the same trial and are trained once.
    """

    data: DataConfig
    data_sha256: str
    model: AnyModel
    optimizer: AnyOptimizer
    schedule: LearningRateSchedule
    training: TrainingConfig
    workers: int
    cpus_per_worker: int
    gpus_per_worker: int
    seed: int

    @property
    def key(self) -> str:
        """`trial_key`: the first 16 hexadecimal digits of the SHA-256 of the canonical spec."""
        return canonical_sha256(self)[:16]

    @property
    def tokens_per_step(self) -> int:
        return self.training.batch_size * self.data.sequence_length


def canonical_sha256(value: BaseModel | dict[str, Any]) -> str:
    """SHA-256 of the value as JSON with sorted keys and no white space."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
