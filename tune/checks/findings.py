"""What a check found: one plain record, the same before a run and in `optbench doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Level = Literal["ok", "warning", "failure"]
"""A failure bends results or fails trials; a warning makes them slow, or may become a failure."""

HERE = "this machine"
SHOWN_PLACES = 4


@dataclass(frozen=True, kw_only=True)
class Finding:
    """
    Attributes:
        where: the address of a node, or `this machine`.
        advice: what to do; empty where all is well.
        figures: for scripts, beside the words.
    """

    check: str
    level: Level
    found: str
    advice: str = ""
    where: str = HERE
    figures: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "where": self.where,
            "level": self.level,
            "ok": self.level != "failure",
            "found": self.found,
            "advice": self.advice,
            **self.figures,
        }

    @property
    def sentence(self) -> str:
        return f"{self.where}: {self.found}" + (f": {self.advice}" if self.advice else "")


def ok(check: str, found: str, **more: Any) -> Finding:
    return Finding(check=check, level="ok", found=found, **more)


def warning(check: str, found: str, advice: str, **more: Any) -> Finding:
    return Finding(check=check, level="warning", found=found, advice=advice, **more)


def failure(check: str, found: str, advice: str = "", **more: Any) -> Finding:
    return Finding(check=check, level="failure", found=found, advice=advice, **more)


def folded(findings: Iterable[Finding]) -> list[Finding]:
    """What several nodes have in common, once and with all their names."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        key = (finding.check, finding.level, finding.found, finding.advice)
        groups.setdefault(key, []).append(finding)
    return [replace(g[0], where=places([each.where for each in g])) for g in groups.values()]


def places(where: Sequence[str]) -> str:
    shown = ", ".join(where[:SHOWN_PLACES])
    more = len(where) - SHOWN_PLACES
    return f"{shown} and {more} more" if more > 0 else shown
