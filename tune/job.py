"""A training run that is placed on the cluster: what Ray's configuration of a trial holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.study.trial import TrialSpec


@dataclass(frozen=True, kw_only=True)
class Job:
    """A spec with what a person calls it and the variants that it stands for.

    `comparable` is whether its final loss may stand beside those of the other variants: at another
    length it may not.
    """

    spec: TrialSpec
    variants: tuple[str, ...]
    detail: str
    comparable: bool = True

    @property
    def key(self) -> str:
        return self.spec.key

    @property
    def name(self) -> str:
        return f"{' = '.join(self.variants)} {self.detail}"

    def config(self, dataset_path: Path) -> dict[str, Any]:
        """Plain values: the actor that holds a gang does without torch, so without our types."""
        return {
            "key": self.key,
            "variant": self.variants[0],
            "spec": self.spec.model_dump(mode="json"),
            "dataset_path": str(dataset_path),
        }
