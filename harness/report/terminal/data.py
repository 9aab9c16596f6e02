"""A dataset for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from harness.data import TokenDataset


def render_data(dataset: TokenDataset) -> RenderableType:
    """A table of the two splits above what identifies the data."""
    manifest = dataset.manifest
    splits = Table(title="Data", title_justify="left")
    splits.add_column("split")
    for name in ("documents", "text (MB)", "tokens", "windows"):
        splits.add_column(name, justify="right")
    for name, split in (("training", manifest.train), ("validation", manifest.validation)):
        splits.add_row(
            name,
            f"{split.documents:,}",
            f"{split.text_bytes / 1e6:.2f}",
            f"{split.tokens:,}",
            f"{split.windows:,}",
        )
    overlap = manifest.overlap
    facts = Table.grid(padding=(0, 2))
    for name, value in (
        ("source", f"{manifest.source} ({manifest.revision})"),
        ("tokenizer", f"{manifest.tokenizer}, {manifest.vocab_size:,} tokens"),
        ("window", f"{manifest.sequence_length:,} predicted tokens"),
        (
            "overlap",
            f"{overlap.share:.2%} of the {overlap.ngrams:,} validation {overlap.n}-grams "
            "also stand in the training text",
        ),
        (
            "duplicates",
            f"{manifest.duplicate_documents:,} exact duplicates, each on one side; "
            f"{manifest.empty_documents:,} empty documents left out",
        ),
        ("sha256", manifest.sha256),
        ("folder", str(dataset.path)),
    ):
        facts.add_row(name, value)
    return Group(splits, facts)
