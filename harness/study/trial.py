"""One training run, frozen and hashed: all that decides its result, and nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, model_validator

from harness.data import DataConfig
from harness.study.record import Record
from harness.study.search_space import Point
from harness.study.settings import TrainingConfig
from harness.study.study_file import AnyOptimizer, Study, VariantConfig
from models import AnyModel
from optimizers import LearningRateSchedule

PLACEMENT = ("workers", "cpus_per_worker", "gpus_per_worker")
"""What a trial occupies. Plans of version 1 counted it as part of what a trial is."""


class TrialSpec(Record):
    """All that decides the result of one training run, and nothing else.

    The variant's name and the phase are not part of it: two variants with the same settings are
    the same trial and are trained once. Neither are the workers and their cores: more of them sum
    in another order, and each attempt records how many there were.
    """

    data: DataConfig
    data_sha256: str
    model: AnyModel
    optimizer: AnyOptimizer
    schedule: LearningRateSchedule
    training: TrainingConfig
    seed: int

    @model_validator(mode="before")
    @classmethod
    def _without_placement(cls, values: Any) -> Any:
        """A spec.json of an older version names it."""
        if not isinstance(values, dict):
            return values
        return {key: value for key, value in values.items() if key not in PLACEMENT}

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


def trial_spec(study: Study, variant: VariantConfig, seed: int, data_sha256: str) -> TrialSpec:
    return TrialSpec(
        data=study.data,
        data_sha256=data_sha256,
        model=study.model,
        optimizer=variant.optimizer,
        schedule=variant.schedule or study.training.schedule,
        training=study.training,
        seed=seed,
    )


def tuning_spec(
    study: Study, variant: VariantConfig, point: Point, *, seed: int, data_sha256: str
) -> TrialSpec:
    """The training run of a search for one point of the variant's space and one tuning seed."""
    spec = trial_spec(study, variant.with_settings(point), seed, data_sha256)
    if study.tuning is None or study.tuning.steps is None:
        return spec
    return at_length(spec, study.tuning.steps)


def at_length(spec: TrialSpec, steps: int) -> TrialSpec:
    """The same run at another length; its schedule ends where it ends."""
    training = spec.training.model_copy(update={"steps": steps})
    return spec.model_copy(update={"training": training})
