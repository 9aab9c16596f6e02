"""Small corpora, and a source that needs no files."""

import json
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from harness.data import DataConfig, TokenDataset, open_dataset
from harness.data.build import build
from harness.data.sources import Source

# Read once, when the hub's client is first imported: nothing here may reach for the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

_TEXT = "the optimizer step moves every matrix of the model toward lower loss and then rests"
_WORDS = _TEXT.split()


@pytest.fixture(scope="session")
def make_texts() -> Callable[..., list[str]]:
    """Documents of random words: distinct, and reproducible from the seed."""

    def make(count: int, *, words: int = 40, seed: int = 0) -> list[str]:
        draw = random.Random(seed)
        return [
            f"document {seed}.{i}: " + " ".join(draw.choices(_WORDS, k=words)) for i in range(count)
        ]

    return make


@pytest.fixture(scope="session")
def small_config() -> Callable[..., DataConfig]:
    """A configuration for corpora of a few hundred tokens."""

    def make(**changes: object) -> DataConfig:
        settings = {"vocab_size": 300, "sequence_length": 8, "validation_fraction": 0.3}
        return DataConfig.model_validate({**settings, **changes})

    return make


@pytest.fixture(scope="session")
def build_texts(
    tmp_path_factory: pytest.TempPathFactory, small_config: Callable[..., DataConfig]
) -> Callable[..., TokenDataset]:
    """Build a dataset from texts in memory, through everything but the reading of files."""

    def build_from(texts: Iterable[str], **changes: object) -> TokenDataset:
        documents = list(texts)
        directory = tmp_path_factory.mktemp("data")
        source = Source(
            name="texts", revision="1", fingerprint="1", documents=lambda: iter(documents)
        )
        build(small_config(**changes), source, directory=directory, progress=lambda line: None)
        return open_dataset(directory)

    return build_from


@pytest.fixture
def corpus_file(tmp_path: Path, make_texts: Callable[..., list[str]]) -> Path:
    """A jsonl file of sixty documents."""
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in make_texts(60)))
    return path
