"""What `auto` stands for in a study: one dtype, decided once, whatever machine trains later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from harness.study.record import Record
from harness.study.search_space import Choice, Value
from harness.study.study_file import Study, VariantConfig

SETTING, UNRESOLVED = "ns_dtype", "auto"
"""The one setting whose `auto` asks the hardware; other `auto`s follow from shapes and workers."""

DeviceType = Literal["cpu", "cuda"]


class Resolution(Record):
    """The dtype of every Newton-Schulz product that the study file leaves to the hardware.

    It stands in plan.json beside the study, whose variants name the dtype; `words` are what the
    machine that decided has for bf16, such as `amx_bf16` or `sm_90`.
    """

    ns_dtype: Literal["fp32", "bf16"]
    reason: str
    device_type: DeviceType
    device: str
    words: tuple[str, ...] = ()


def device_type(study: Study) -> DeviceType:
    return "cuda" if study.resources.gpus_per_worker else "cpu"


def is_resolved(study: Study) -> bool:
    """Whether the study names every dtype itself."""
    return not any(_names_auto(variant) for variant in study.variants)


def resolved(study: Study, resolution: Resolution) -> Study:
    """The study with the dtype in the place of every `auto`, in settings and in spaces."""
    variants = tuple(
        _with_dtype(variant, resolution.ns_dtype) if _names_auto(variant) else variant
        for variant in study.variants
    )
    return study.model_copy(update={"variants": variants})


def _names_auto(variant: VariantConfig) -> bool:
    space = variant.space.get(SETTING)
    searched = isinstance(space, Choice) and UNRESOLVED in space.values
    return searched or getattr(variant.optimizer, SETTING, None) == UNRESOLVED


def _with_dtype(variant: VariantConfig, dtype: str) -> VariantConfig:
    update: dict[str, Any] = {}
    if getattr(variant.optimizer, SETTING, None) == UNRESOLVED:
        update["optimizer"] = variant.optimizer.model_copy(update={SETTING: dtype})
    space = variant.space.get(SETTING)
    if isinstance(space, Choice):
        # A choice that names the dtype beside `auto` has it once.
        values = _distinct(dtype if value == UNRESOLVED else value for value in space.values)
        choice = space.model_copy(update={"values": values})
        update["space"] = {**variant.space, SETTING: choice}
    return variant.model_copy(update=update)


def _distinct(values: Iterable[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))
