"""Opens when trials fail alike before any has trained: then it is not the trials that are wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from harness.runs.attempts import AttemptEnded

ALIKE = 3
"""Failures before the first step, in the same words, that a study is stopped for."""


class Breaker:
    """Listens to what attempts do until one of them has trained a step.

    Args:
        variants: of the trials that are trained; a failure of some of them only may be their own.
        proven: whether trials of this study have been trained before.
    """

    def __init__(self, *, variants: Iterable[str], proven: bool) -> None:
        self.variants, self.proven = set(variants), proven
        self.failures: dict[str, list[tuple[str, AttemptEnded]]] = defaultdict(list)

    def trained(self) -> None:
        """An attempt has come past its first evaluation."""
        self.proven = True

    def failed(self, variant: str, ended: AttemptEnded) -> None:
        if not self.proven and ended.step == 0:
            self.failures[ended.signature].append((variant, ended))

    def fault(self) -> str | None:
        """What all of them said; None while the breaker is closed."""
        if self.proven:
            return None
        for failures in self.failures.values():
            hit = {variant for variant, _ in failures}
            if len(failures) >= ALIKE and len(hit) >= min(ALIKE, len(self.variants)):
                return failures[-1][1].cause
        return None
