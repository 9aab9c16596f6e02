"""A worker whose part takes long, in a gang whose collectives are given up when they wait long."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from harness.training.checkpoint import saving
from harness.training.checkpoint.storage import LocalFolder


class TwoWorkers:
    """The second one is always done; every exchange is counted."""

    device, rank, num_workers = torch.device("cpu"), 0, 2

    def __init__(self, enough: threading.Event) -> None:
        self.exchanges, self.enough = 0, enough

    def sum_over_workers(self, values: torch.Tensor) -> torch.Tensor:
        self.exchanges += 1
        if self.exchanges == 5:
            self.enough.set()
        return values


class SlowFolder(LocalFolder):
    def __init__(self, path: Path, until: threading.Event) -> None:
        super().__init__(path)
        self.until = until

    def put(self, name: str, written: Path) -> None:
        assert self.until.wait(60), "nobody heard of this worker while it wrote"
        super().put(name, written)


def test_a_worker_that_writes_for_long_tells_the_others_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "GOES_ON_EVERY_S", 0.01)
    enough = threading.Event()
    backend = TwoWorkers(enough)
    part, reason = saving._write_all(SlowFolder(tmp_path, enough), [], backend)  # type: ignore[arg-type]
    assert (reason, backend.exchanges >= 6) == (None, True)
    assert part is not None
    assert part.bytes == (tmp_path / part.file).stat().st_size
