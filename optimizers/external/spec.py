"""The settings of an optimizer that is not ours. A study file is read by them without torch."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator

from optimizers.specs import OptimizerSpec

PATH_PATTERN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class ExternalSpec(OptimizerSpec):
    """An optimizer of somebody else's, by its import path.

    A `torch.optim.Optimizer` runs under the backend ddp. A subclass of our `ElementwiseOptimizer`
    or `NamedOptimizer` runs under every backend.
    """

    kind: Literal["external"] = "external"
    path: str = Field(
        description="`package.module:ClassName`; the module must be importable on every host, and "
        "may be a file in the current directory.",
    )
    settings: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="What its constructor takes besides `lr`, or the settings that a class of ours "
        "names; a space searches them as `settings.NAME`.",
    )
    source: str | None = Field(
        default=None,
        exclude_if=lambda source: source is None,
        description="Its code: the SHA-256 of its files, or the package and version that it is "
        "installed from. Filled in when the study file is read.",
    )

    @field_validator("path")
    @classmethod
    def _names_a_class(cls, path: str) -> str:
        if not PATH_PATTERN.fullmatch(path):
            raise ValueError(f"{path!r} names no class: write it as package.module:ClassName")
        return path

    @field_validator("settings")
    @classmethod
    def _without_the_rate(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name, instead in (("lr", "the learning rate is `lr` of the optimizer"), ("params", "")):
            if name in settings:
                raise ValueError(f"{name} cannot be set here{': ' * bool(instead)}{instead}")
        return settings
