"""This worker's batches: made one step ahead, and proved to be those of the plan.

Shape suffixes: B sequences of a batch, T tokens of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data import BatchSampler, TokenDataset
from harness.data.dataset import Windows
from harness.training.backends.protocol import Backend

Digests = NDArray[np.uint64]


class BatchError(RuntimeError):
    """A trial was fed other windows than its plan names."""


@dataclass(frozen=True)
class MicroBatch:
    """Inputs and targets `(B, T)` on the device, and what they were made of on the host."""

    inputs_BT: Tensor
    targets_BT: Tensor
    windows: Windows


class BatchFeed:
    """Micro-batches by step.

    The next step's are made while a GPU still works on this one's: the host reads and copies only,
    from pinned memory, and waits for nothing. On a CPU the same happens, without the overlap.

    Every window that is handed out is counted into a checksum. `check` compares the sum over all
    workers with that of the planned windows, which it reads again, cut otherwise: each worker takes
    every N-th row of the global batch instead of a contiguous part.

    Args:
        dataset: To read from.
        sampler: Which windows a step has.
        backend: Whose device, rank and number of workers count.
        accumulation_steps: Micro-batches of a step.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        sampler: BatchSampler,
        backend: Backend,
        *,
        accumulation_steps: int,
    ) -> None:
        self.dataset, self.sampler, self.backend = dataset, sampler, backend
        self.accumulation_steps = accumulation_steps
        self._ahead: tuple[int, list[MicroBatch]] | None = None
        self._fed = 0
        self._steps: list[int] = []  # since the last check

    def take(self, step: int) -> list[MicroBatch]:
        """The micro-batches of a step, counted from 0."""
        ahead, self._ahead = self._ahead, None
        batches = ahead[1] if ahead is not None and ahead[0] == step else self._make(step)
        windows = np.concatenate([batch.windows for batch in batches])
        first = self.backend.rank * len(windows)
        self._fed += self._checksum(windows, step, np.arange(first, first + len(windows)))
        self._steps.append(step)
        return batches

    def planned(self, step: int) -> list[MicroBatch]:
        """A step's micro-batches, counted from 0, without handing them out."""
        return self._make(step)

    def prefetch(self, step: int) -> None:
        """Make a step's micro-batches now; `take` will hand them out."""
        self._ahead = step, self._make(step)

    def check(self) -> None:
        """What was handed out since the last check is what the plan says. A collective call.

        Raises:
            BatchError: On every worker.
        """
        rank, workers = self.backend.rank, self.backend.num_workers
        missing = -self._fed
        for step in self._steps:
            rows = np.arange(rank, self.sampler.batch_size, workers)
            windows = self.dataset.train_windows(self.sampler.indices(step)[rows])
            missing += self._checksum(windows, step, rows)
        here = torch.from_numpy(np.array([missing % 2**64], dtype=np.uint64).view(np.int64))
        # The sum over workers wraps around, as the checksums do.
        if int(self.backend.sum_over_workers(here.to(self.backend.device)).item()):
            raise BatchError(
                f"the windows fed in steps {self._steps[0] + 1} to {self._steps[-1] + 1} are not "
                "those that the seed and the data name, over all workers"
            )
        self._fed, self._steps = 0, []

    def _make(self, step: int) -> list[MicroBatch]:
        """This worker's contiguous rows of the global batch, cut into micro-batches."""
        rank, workers = self.backend.rank, self.backend.num_workers
        mine = self.sampler.rank_indices(step, rank=rank, workers=workers)
        parts = [self.dataset.train_windows(i) for i in np.split(mine, self.accumulation_steps)]
        return [MicroBatch(*to_tensors(part, self.backend.device), part) for part in parts]

    def _checksum(self, windows: Windows, step: int, rows: NDArray[np.int64]) -> int:
        places = (step * self.sampler.batch_size + rows).astype(np.uint64)
        return int(_mix(window_digests(windows) + _mix(places)).sum(dtype=np.uint64))


def window_digests(windows: Windows) -> Digests:
    """A number for each window `(B, T + 1)`: other tokens or another order give another one."""
    factors = np.random.PCG64(0).random_raw(windows.shape[1]) | np.uint64(1)
    digests: Digests = (windows.astype(np.uint64) * factors).sum(1, dtype=np.uint64)
    return digests


def _mix(values: Digests) -> Digests:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection that mixes all bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Digests = values ^ (values >> np.uint64(31))
    return mixed


def to_tensors(windows: Windows, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs and targets `(B, T)` of windows `(B, T + 1)`; the host does not wait for a GPU."""
    tokens: Any = torch.from_numpy(windows)
    if device.type == "cuda":
        tokens = tokens.pin_memory()  # from pageable memory the copy would wait for the device
    tokens = tokens.to(device, non_blocking=True)
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
