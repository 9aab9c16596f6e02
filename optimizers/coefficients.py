"""Newton-Schulz coefficient schedules: data, each with its source.

One step maps every singular value `x` of the iterate to `p(x) = a x + b x^3 + c x^5`. A schedule is
the list of triples `(a, b, c)`, what happens past its end, and how the input is scaled before the
first step. Nothing here computes on tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Triple = tuple[float, float, float]

# Composed polynomials are checked for every length up to this one. Ten is the longest iteration of
# the seed study; the margin costs nothing.
_CHECKED_STEPS = 16

# Rounding to bfloat16 pushes the only singular value of a matrix of rank 1 above 1, by less than
# this. A schedule must keep such values near 1 too: one that is only made for [0, 1] can send 1.002
# to 9e36.
_CHECKED_UP_TO = 1.01
_CHECKED_POINTS = 202
_LARGEST_RESULT = 2.0


@dataclass(frozen=True)
class Schedule:
    """The coefficients of a Newton-Schulz iteration and their source.

    Args:
        name: How a study file refers to it.
        triples: `(a, b, c)` of step 1, 2, ...; `p(x) = a x + b x^3 + c x^5`.
        beyond: What a request for more steps than `triples` does: `repeat_last` or `error`. It
            never cycles: a short schedule that starts again can have `p(1) < 0`, which turns
            descent into ascent.
        epsilon: Added to the Frobenius norm before the division, so that zero stays zero.
        norm_factor: The Frobenius norm is multiplied by it, so that rounding cannot push a singular
            value above 1.
        renormalise: Divide by the Frobenius norm after every step, the last included.
        source: Where the numbers come from.

    Raises:
        ValueError: When a composed polynomial is not positive at 1 for some number of steps.
    """

    name: str
    triples: tuple[Triple, ...]
    beyond: Literal["repeat_last", "error"]
    source: str
    epsilon: float = 1e-7
    norm_factor: float = 1.0
    renormalise: bool = False

    def __post_init__(self) -> None:
        longest = len(self.triples) if self.beyond == "error" else _CHECKED_STEPS
        for num_steps in range(1, longest + 1):
            for point in range(1, _CHECKED_POINTS + 1):
                x = _CHECKED_UP_TO * point / _CHECKED_POINTS
                value = self.polynomial(x / self.norm_factor, num_steps=num_steps)
                if not 0.0 < value < _LARGEST_RESULT:
                    raise ValueError(
                        f"schedule {self.name!r}: p({x:.3g}) is {value:.3g} after {num_steps} "
                        f"steps and must lie between 0 (or the update would ascend) and "
                        f"{_LARGEST_RESULT:g} on [0, {_CHECKED_UP_TO}]; use other coefficients, or "
                        "a norm_factor of 1.01"
                    )

    def steps(self, num_steps: int) -> tuple[Triple, ...]:
        """The triples of exactly `num_steps` steps; fewer steps than triples take the first ones.

        Raises:
            ValueError: When `num_steps` is below 1, or above the length and `beyond` is `error`.
        """
        length = len(self.triples)
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {num_steps}")
        if num_steps > length and self.beyond == "error":
            raise ValueError(
                f"schedule {self.name!r} has {length} steps, got num_steps = {num_steps}: choose "
                f"at most {length}, or a schedule that repeats its last triple "
                f"({', '.join(name for name, s in SCHEDULES.items() if s.beyond == 'repeat_last')})"
            )
        return self.triples[:num_steps] + self.triples[-1:] * (num_steps - length)

    def polynomial(self, value: float, *, num_steps: int) -> float:
        """The composed polynomial at `value`, without `renormalise` (which only scales)."""
        for a, b, c in self.steps(num_steps):
            square = value * value
            value *= a + square * (b + square * c)
        return value


def _with_safety(triples: Iterable[Triple], *, factor: float) -> tuple[Triple, ...]:
    """Divide `(a, b, c)` by `(s, s^3, s^5)` on all but the last triple: `p(x / s)`."""
    *head, last = triples
    return (*((a / factor, b / factor**3, c / factor**5) for a, b, c in head), last)


_SEED_STUDY = "seed study of Muon variants on a Mixture-of-Experts model"
# Ours. The source assumes exact products: its first polynomial reaches 1.99 where the second one is
# made for [0, 2], so that in half precision log-spaced singular values came out at 1e12.
_CANS_SAFETY = 1.01
# Ours too: its first polynomial is 0.02 at 1 and negative from 1.004 on.
_CUBIC5_SAFETY = 1.01
_POLAR_EXPRESS_SAFETY = 1.01  # Amsel et al. 2025, arXiv 2505.16932, listing of the algorithm

_ALL = (
    Schedule(
        name="jordan",
        triples=((3.4445, -4.7750, 2.0315),),
        beyond="repeat_last",
        epsilon=1e-7,
        source="Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/",
    ),
    Schedule(
        name="conservative",
        triples=((3.0, -4.0, 1.5),),
        beyond="repeat_last",
        epsilon=1e-6,
        source=_SEED_STUDY,
    ),
    Schedule(
        name="mild_aggressive",
        triples=((3.2, -4.2, 1.8),),
        beyond="repeat_last",
        epsilon=1e-6,
        source=_SEED_STUDY,
    ),
    Schedule(
        name="ultra_stable",
        triples=((2.8, -3.5, 1.2),),
        beyond="repeat_last",
        epsilon=1e-5,
        renormalise=True,
        source=_SEED_STUDY,
    ),
    Schedule(
        name="you",
        triples=(
            (4.0848, -6.8946, 2.9270),
            (3.9505, -6.3029, 2.6377),
            (3.7418, -5.5913, 2.3037),
            (2.8769, -3.1427, 1.2046),
            (2.8366, -3.0525, 1.2012),
        ),
        beyond="error",
        source="Jiacheng You 2024, coefficients for five steps",
    ),
    Schedule(
        name="polar_express",
        triples=_with_safety(
            (
                (8.28721201814563, -23.595886519098837, 17.300387312530933),
                (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
                (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
                (3.3184196573706015, -2.488488024314874, 0.51004894012372),
                (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
                (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
                (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
                (1.875, -1.25, 0.375),
            ),
            factor=_POLAR_EXPRESS_SAFETY,
        ),
        beyond="repeat_last",
        norm_factor=_POLAR_EXPRESS_SAFETY,
        source="Amsel et al. 2025, arXiv 2505.16932",
    ),
    Schedule(
        name="cans",
        triples=_with_safety(
            (
                (8.4703, -25.1081, 18.6293),
                (4.1828, -3.1087, 0.5806),
                (3.9619, -2.9541, 0.5630),
                (3.2866, -2.4647, 0.5074),
                (2.2737, -1.6447, 0.4162),
            ),
            factor=_CANS_SAFETY,
        ),
        beyond="error",
        norm_factor=_CANS_SAFETY,
        source="arXiv 2506.10935",
    ),
    Schedule(
        name="cubic5",  # c = 0: a step is two products instead of three
        triples=(
            (3.3656576, -3.3420992, 0.0),
            (2.5744352, -1.4957376, 0.0),
            (2.5368962, -1.4312570, 0.0),
            (2.4418906, -1.2764040, 0.0),
            (2.2230472, -0.9630650, 0.0),
        ),
        beyond="error",
        norm_factor=_CUBIC5_SAFETY,
        source="arXiv 2606.00371, as listed in NVIDIA Emerging-Optimizers (muon_utils.py)",
    ),
    Schedule(
        name="deepseekv4",  # eight fast steps, then two that converge to 1
        triples=((3.4445, -4.7750, 2.0315),) * 8 + ((2.0, -1.5, 0.5),) * 2,
        beyond="repeat_last",
        source="DeepSeek-V4 technical report, as listed in NVIDIA Emerging-Optimizers "
        "(muon_utils.py)",
    ),
)

SCHEDULES: Mapping[str, Schedule] = MappingProxyType({schedule.name: schedule for schedule in _ALL})


def find_schedule(name: str) -> Schedule:
    """The schedule called `name`.

    Raises:
        ValueError: When there is none.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown Newton-Schulz schedule {name!r}: choose {', '.join(SCHEDULES)}")
    return SCHEDULES[name]
