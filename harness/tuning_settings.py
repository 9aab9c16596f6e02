"""The `[tuning]` section of a study file, and the search spaces of its variants.

Every variant gets the same number of configurations, of training runs and of tokens. A
configuration is a point in the variant's own space; it is trained once on every tuning seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Value = float | int | str | bool
Point = dict[str, Value]
Border = Literal["low", "high"]

_LIMITS = "borders that are natural limits, such as no weight decay below 0: never an edge"


class _Dimension(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Interval(_Dimension):
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


class _Listed(_Dimension):
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


class AshaSettings(BaseModel):
    """Asynchronous successive halving (ASHA, arXiv 1810.05934) within each variant.

    Early losses rank the configurations of one optimizer usefully, but not different optimizers:
    in public Muon studies the eventual winner ranked 8th of 24 early on. Hence the limits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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


class TuningSettings(BaseModel):
    """How hyperparameters are chosen before the confirmation, for every variant alike."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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


def grid_points(space: Space) -> list[Point]:
    """Every combination, the last dimension fastest."""
    lists = [list(dimension.listed) for dimension in space.values()]  # type: ignore[union-attr]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def searcher_mistake(space: Space, settings: TuningSettings) -> str | None:
    """Why this space does not fit the searcher and its budget; None when it does."""
    intervals = [name for name, dim in space.items() if not isinstance(dim, _Listed)]
    if settings.searcher == "grid":
        if intervals:
            return f"{intervals} are intervals and the searcher is a grid: list their values"
        size = math.prod(len(dim.listed) for dim in space.values() if isinstance(dim, _Listed))
        if size != settings.trials:
            return (
                f"its grid has {size} points and tuning.trials is {settings.trials}: every "
                "variant gets the same number, so make them agree"
            )
    elif settings.extend and (grids := [n for n, dim in space.items() if isinstance(dim, Grid)]):
        return f"{grids} are grids, which `tuning.extend` cannot widen: use intervals"
    return None
