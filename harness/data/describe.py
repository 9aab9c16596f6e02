"""What `optbench data` shows about a dataset."""

from __future__ import annotations

from typing import Any

from harness.data.dataset import TokenDataset


def describe(dataset: TokenDataset) -> dict[str, Any]:
    """The manifest, its derived figures and the folder, ready for JSON."""
    manifest = dataset.manifest
    described = manifest.model_dump(mode="json")
    described["overlap"]["share"] = manifest.overlap.share
    return {"path": str(dataset.path), "sha256": manifest.sha256, **described}
