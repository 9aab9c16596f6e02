"""Windows of tokens from a built data folder, memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from harness.data.manifest import DataManifest, SplitManifest
from harness.errors import UserError

MANIFEST_FILE = "manifest.json"
TOKENIZER_FILE = "tokenizer.json"
TRAIN_FILE = "train.bin"
VALIDATION_FILE = "validation.bin"

_HASH_BYTES = 8 * 2**20
_LEAK_SEED = 20_250_704  # any number, the same in every trial

Windows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenDataset:
    """Training and validation windows of one data folder.

    The tokens of a split stand one after the other, window `i` being tokens
    `[i * (sequence_length + 1), (i + 1) * (sequence_length + 1))`. Windows therefore never share
    a token and leave none out but a last incomplete one; a window may span documents.
    Make one with `prepare` or `open_dataset`.
    """

    path: Path
    manifest: DataManifest
    _train: NDArray[np.unsignedinteger] = field(repr=False, compare=False)
    _validation: NDArray[np.unsignedinteger] = field(repr=False, compare=False)

    @property
    def vocab_size(self) -> int:
        return self.manifest.vocab_size

    @property
    def sequence_length(self) -> int:
        """Tokens predicted per window."""
        return self.manifest.sequence_length

    @property
    def num_train_windows(self) -> int:
        return self.manifest.train.windows

    @property
    def num_validation_windows(self) -> int:
        return self.manifest.validation.windows

    def train_windows(self, indices: ArrayLike) -> Windows:
        """Training windows, shape (k, sequence_length + 1), copied out of the file.

        Raises `IndexError` for an index outside [0, num_train_windows).
        """
        return _take(self._train, indices)

    def validation_windows(self, indices: ArrayLike) -> Windows:
        """Validation windows, shape (k, sequence_length + 1), copied out of the file.

        Raises `IndexError` for an index outside [0, num_validation_windows).
        """
        return _take(self._validation, indices)

    def leaked_windows(self, indices: ArrayLike) -> Windows:
        """Windows cut at random places of the training tokens, shape (k, sequence_length + 1).

        As a validation set that is split from the windows of stride 1 of one text, instead of from
        its documents: nearly all of their tokens stand in the training windows. Window `i` is the
        same for everybody.
        """
        tokens = self._train.reshape(-1)
        chosen = np.asarray(indices, dtype=np.int64)
        starts = np.array(
            [
                np.random.default_rng([_LEAK_SEED, i]).integers(tokens.size - self.sequence_length)
                for i in chosen.tolist()
            ],
            dtype=np.int64,
        )
        places = starts[:, None] + np.arange(self.sequence_length + 1)
        windows: Windows = tokens[places].astype(np.int64)
        return windows

    def verify(self, beat: Callable[[], None] = lambda: None) -> None:
        """Read every file and compare its SHA-256 with the manifest.

        `beat` is called with every chunk that is read. Raises `UserError` naming the first file
        that differs.
        """
        for name, sha256 in files_sha256(self.manifest).items():
            try:
                found = _sha256_of(self.path / name, beat)
            except OSError as error:
                raise _damaged(self.path, f"{name} cannot be read: {error.strerror}") from None
            if found != sha256:
                raise _damaged(self.path, f"{name} has SHA-256 {found}, its manifest says {sha256}")


def open_dataset(path: Path | str) -> TokenDataset:
    """Open a data folder that `prepare` built: only its manifest is read, and sizes compared.

    Raises `UserError` when the folder is absent, of another version, or damaged.
    """
    path = Path(path)
    try:
        manifest = DataManifest.model_validate_json((path / MANIFEST_FILE).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{path} is no data folder ({error.strerror}): build one with `optbench data STUDY`"
        ) from None
    except OSError as error:
        raise _damaged(path, f"{MANIFEST_FILE} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise _damaged(path, f"{MANIFEST_FILE} is of another version or broken") from None
    return TokenDataset(
        path=path,
        manifest=manifest,
        _train=_open_windows(path / TRAIN_FILE, manifest, manifest.train),
        _validation=_open_windows(path / VALIDATION_FILE, manifest, manifest.validation),
    )


def files_sha256(manifest: DataManifest) -> dict[str, str]:
    """Of every file that stands beside the manifest, by name."""
    return {
        TRAIN_FILE: manifest.train.sha256,
        VALIDATION_FILE: manifest.validation.sha256,
        TOKENIZER_FILE: manifest.tokenizer_sha256,
    }


def _sha256_of(path: Path, beat: Callable[[], None]) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_HASH_BYTES):
            hasher.update(chunk)
            beat()
    return hasher.hexdigest()


def _open_windows(
    file: Path, manifest: DataManifest, split: SplitManifest
) -> NDArray[np.unsignedinteger]:
    expected_bytes = split.tokens * np.dtype(manifest.dtype).itemsize
    found_bytes = file.stat().st_size if file.is_file() else 0
    if split.windows != split.tokens // (manifest.sequence_length + 1):
        raise _damaged(file.parent, f"the windows of {file.name} in {MANIFEST_FILE} do not add up")
    if found_bytes != expected_bytes:
        raise _damaged(
            file.parent, f"{file.name} has {found_bytes} bytes, its manifest says {expected_bytes}"
        )
    shape = (split.windows, manifest.sequence_length + 1)
    try:
        return np.memmap(file, dtype=manifest.dtype, mode="r", shape=shape)
    except OSError as error:
        raise _damaged(file.parent, f"{file.name} cannot be read: {error.strerror}") from None


def _take(windows: NDArray[np.unsignedinteger], indices: ArrayLike) -> Windows:
    chosen = np.asarray(indices, dtype=np.int64)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= len(windows)):
        raise IndexError(
            f"windows {chosen.min()} to {chosen.max()} asked for, there are 0 to {len(windows) - 1}"
        )
    return windows[chosen].astype(np.int64)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(
        f"the data in {path} cannot be used ({reason}): delete that folder and rebuild"
    )
