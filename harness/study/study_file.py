"""The study file: variants, sections, and what must agree between them.

One TOML file is one question. Everything here is frozen; a mistake is reported with its dotted
path, and all mistakes of a file are reported together (see `harness.study.load`).
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, get_origin

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from harness.data import DataConfig
from harness.errors import UserError
from harness.study.placement import CheckpointSettings, ResourcesConfig
from harness.study.record import Record
from harness.study.search_space import Choice, Dimension, Grid, Point, Space
from harness.study.settings import (
    AnalysisSettings,
    SeedsConfig,
    TrainingConfig,
    TuningSettings,
)
from harness.study.stages import read_stage
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

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

LENGTHS_OF_A_LAW = 4
"""Loss over tokens has three parameters: `harness.analysis.stats.data_efficiency` refuses fewer."""


class VariantConfig(Record):
    """A named optimizer configuration that competes."""

    name: str = Field(description="unique; letters, digits and . _ + -")
    optimizer: AnyOptimizer = Field(description="a table with `kind` and that kind's settings")
    schedule: LearningRateSchedule | None = Field(
        default=None, description="this variant's own learning-rate schedule"
    )
    tuned: bool = Field(
        default=True,
        exclude_if=lambda tuned: tuned,
        description="false: takes no part in [tuning] and competes with the settings it names, "
        "such as those of a publication; the report says so",
    )
    space: dict[str, Dimension] = Field(
        default_factory=dict,
        description="what [tuning] searches: settings of the optimizer, each with its dimension; "
        '"default": the space that comes with the optimizer',
    )

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not NAME_PATTERN.fullmatch(name):
            raise ValueError(f"{name!r} is not a plain name: use letters, digits and . _ + -")
        return name

    @field_validator("space", mode="before")
    @classmethod
    def _default_space(cls, space: Any, info: ValidationInfo) -> Any:
        optimizer = info.data.get("optimizer")
        if isinstance(space, dict):
            return _dotted(space)
        if not isinstance(space, str) or optimizer is None:
            return space
        if space != "default" or not optimizer.default_space:
            raise ValueError(
                f'{space!r}: a table of dimensions, or "default" where the optimizer has a space '
                f"of its own ({', '.join(k for k, e in REGISTRY.items() if e.spec.default_space)})"
            )
        return optimizer.default_space

    @model_validator(mode="after")
    def _space_of_this_optimizer(self) -> VariantConfig:
        known = sorted(_searchable(self.optimizer))
        mistakes = []
        for setting, dimension in self.space.items():
            if setting not in known and f"{setting.partition('.')[0]}.NAME" not in known:
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
        values = self.optimizer.model_dump()
        for setting, value in point.items():
            table, _, name = setting.rpartition(".")
            (values[table] if table else values)[name] = value
        optimizer = type(self.optimizer).model_validate(values)
        return self.model_copy(update={"optimizer": optimizer, "space": {}})


def _dotted(space: dict[str, Any]) -> dict[str, Any]:
    """`space.settings.NAME` as TOML reads it, a table of dimensions, under its dotted name."""
    tables = {
        name: inner
        for name, inner in space.items()
        if isinstance(inner, dict) and inner and all(isinstance(d, dict) for d in inner.values())
    }
    dotted = {f"{t}.{name}": d for t, inner in tables.items() for name, d in inner.items()}
    return {name: d for name, d in space.items() if name not in tables} | dotted


def _searchable(optimizer: OptimizerSpec) -> Iterator[str]:
    """The settings that a space may name: those of a table as `settings.NAME`."""
    for name, field in type(optimizer).model_fields.items():
        if name not in ("kind", "path", "source"):  # what it is, not how it is set
            yield f"{name}.NAME" if get_origin(field.annotation) is dict else name


class Study(Record):
    """One question: model, data, training, variants, seeds, analysis."""

    name: str = Field(description="name of the study and of its folder of results")
    question: str = Field(default="", description="what the study asks, in one sentence")
    data: DataConfig = Field(default_factory=DataConfig)
    model: AnyModel = Field(description="`size` names a size; other keys override it")
    training: TrainingConfig
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)
    checkpoints: CheckpointSettings = Field(
        default_factory=CheckpointSettings,
        exclude_if=lambda value: value == CheckpointSettings(),  # frozen plans know no such section
    )
    seeds: SeedsConfig = Field(default_factory=SeedsConfig)
    variants: tuple[VariantConfig, ...] = Field(min_length=1)
    tuning: TuningSettings | None = Field(
        default=None,
        description="how each variant's hyperparameters are chosen before the confirmation; none: "
        "the variants compete with the settings they name",
    )
    analysis: AnalysisSettings

    @property
    def tokens_per_step(self) -> int:
        return self.training.batch_size * self.data.sequence_length

    @property
    def searched(self) -> tuple[VariantConfig, ...]:
        """The variants whose settings [tuning] chooses."""
        return tuple(variant for variant in self.variants if variant.tuned)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return VariantConfig._plain_name(name)

    @field_validator("model", mode="before")
    @classmethod
    def _named_size(cls, values: Any) -> Any:
        return resolve_size(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _sections_agree(self, info: ValidationInfo) -> Study:
        mistakes = _disagreements(self)
        if not (info.context or {}).get(FROZEN):
            mistakes += _unconvertible_margin(self)
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self


FROZEN = "frozen"


def frozen_study(values: Mapping[str, Any]) -> Study:
    """The study of a frozen plan: read also where an older version asked for less than this one.

    Raises:
        pydantic.ValidationError: settings that this version cannot read.
    """
    return Study.model_validate(values, context={FROZEN: True})


def find_variant(study: Study, name: str) -> VariantConfig:
    for variant in study.variants:
        if variant.name == name:
            return variant
    names = [variant.name for variant in study.variants]
    raise UserError(f"no variant {name!r} in study {study.name!r}: choose one of {names}")


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
    return [
        *mistakes,
        *_unusable_horizons(study),
        *_peers_out_of_place(study),
        *_unfair_tuning(study),
        *_unreadable_stages(study),
    ]


def _unconvertible_margin(study: Study) -> Iterator[str]:
    settings = study.analysis
    if settings.margin_speedup_percent is not None and not settings.horizons:
        yield f"analysis.margin_speedup_percent: {horizons_wanted(study)}"


def horizons_wanted(study: Study) -> str:
    """Why a margin in percent of speed needs horizons, and the line to add."""
    return (
        "what a speed-up is worth in nats is read from the baseline's losses at the end of "
        f"schedules of several lengths: add `horizons = {suggested_horizons(study)}` to [analysis] "
        "(longer than training.steps too, because a better variant is worth a longer baseline), or "
        "state margin_nats instead"
    )


LADDERS = ((0.25, 0.5, 2.0), (0.5, math.sqrt(2.0), 2.0), (math.sqrt(2.0), 2.0, math.sqrt(8.0)))
"""Lengths to suggest, in units of the study's; the first costs 2.75 runs of the baseline a seed.

By simulation (1.4 D^-0.3 + 2, standard error 0.03 nats, 3,000 studies) a margin of 5 % of speed is
then off by 8 % (root mean square), and 1 % of studies are left without a law. With 0.5, 0.71 and
1.41, which cost 2.62 runs, it is off by 15 %, and 30 % have no law.
"""


def suggested_horizons(study: Study) -> list[int]:
    """Three lengths that suit the study, none of them within the warmup."""
    steps, warmup = study.training.steps, _warmup_of_baseline(study)
    for ladder in LADDERS:
        lengths = sorted({round(steps * factor) for factor in ladder} - {steps})
        if len(lengths) == 3 and lengths[0] > warmup:
            return lengths
    return [max(steps, warmup) + further for further in (1, 2, 3)]


def _warmup_of_baseline(study: Study) -> int:
    own = (v.schedule for v in study.variants if v.name == study.analysis.baseline)
    return (next(own, None) or study.training.schedule).warmup_steps


def _unusable_horizons(study: Study) -> Iterator[str]:
    horizons, steps = study.analysis.horizons, study.training.steps
    if not horizons:
        return
    if steps in horizons:
        yield (
            f"analysis.horizons: {steps} is training.steps, at which every variant is trained "
            "anyway: leave it out"
        )
    lengths = len({*horizons, steps})
    if lengths < LENGTHS_OF_A_LAW:
        yield (
            f"analysis.horizons: {lengths} lengths with training.steps, and a law of loss over "
            f"tokens needs {LENGTHS_OF_A_LAW}: for example {suggested_horizons(study)}"
        )
    if horizons[0] <= (warmup := _warmup_of_baseline(study)):
        yield (
            f"analysis.horizons: {horizons[0]} steps would end within the warmup of {warmup}: "
            "leave out what is no whole schedule"
        )


def _unreadable_stages(study: Study) -> Iterator[str]:
    """Stages of `analysis.decomposition` that nothing measures."""
    stages = [read_stage(text) for text in study.analysis.decomposition]
    names = [variant.name for variant in study.variants]
    for stage in stages:
        if stage.variant not in names:
            yield f"analysis.decomposition: {stage.variant!r} is not a variant: choose from {names}"
        elif stage.leaked and not study.data.leaked_windows:
            yield (
                f"analysis.decomposition: {str(stage)!r} is measured only with "
                "data.leaked_windows above 0: add it, for example 64"
            )
    if len(stages) == 1 or any(a == b for a, b in itertools.pairwise(stages)):
        yield (
            "analysis.decomposition: needs two stages or more, and neighbours that differ: "
            f"got {[str(stage) for stage in stages]}"
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
    if not study.searched:
        yield "tuning: every variant has `tuned = false`: leave [tuning] out, or tune one of them"
    for variant in study.variants:
        if not variant.tuned and variant.space:
            yield (
                f"variants.{variant.name}.space: nothing searches it with `tuned = false`: leave "
                "one of the two out"
            )
        elif not variant.tuned:
            continue
        elif not variant.space:
            yield (
                f"variants.{variant.name}.space: missing: with [tuning] every variant is tuned "
                "with the same budget; an untuned opponent proves nothing. One that is to compete "
                "as it was published says `tuned = false`"
            )
        elif mistake := _searcher_mistake(variant.space, tuning):
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


def _searcher_mistake(space: Space, settings: TuningSettings) -> str | None:
    """Why this space does not fit the searcher and its budget; None when it does."""
    intervals = [name for name, dim in space.items() if not isinstance(dim, Choice | Grid)]
    if settings.searcher == "grid":
        if intervals:
            return f"{intervals} are intervals and the searcher is a grid: list their values"
        size = math.prod(
            len(dim.listed) for dim in space.values() if isinstance(dim, Choice | Grid)
        )
        if size != settings.trials:
            return (
                f"its grid has {size} points and tuning.trials is {settings.trials}: every "
                "variant gets the same number, so make them agree"
            )
    elif settings.extend and (grids := [n for n, dim in space.items() if isinstance(dim, Grid)]):
        return f"{grids} are grids, which `tuning.extend` cannot widen: use intervals"
    return None


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
