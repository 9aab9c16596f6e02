"""Which windows the global batch of a step holds: a pure function of the step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class BatchSampler:
    """Global batches drawn without replacement, epoch after epoch.

    Every epoch is a fresh permutation of all windows, seeded by (seed, epoch). The permutations
    stand one after the other and step `s` takes positions `[s * batch_size, (s + 1) * batch_size)`:
    a batch may straddle two epochs, and within an epoch no window is repeated or left out.
    Neither the number of workers nor the platform has a say: the order comes from the raw output
    of PCG64, which NumPy keeps stable between versions, as it does not for `permutation`.

    Raises `UserError` when there are fewer windows than one batch needs.
    """

    num_windows: int
    batch_size: int = field(kw_only=True)
    seed: int = field(kw_only=True)
    _permutations: dict[int, Indices] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UserError(f"batch_size ({self.batch_size}) must be at least 1")
        if self.seed < 0:
            raise UserError(f"seed ({self.seed}) must be 0 or more")
        if self.num_windows < self.batch_size:
            raise UserError(
                f"the corpus has {self.num_windows} windows, one batch needs {self.batch_size}: "
                "use more text, a smaller batch_size or a shorter sequence_length"
            )

    def indices(self, step: int) -> Indices:
        """The windows of the global batch at `step` (from 0), shape (batch_size,)."""
        if step < 0:
            raise ValueError(f"step ({step}) must be 0 or more")
        epoch, offset = divmod(step * self.batch_size, self.num_windows)
        batch = self._permutation(epoch)[offset : offset + self.batch_size]
        missing = self.batch_size - len(batch)
        if missing:
            batch = np.concatenate([batch, self._permutation(epoch + 1)[:missing]])
        return batch.copy()

    def rank_indices(self, step: int, *, rank: int, workers: int) -> Indices:
        """The contiguous slice of `indices(step)` that one of `workers` processes takes.

        Raises `UserError` when the batch cannot be divided evenly.
        """
        if self.batch_size % workers:
            raise UserError(
                f"workers ({workers}) must divide batch_size ({self.batch_size}): every worker "
                "takes the same share of the global batch"
            )
        if not 0 <= rank < workers:
            raise ValueError(f"rank ({rank}) must be in [0, {workers})")
        share = self.batch_size // workers
        return self.indices(step)[rank * share : (rank + 1) * share]

    def _permutation(self, epoch: int) -> Indices:
        if epoch not in self._permutations:
            for old in [e for e in self._permutations if e < epoch - 1 or e > epoch + 1]:
                del self._permutations[old]
            generator = np.random.PCG64(np.random.SeedSequence([self.seed, epoch]))
            keys = generator.random_raw(self.num_windows)
            self._permutations[epoch] = np.argsort(keys, kind="stable").astype(np.int64)
        return self._permutations[epoch]


class BatchHasher:
    """SHA-256 of the batches that a trial read: equal in two trials means the same data.

    Feed it the *global* indices of every step in order; after a resume, feed it the earlier steps
    again from the sampler.
    """

    def __init__(self, data_sha256: str) -> None:
        self._digest = hashlib.sha256(data_sha256.encode())

    def update(self, indices: Indices) -> None:
        self._digest.update(np.ascontiguousarray(indices, dtype="<i8").tobytes())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
