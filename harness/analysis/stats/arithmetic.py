"""Whether the runs of a comparison were computed alike: a part of the certificate of pairing.

A difference between two runs of a seed is the optimizers' only if nothing else differs; another
precision, device or version of the code does. Within a side the arithmetic of Newton-Schulz must be
the same too; between the sides it may differ, because that is what a comparison can be about.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """What one run recorded of how it was computed; None where it recorded nothing.

    `code` is the hash of the code, which is compared; `version` is what a person calls it.
    """

    precision: str | None = None
    device_type: str | None = None
    torch: str | None = None
    code: str | None = None
    version: str | None = None
    ns_dtype: str | None = None

    @property
    def shared(self) -> tuple[str | None, ...]:
        """What both sides of a pair must agree in."""
        return self.precision, self.device_type, self.torch, self.code

    @property
    def own(self) -> tuple[str | None, ...]:
        """What all runs of one variant must agree in."""
        return (*self.shared, self.ns_dtype)

    def words(self) -> str:
        """`in fp32 on cpu with torch 2.13.0 by code a1b2c3d`, as far as it is known."""
        named = (
            ("in", self.precision),
            ("with Newton-Schulz in", self.ns_dtype),
            ("on", self.device_type),
            ("with torch", self.torch),
            ("by code", _code(self.version, self.code)),
        )
        known = [f"{word} {value}" for word, value in named if value is not None]
        return " ".join(known) or "by something that is not recorded"


class ComputedRun(Protocol):
    """A run as far as this file looks at it."""

    @property
    def computed(self) -> Computed: ...
    @property
    def completed(self) -> bool: ...


def first_difference(
    variant: Mapping[int, ComputedRun], baseline: Mapping[int, ComputedRun]
) -> str | None:
    """In words, the first seed whose two runs, or the first run of a side, was computed otherwise.

    A run that did not complete may have recorded nothing.

    Args:
        variant, baseline: the runs of both sides by seed; the same seeds.
    """
    for seed in sorted(variant):
        a, b = variant[seed], baseline[seed]
        if a.computed.shared != b.computed.shared and not _silent(a) and not _silent(b):
            return (
                f"seed {seed} was trained {a.computed.words()}, its baseline {b.computed.words()}"
            )
    return _within(variant, "the variant") or _within(baseline, "the baseline")


def recorded(variant: Mapping[int, ComputedRun], baseline: Mapping[int, ComputedRun]) -> bool:
    """Whether any run says in what it was computed."""
    return any(any(r.computed.own) for r in (*variant.values(), *baseline.values()))


def _within(runs: Mapping[int, ComputedRun], side: str) -> str | None:
    heard = {seed: runs[seed].computed for seed in sorted(runs) if not _silent(runs[seed])}
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for seed, computed in heard.items():
        groups.setdefault(computed.own, []).append(seed)
    if len(groups) < 2:
        return None
    most = max(groups.values(), key=len)
    others = [seed for seed in heard if heard[seed].own != heard[most[0]].own]
    return (
        f"{side} was not computed alike: {_seeds(others)} {heard[others[0]].words()}, "
        f"{_seeds(most)} {heard[most[0]].words()}"
    )


def _silent(run: ComputedRun) -> bool:
    return not run.completed and not any(run.computed.own)


def _seeds(seeds: list[int]) -> str:
    shown = ", ".join(map(str, seeds[:8]))
    more = f" and {len(seeds) - 8} more" if len(seeds) > 8 else ""
    return f"seed{'s' if len(seeds) > 1 else ''} {shown}{more}"


def _code(version: str | None, code: str | None) -> str | None:
    """The version; with the hash, where the same version may have been changed meanwhile."""
    if version is None or code is None or code == version:
        return version or code
    return f"{version} ({code[:8]})"
