"""A dataset of the Hugging Face hub, streamed in order, or a clone of its repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.data.config import DataConfig
from harness.data.sources import Source, file_entries, list_fingerprint
from harness.data.streaming import read_rows, texts


def open_source(config: DataConfig) -> Source:
    """The dataset, subset, split and commit that `config` names."""
    name = "/".join(part for part in (config.dataset, config.subset) if part)
    identity: list[tuple[object, ...]] = [(name, config.split, config.revision)]
    if config.dataset and Path(config.dataset).is_dir():  # a clone of the dataset's repository
        files = sorted(p for p in Path(config.dataset).rglob("*") if p.is_file())
        identity += file_entries(files)
    return Source(
        name=f"{name} [{config.split}]",
        revision=str(config.revision),
        fingerprint=list_fingerprint(identity),
        documents=lambda: _read(config),
    )


def _read(config: DataConfig) -> Iterator[str]:
    def load() -> Iterable[dict[str, Any]]:
        from datasets import load_dataset

        rows: Iterable[dict[str, Any]] = load_dataset(
            config.dataset,
            config.subset,
            split=config.split,
            revision=config.revision,
            streaming=True,
        )
        return rows

    where = f"{config.dataset} at revision {config.revision}"
    advice = (
        "check the name, the network and HF_HUB_OFFLINE; without a network use "
        "source = 'stdlib' or source = 'files'"
    )
    yield from texts(
        read_rows(load, where=where, advice=advice), column=config.text_column, where=where
    )
