"""The table that every analysis starts from: one row a run, whatever its outcome."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.stats.arithmetic import Computed
from harness.errors import UserError
from harness.training.records import OUTCOMES

UNRECORDED = Computed()

COMPUTED_COLUMNS = {
    "precision": "precision",
    "ns_dtype": "ns_dtype",
    "device_type": "device_type",
    "torch_version": "torch",
    "code_version": "version",
    "code_sha256": "code",
}
"""Columns of a table of results, each with the field of `Computed` that it holds."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One run: its variant, its seed and how it ended.

    `value` is the final validation loss of a completed run, and None of every other. `unit` is
    what the values are counted in ("nats" in a study); None where nobody said. `computed` is in
    what arithmetic, on what device and by what code.

    The statistics read it as it is: as the end of a run (`stats.outcomes.RunEnd`) and as its start
    (`stats.pairing.RunStart`).
    """

    variant: str
    seed: int
    value: float | None
    outcome: str = "completed"
    initial_sha256: str | None = None
    batches_sha256: str | None = None
    diverged_at_step: int | None = None
    unit: str | None = None
    computed: Computed = UNRECORDED

    @property
    def completed(self) -> bool:
        return self.outcome == "completed"

    @property
    def diverged(self) -> bool:
        return self.outcome == "diverged"

    def __post_init__(self) -> None:
        where = f"variant {self.variant!r}, seed {self.seed}"
        if self.outcome not in OUTCOMES:
            raise UserError(
                f"{where}: outcome {self.outcome!r} is not one of {', '.join(OUTCOMES)}"
            )
        if self.outcome != "completed":
            if self.value is not None:
                raise UserError(
                    f"{where}: {self.outcome}, yet it has a final value ({self.value}): "
                    "leave the value out, a run that did not complete has none"
                )
        elif self.value is None or not math.isfinite(self.value):
            raise UserError(
                f"{where}: completed, yet its value is {self.value}: give a finite number, "
                "or say how the run ended, for example outcome diverged"
            )


def computed_of(cells: Mapping[str, str]) -> Computed:
    """From the cells of a row; where only a version names the code, the version is compared."""
    found = {field: cells.get(column) or None for column, field in COMPUTED_COLUMNS.items()}
    return Computed(**{**found, "code": found["code"] or found["version"]})


def by_variant(rows: Sequence[ResultRow]) -> dict[str, list[ResultRow]]:
    """Variants in order of appearance, each with its rows by ascending seed."""
    runs: dict[str, list[ResultRow]] = {}
    for row in rows:
        runs.setdefault(row.variant, []).append(row)
    return {name: sorted(own, key=lambda row: row.seed) for name, own in runs.items()}
