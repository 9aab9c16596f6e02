"""Search spaces: the dimensions over which `[tuning]` looks for a variant's settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from harness.study.record import Record

Value = float | int | str | bool

Point = dict[str, Value]

Border = Literal["low", "high"]

_LIMITS = "borders that are natural limits, such as no weight decay below 0: never an edge"


class _Interval(Record):
    limits: tuple[Border, ...] = Field(default=(), description=_LIMITS)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        low, high = self.borders
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"low ({low:g}) must be below high ({high:g}), both finite")
        return self

    @property
    def borders(self) -> tuple[float, float]:
        return self.low, self.high  # type: ignore[attr-defined]


class LogUniform(_Interval):
    """A positive number whose logarithm is uniform: for rates and decays."""

    kind: Literal["loguniform"]
    low: float = Field(gt=0.0, description="smallest value")
    high: float = Field(gt=0.0, description="largest value")

    def at(self, share: float) -> float:
        return math.exp(math.log(self.low) + share * math.log(self.high / self.low))

    def share_of(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)

    def widened(self, border: Border) -> LogUniform:
        """Half as wide again, in the logarithm, beyond the border."""
        factor = math.sqrt(self.high / self.low)
        change = {"low": self.low / factor} if border == "low" else {"high": self.high * factor}
        return self.model_copy(update=change)


class Uniform(_Interval):
    """A number, uniform between its borders."""

    kind: Literal["uniform"]
    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")

    def at(self, share: float) -> float:
        return self.low + share * (self.high - self.low)

    def share_of(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def widened(self, border: Border) -> Uniform:
        """Half as wide again beyond the border."""
        half = (self.high - self.low) / 2
        change = {"low": self.low - half} if border == "low" else {"high": self.high + half}
        return self.model_copy(update=change)


class Int(_Interval):
    """A whole number, uniform between its borders, both included."""

    kind: Literal["int"]
    low: int = Field(description="smallest value")
    high: int = Field(description="largest value")

    def at(self, share: float) -> int:
        return min(self.high, self.low + int(share * (self.high - self.low + 1)))

    def share_of(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)

    def widened(self, border: Border) -> Int:
        """Half as wide again, at least by one, beyond the border."""
        half = max(1, (self.high - self.low) // 2)
        change = {"low": self.low - half} if border == "low" else {"high": self.high + half}
        return self.model_copy(update=change)


class _Listed(Record):
    @property
    def listed(self) -> Sequence[Value]:
        return self.values  # type: ignore[attr-defined, no-any-return]

    def at(self, share: float) -> Value:
        return self.listed[min(len(self.listed) - 1, int(share * len(self.listed)))]


class Choice(_Listed):
    """One of some values without an order, so without an edge."""

    kind: Literal["choice"]
    values: tuple[Value, ...] = Field(min_length=1, description="the values")

    @field_validator("values")
    @classmethod
    def _distinct(cls, values: tuple[Value, ...]) -> tuple[Value, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"values named more than once in {list(values)}: name each once")
        return values


class Grid(_Listed):
    """One of some ascending numbers; the first and the last are the edges."""

    kind: Literal["grid"]
    values: tuple[float, ...] = Field(min_length=1, description="the numbers, ascending")
    limits: tuple[Border, ...] = Field(default=(), description=_LIMITS)

    @field_validator("values")
    @classmethod
    def _ascending(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(right <= left for left, right in itertools.pairwise(values)):
            raise ValueError(f"{list(values)} is not ascending: sort the values, each once")
        return tuple(int(value) if float(value).is_integer() else value for value in values)

    def share_of(self, value: float) -> float:
        """0 for the first value, 1 for the last; a single value has no edge (one half)."""
        last = len(self.values) - 1
        return self.values.index(value) / last if last else 0.5


Dimension = Annotated[
    LogUniform | Uniform | Int | Choice | Grid,
    Field(discriminator="kind"),
]

Space = Mapping[str, LogUniform | Uniform | Int | Choice | Grid]


def grid_points(space: Space) -> list[Point]:
    """Every combination, the last dimension fastest."""
    lists = [list(dimension.listed) for dimension in space.values()]  # type: ignore[union-attr]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def settings_text(point: Point) -> str:
    """`lr=0.0125 num_steps=5`."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in point.items()
    )
