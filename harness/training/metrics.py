"""What is measured while a trial runs: losses, router load, times, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.data import TokenDataset, Windows
from harness.training.backends.protocol import Backend
from harness.training.batches import to_tensors
from harness.training.pulse import Pulse

# Small enough for any model whose training micro-batch fits; a constant, so that the sums do not
# depend on the number of workers.
CHUNK_WINDOWS = 16


@dataclass(frozen=True)
class Evaluation:
    """Mean loss (nats a token), accuracy, and the experts' shares of the assignments."""

    loss: float
    accuracy: float
    router_load: list[list[float]]

    @property
    def dead_experts(self) -> int:
        return sum(share == 0.0 for layer in self.router_load for share in layer)


def evaluate(
    backend: Backend, dataset: TokenDataset, *, num_windows: int, pulse: Pulse
) -> Evaluation:
    """Loss and accuracy over the first `num_windows` validation windows, shared by the workers."""
    return evaluate_on(
        backend,
        dataset.validation_windows,
        num_windows=min(num_windows, dataset.num_validation_windows),
        pulse=pulse,
    )


def evaluate_on(
    backend: Backend,
    take: Callable[[NDArray[np.int64]], Windows],
    *,
    num_windows: int,
    pulse: Pulse,
) -> Evaluation:
    """Loss and accuracy over windows 0 to `num_windows` - 1 of those that `take` gives.

    The chunks do not depend on the number of workers. Every worker runs the same number of chunks,
    because a forward pass may contain collectives; a surplus chunk counts nothing.
    """
    windows = np.arange(num_windows)
    chunks = np.array_split(windows, range(CHUNK_WINDOWS, len(windows), CHUNK_WINDOWS))
    rounds = -(-len(chunks) // backend.num_workers)
    totals: Tensor | None = None
    shape = torch.Size([])
    for round_index in range(rounds):
        pulse.beat("evaluating")
        index = round_index * backend.num_workers + backend.rank
        counts = index < len(chunks)
        inputs, targets = to_tensors(take(chunks[index if counts else 0]), backend.device)
        output = backend.evaluate(inputs, targets)
        shape, tokens = output.router_load.shape, targets.numel()
        parts = torch.cat(
            [
                torch.stack([output.cross_entropy.double() * tokens, output.num_correct.double()]),
                torch.tensor([float(tokens)], dtype=torch.double, device=backend.device),
                output.router_load.double().flatten() * tokens,
            ]
        )
        totals = parts * counts if totals is None else totals + parts * counts
    assert totals is not None, "there is at least one window"
    loss, correct, tokens_seen, *load = backend.sum_over_workers(totals).tolist()
    load_tensor = torch.tensor(load).reshape(shape) / tokens_seen
    return Evaluation(loss / tokens_seen, correct / tokens_seen, load_tensor.tolist())


@dataclass
class StepClock:
    """Steady-state training time: steps only, the device synchronised at both ends of an interval.

    The first step (allocation, compilation, connection of the workers) is start-up, not training.
    """

    device: torch.device
    train_time_s: float = 0.0
    _interval_start: float | None = None
    _interval_steps: int = 0

    def step_begins(self) -> None:
        if self._interval_start is None:
            self._interval_start = now(self.device)

    def step_ends(self) -> None:
        self._interval_steps += 1

    def discard_interval(self) -> None:
        self._interval_start, self._interval_steps = None, 0

    def end_interval(self) -> float | None:
        """Adds the interval to the training time; its mean seconds a step, None without steps."""
        if self._interval_start is None:
            return None
        elapsed, steps = now(self.device) - self._interval_start, self._interval_steps
        self.train_time_s += elapsed
        self.discard_interval()
        return elapsed / steps


def now(device: torch.device) -> float:
    """Seconds of a monotonic clock, after all work queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def reset_peak_memory(device: torch.device) -> None:
    """Starts a new peak, so that a warm worker does not report an earlier trial's."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: resets VmHWM (man 5 proc)


def peak_memory_bytes(device: torch.device) -> int:
    """Peak allocated memory on a GPU; peak resident memory of the process on CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        # Not Linux: the peak since the process began, in kilobytes (in bytes on macOS).
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    (peak,) = (line for line in lines if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024
