"""The text that every trial of a study reads: built once, split by document, opened fast."""

from harness.data.batch_order import BatchHasher, BatchSampler
from harness.data.cache import default_cache_dir, prepare
from harness.data.config import DataConfig
from harness.data.dataset import TokenDataset, Windows, open_dataset
from harness.data.describe import describe
from harness.data.manifest import DataManifest, OverlapManifest, SplitManifest

__all__ = [
    "BatchHasher",
    "BatchSampler",
    "DataConfig",
    "DataManifest",
    "OverlapManifest",
    "SplitManifest",
    "TokenDataset",
    "Windows",
    "default_cache_dir",
    "describe",
    "open_dataset",
    "prepare",
]
