"""The certificate of pairing: two runs of a seed are a pair only if all but the variant is alike.

Start and batches by their hashes, precision, device and code by what the runs recorded; never from
how the results correlate.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from harness.analysis.stats.arithmetic import ComputedRun, first_difference, recorded

Pairing = Literal["auto", "paired", "unpaired"]


class RunStart(ComputedRun, Protocol):
    """What one run recorded of its start, its data and its arithmetic; None where nothing."""

    @property
    def initial_sha256(self) -> str | None: ...
    @property
    def batches_sha256(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingCertificate:
    """Whether the comparison is paired, whether hashes prove it, and why, in words."""

    paired: bool
    certified: bool
    reason: str


def certify(
    variant: Mapping[int, RunStart],
    baseline: Mapping[int, RunStart],
    *,
    pairing: Pairing = "auto",
) -> PairingCertificate:
    """Decide between paired and unpaired tests.

    `auto` is paired exactly when both sides have the same seeds and, for every seed, the hashes of
    the initial parameters and of the batch sequence are present and equal, and all runs were
    computed alike (see `harness.analysis.stats.arithmetic`). Only where a run did not complete may
    the hash of its batches be missing. Where no run recorded its arithmetic, hashes are enough.

    Raises:
        ValueError: `paired` was asked for and the seeds differ.
    """
    mismatch = _first_mismatch(variant, baseline)
    if pairing == "unpaired":
        return PairingCertificate(paired=False, certified=False, reason="unpaired, as asked for")
    if pairing == "paired":
        if variant.keys() != baseline.keys():
            raise ValueError(
                f"paired was asked for, but {_seed_difference(variant, baseline)}: "
                "run the missing seeds or compare unpaired"
            )
        if mismatch is None:
            return _certified(variant, baseline)
        reason = f"paired, as asked for, not certified: {mismatch}"
        return PairingCertificate(paired=True, certified=False, reason=reason)
    if mismatch is None:
        return _certified(variant, baseline)
    return PairingCertificate(paired=False, certified=False, reason=f"unpaired: {mismatch}")


def _certified(
    variant: Mapping[int, RunStart], baseline: Mapping[int, RunStart]
) -> PairingCertificate:
    reason = f"paired: initial parameters and batches agree by hash for all {len(variant)} seeds"
    if recorded(variant, baseline):
        reason += ", and so do precision, device and code"
    else:
        reason += "; precision, device and code are not recorded"
    return PairingCertificate(paired=True, certified=True, reason=reason)


def _first_mismatch(
    variant: Mapping[int, RunStart], baseline: Mapping[int, RunStart]
) -> str | None:
    if variant.keys() != baseline.keys():
        return _seed_difference(variant, baseline)
    for seed in sorted(variant):
        a, b = variant[seed], baseline[seed]
        if a.initial_sha256 is None or b.initial_sha256 is None:
            return f"no hash of the initial parameters for seed {seed}"
        if a.initial_sha256 != b.initial_sha256:
            return f"the initial parameters differ for seed {seed}"
        if a.batches_sha256 is None or b.batches_sha256 is None:
            if a.completed and b.completed:
                return f"no hash of the batches for seed {seed}"
            continue
        if a.batches_sha256 != b.batches_sha256:
            return f"the batches differ for seed {seed}"
    return first_difference(variant, baseline)


def _seed_difference(variant: Mapping[int, object], baseline: Mapping[int, object]) -> str:
    parts = []
    if only := sorted(variant.keys() - baseline.keys()):
        parts.append(f"only the variant has seed(s) {_listing(only)}")
    if only := sorted(baseline.keys() - variant.keys()):
        parts.append(f"only the baseline has seed(s) {_listing(only)}")
    return " and ".join(parts)


def _listing(seeds: list[int]) -> str:
    shown = ", ".join(map(str, seeds[:8]))
    return shown if len(seeds) <= 8 else f"{shown} and {len(seeds) - 8} more"
