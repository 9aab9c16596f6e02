"""A value against sizes on logarithmic axes: slopes, and what they say beyond the data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.analysis.stats.arrays import FloatArray, check_level
from harness.analysis.stats.intervals import Interval, t_interval

Axes = Mapping[str, Sequence[float]]
"""The values of each axis, one a point."""

MINIMUM_SIZES = 3
"""Two points are a line through both: nothing could contradict it."""

NEARLY_ONE_AXIS = 0.95
"""Absolute correlation of the logarithms beyond which two axes are not told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLinearFit:
    """`log2 y = intercept + sum of slope_a log2 x_a`, by least squares.

    `slopes` by axis with their t intervals; `covariance` is that of (intercept, slopes) per unit
    of the residual variance, the inverse of the normal matrix.
    """

    axes: tuple[str, ...]
    intercept: float
    slopes: dict[str, float]
    intervals: dict[str, Interval | None]
    residual_sd: float
    degrees_of_freedom: int
    covariance: FloatArray

    def predict(
        self, at: Mapping[str, float], *, level: float = 0.95
    ) -> tuple[float, Interval | None]:
        """The value of one new point, with its prediction interval.

        `log2 y +- t s sqrt(1 + x' (X'X)^-1 x)`: the noise of a new point counts, beside that of the
        line. Beyond the data it is right only if the line goes on, which no data can show.
        """
        check_level(level, name="level")
        x = np.array([1.0, *(math.log2(at[axis]) for axis in self.axes)])
        centre = self.intercept + float(x[1:] @ np.array([self.slopes[a] for a in self.axes]))
        if self.residual_sd == 0.0:
            return 2.0**centre, None
        spread = self.residual_sd * math.sqrt(1.0 + float(x @ self.covariance @ x))
        ends = t_interval(
            centre, standard_error=spread, degrees_of_freedom=self.degrees_of_freedom, level=level
        )
        return 2.0**centre, Interval(low=_exp2(ends.low), high=_exp2(ends.high), level=level)


def _exp2(exponent: float) -> float:
    return 2.0**exponent if exponent < 1000.0 else math.inf


def usable_axes(axes: Axes) -> tuple[str, ...]:
    """The axes that a fit may have, first come first: those with 3 distinct values or more.

    An axis that goes along with an earlier one (as tokens do that are 20 times the parameters) is
    left out: the slope of the earlier one is then that of both together. So is one that leaves no
    degree of freedom.
    """
    chosen: list[str] = []
    for name, values in axes.items():
        x = np.log2(np.asarray(values, dtype=np.float64))
        if np.unique(x).size < MINIMUM_SIZES or x.size - len(chosen) - 2 < 1:
            continue
        if all(goes_along(values, axes[other]) == 0 for other in chosen):
            chosen.append(name)
    return tuple(chosen)


def goes_along(one: Sequence[float], other: Sequence[float]) -> int:
    """1 where two axes rise together and are not told apart, -1 where one falls, 0 otherwise.

    Args:
        one, other: shape (n,) each, positive; neither is constant.
    """
    r = float(np.corrcoef(np.log2(one), np.log2(other))[0, 1])
    return 0 if abs(r) < NEARLY_ONE_AXIS else 1 if r > 0.0 else -1


def fit_log_linear(axes: Axes, values: ArrayLike, *, level: float = 0.95) -> LogLinearFit:
    """Fits a power of the axes to positive values.

    Args:
        axes: by name, shape (n,) each, positive; all of them are used (see `usable_axes`).
        values: shape (n,), positive.

    Raises:
        ValueError: no axis, fewer than 3 distinct values of one, numbers that are not positive, or
            axes that cannot be told apart.
    """
    y = np.asarray(values, dtype=np.float64)
    columns = {name: np.asarray(x, dtype=np.float64) for name, x in axes.items()}
    if not columns:
        raise ValueError("give at least one axis")
    for name, x in columns.items():
        if x.shape != y.shape or y.ndim != 1:
            raise ValueError(f"{name} {x.shape} and values {y.shape} must be vectors of one length")
        if np.unique(x).size < MINIMUM_SIZES:
            raise ValueError(
                f"{np.unique(x).size} distinct value(s) of {name}, at least {MINIMUM_SIZES} are "
                "needed for a slope that something could contradict"
            )
    for name, x in (*columns.items(), ("values", y)):
        if not (np.isfinite(x).all() and (x > 0.0).all()):
            raise ValueError(f"{name} must be positive and finite")
    design = np.column_stack([np.ones(y.size), *(np.log2(x) for x in columns.values())])
    freedom = y.size - design.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(f"{', '.join(columns)}: {y.size} points cannot tell these axes apart")
    covariance = np.linalg.inv(design.T @ design)
    solution = np.linalg.lstsq(design, np.log2(y), rcond=None)[0]
    residuals = np.log2(y) - design @ solution
    # What rounding leaves of an exact line is no noise.
    exact = float(np.abs(residuals).max()) <= 1e-12 * max(1.0, float(np.abs(np.log2(y)).max()))
    sd = 0.0 if exact else math.sqrt(float(residuals @ residuals) / freedom)
    errors = sd * np.sqrt(np.diag(covariance))
    return LogLinearFit(
        axes=tuple(columns),
        intercept=float(solution[0]),
        slopes={name: float(solution[1 + i]) for i, name in enumerate(columns)},
        intervals={
            name: None
            if exact
            else t_interval(
                float(solution[1 + i]),
                standard_error=float(errors[1 + i]),
                degrees_of_freedom=freedom,
                level=level,
            )
            for i, name in enumerate(columns)
        },
        residual_sd=sd,
        degrees_of_freedom=freedom,
        covariance=covariance,
    )
