"""What the trials of a search are called."""

from __future__ import annotations

from harness.journal import Journal, Suggested
from harness.progress import Label
from harness.results import StudyFolder
from harness.tuning_settings import Point


def settings_text(point: Point) -> str:
    """`lr=0.0125 num_steps=5`."""
    return " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in point.items()
    )


def search_labels(folder: StudyFolder) -> dict[str, Label]:
    """Variant, number and settings by trial_key; equal trials have the first one's number."""
    labels: dict[str, Label] = {}
    for event in Journal(folder.path).events():
        if isinstance(event, Suggested):
            for seed, key in event.keys.items():
                detail = f"#{event.index} {settings_text(event.point)} seed {seed}"
                labels.setdefault(key, Label((event.variant,), detail))
    return labels
