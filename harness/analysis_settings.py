"""The `[analysis]` section of a study file: how the results will be judged."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.stats.arrays import check_looks


class AnalysisSettings(BaseModel):
    """How the results will be judged, fixed before the first trial starts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline: str = Field(description="the variant that the others are compared with")
    alpha: float = Field(
        default=0.05,
        gt=0.0,
        lt=0.5,
        description="probability of any false better or worse, over all comparisons together",
    )
    pairing: Literal["auto", "paired", "unpaired"] = Field(
        default="auto",
        description="auto: paired exactly when the hashes of start and batches prove it",
    )
    margin_speedup_percent: float | None = Field(
        default=None,
        gt=0.0,
        description="smallest speed-up that matters, in percent; converted to nats",
    )
    margin_nats: float | None = Field(
        default=None,
        gt=0.0,
        description="smallest difference that matters, in nats; None: equivalence is not tested",
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
    power: float = Field(
        default=0.8,
        gt=0.5,
        lt=1.0,
        description="probability of finding an effect, for every number of seeds that is advised",
    )

    @field_validator("looks")
    @classmethod
    def _ascending_looks(cls, looks: tuple[int, ...]) -> tuple[int, ...]:
        return check_looks(looks) if looks else ()

    @model_validator(mode="after")
    def _one_margin(self) -> AnalysisSettings:
        if self.margin_speedup_percent is not None and self.margin_nats is not None:
            raise ValueError(
                "margin_speedup_percent and margin_nats both given: keep one, they say the same"
            )
        return self
