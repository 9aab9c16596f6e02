"""What a check found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.verification.catalogue import CHECKS

Status = Literal["pass", "fail", "not applicable", "error"]


@dataclass(frozen=True)
class CheckResult:
    """One check in one place.

    Args:
        status: `error`: the check could not finish (an exception, or a worker that ended).
        figure: What was measured, in the unit that the check's `does` names.
        limit: The largest figure that passes.
        detail: The parameter, the entry, the exception or the reason.
    """

    check: str
    place: str
    status: Status
    figure: float | None = None
    limit: float | None = None
    detail: str = ""

    @property
    def is_bad(self) -> bool:
        return self.status in ("fail", "error")

    @property
    def meaning(self) -> str:
        """What a failure of this check means."""
        return CHECKS[self.check].meaning

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), **({"meaning": self.meaning} if self.is_bad else {})}

    def __str__(self) -> str:
        figures = "" if self.figure is None else f" {self.figure:.3g} (limit {self.limit:.3g})"
        return f"{self.check} [{self.place}]: {self.status}{figures} {self.detail}".rstrip()


def assert_conforms(results: Iterable[CheckResult], check: str | None = None) -> None:
    """For a test: nothing failed, of one check or of all.

    Raises:
        AssertionError: naming each failure with its figure and its meaning, or that nothing ran.
    """
    found = [result for result in results if check in (None, result.check)]
    if all(result.status == "not applicable" for result in found):
        why = "; ".join(dict.fromkeys(result.detail for result in found))
        raise AssertionError(f"no result of {check or 'any check'}: nothing was run: {why}")
    bad = [f"{result}\n    {result.meaning}" for result in found if result.is_bad]
    if bad:
        raise AssertionError("\n".join(bad))
