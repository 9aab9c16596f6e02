"""A checkpoint is written: by every worker what it answers for, and the manifest last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import torch

from harness.training.backends.protocol import Backend, WorkerContext
from harness.training.checkpoint import manifest as manifests
from harness.training.checkpoint.manifest import Manifest, Part, part_name, step_of
from harness.training.checkpoint.parts import LabelledRange, write_part
from harness.training.checkpoint.storage import Folder, open_folder
from optimizers import NamedOptimizer

logger = logging.getLogger(__name__)

SHARE_OF_TIME = 0.02
"""By the clock no checkpoint follows sooner than the last one took, divided by this."""

VISIBLE_WITHIN_S = 10.0
"""A network file system may show worker 0 a file of another host this much later."""

GOES_ON_EVERY_S = 30.0
"""Between two signs of a worker that still writes; well below `COLLECTIVE_TIMEOUT_S`."""

Describe = Callable[[Sequence[dict[str, int]], Sequence[Part]], Manifest]


class SaveFailed(RuntimeError):
    """No checkpoint was written, on any worker; the older ones are as they were."""


def labelled_ranges(optimizer: NamedOptimizer, backend: Backend) -> list[LabelledRange]:
    """What this worker has to write: its share of weights and state, and its random numbers."""
    ranges = [
        LabelledRange(label_of(piece.name, piece.key), piece.start, piece.stop, piece.elements)
        for piece in optimizer.answered_pieces()
    ]
    for label, state in random_states(backend).items():
        ranges.append(LabelledRange(label, 0, state.numel(), state))
    return ranges


def label_of(name: str, key: str | None) -> str:
    return f"weights/{name}" if key is None else f"optimizer/{name}/{key}"


def random_states(backend: Backend) -> dict[str, torch.Tensor]:
    """Of torch's generators on this worker. Nothing here draws from them yet; a model may."""
    states = {f"random/{backend.rank}/cpu": torch.get_rng_state()}
    if backend.device.type == "cuda":
        states[f"random/{backend.rank}/cuda"] = torch.cuda.get_rng_state(backend.device)
    return states


def save(
    folder: Folder,
    ranges: Sequence[LabelledRange],
    *,
    step: int,
    counters: Mapping[str, int],
    backend: Backend,
    describe: Describe,
    keep: int | None,
) -> None:
    """Writes the checkpoint of a step. A collective call, done when it is on disk.

    The workers exchange a few numbers when their parts are there, and whether the manifest is.

    Args:
        folder: Of the trial's checkpoints; this one is a folder in it.
        ranges: What this worker writes.
        counters: Of this worker.
        describe: Called on worker 0 with the counters and parts of all.
        keep: How many checkpoints stay; None for all.

    Raises:
        SaveFailed: on every worker.
    """
    child = folder.child(manifests.folder_name(step))
    mine, reason = _write_all(child, ranges, backend)
    rows = _exchange(mine, list(counters.values()), backend)
    if missing := [rank for rank, row in enumerate(rows) if not row[0]]:
        raise SaveFailed(reason or f"worker {missing[0]} could not write its part")
    if backend.rank == 0:
        parts = [_part(part_name(rank, len(rows)), row) for rank, row in enumerate(rows)]
        known = [dict(zip(counters, row[6:], strict=True)) for row in rows]
        try:
            _complete(child, describe(known, parts))
        except Exception as error:  # the others wait to hear of it
            reason = _in_words(child, error)
    failed = torch.tensor([float(reason is not None)], device=backend.device)
    if backend.sum_over_workers(failed).item():
        raise SaveFailed(reason or "worker 0 could not complete the checkpoint")
    if backend.rank == 0 and keep is not None:
        _prune(folder, step, keep)


def _write_all(
    child: Folder, ranges: Sequence[LabelledRange], backend: Backend
) -> tuple[Part | None, str | None]:
    """Every worker's part. A collective call, however much longer one of them takes than another.

    A worker that is done would wait for the slowest in a single exchange, which the backend gives
    up after some minutes (`COLLECTIVE_TIMEOUT_S`); so they tell one another that they go on.
    """
    if backend.num_workers == 1:
        return _write_own(child, ranges, backend)
    with ThreadPoolExecutor(max_workers=1) as pool:
        writing = pool.submit(_write_own, child, ranges, backend)
        while True:
            wait([writing], timeout=GOES_ON_EVERY_S)
            pending = torch.tensor([float(not writing.done())], device=backend.device)
            if not backend.sum_over_workers(pending).item():
                return writing.result()


def _write_own(
    child: Folder, ranges: Sequence[LabelledRange], backend: Backend
) -> tuple[Part | None, str | None]:
    """This worker's part, or why there is none: nothing is raised, the others would wait for it."""
    name = part_name(backend.rank, backend.num_workers)
    written = None
    try:
        if backend.rank == 0:
            child.remove(manifests.FILE_NAME)  # of an earlier attempt; parts follow
        written = child.temporary()
        size, sha256 = write_part(written, ranges)
        child.put(name, written)
        return Part(file=name, bytes=size, sha256=sha256), None
    except Exception as error:
        if written is not None:
            written.unlink(missing_ok=True)
        return None, _in_words(child, error)


def _in_words(child: Folder, error: Exception) -> str:
    return f"cannot save to {child.where}: {getattr(error, 'strerror', None) or error}"


def _exchange(part: Part | None, counters: Sequence[int], backend: Backend) -> list[list[int]]:
    """Every worker's row: whether its part is there, its bytes, its SHA-256 in four, its counters.

    By a sum to which each worker adds its own row: 8 bytes a number.
    """
    rows = torch.zeros(backend.num_workers, 6 + len(counters), dtype=torch.int64)
    if part is not None:
        digest = bytes.fromhex(part.sha256)
        words = [int.from_bytes(digest[i : i + 8], "big", signed=True) for i in range(0, 32, 8)]
        rows[backend.rank] = torch.tensor([1, part.bytes, *words, *counters])
    everyone: list[list[int]] = backend.sum_over_workers(rows.to(backend.device)).tolist()
    return everyone


def _part(name: str, row: Sequence[int]) -> Part:
    digest = b"".join(word.to_bytes(8, "big", signed=True) for word in row[2:6])
    return Part(file=name, bytes=row[1], sha256=digest.hex())


def _complete(child: Folder, manifest: Manifest) -> None:
    """The manifest, once worker 0 sees every part."""
    until = time.monotonic() + VISIBLE_WITHIN_S
    for part in manifest.parts:
        while (size := child.size(part.file)) != part.bytes:
            if time.monotonic() > until:
                raise OSError(
                    f"{part.file} is {size} bytes there, not {part.bytes}: the folder must be on "
                    "storage that all nodes share"
                )
            time.sleep(0.2)
    written = child.temporary()
    written.write_text(manifests.to_text(manifest), encoding="utf-8")
    child.put(manifests.FILE_NAME, written)
    for name in {*child.names()} - {manifests.FILE_NAME, *(p.file for p in manifest.parts)}:
        child.remove(name)  # parts of an earlier attempt with other workers


def _prune(folder: Folder, step: int, keep: int) -> None:
    """The newest `keep` up to this step stay, and what is newer: another attempt's, maybe."""
    older = [name for name in folder.names() if (step_of(name) or step) < step]
    whole = [name for name in older if folder.child(name).size(manifests.FILE_NAME) is not None]
    stay = sorted(whole, key=lambda name: step_of(name) or 0)[len(whole) - (keep - 1) :]
    for name in older:
        if name not in stay:
            with suppress(OSError):
                # Without its manifest it is no checkpoint, should this be interrupted.
                folder.child(name).remove(manifests.FILE_NAME)
                folder.remove(name)


class Keeper:
    """When a trial's next checkpoint is due, and where it goes.

    Args:
        context: Of the worker.
        saves: Whether the optimizer's state can be saved at all.
    """

    def __init__(self, context: WorkerContext, *, step: int, saves: bool) -> None:
        where = context.checkpoints if saves else None
        self.folder = None if where is None else open_folder(where)
        self.every_s = context.checkpoint_every_minutes * 60.0
        self.every_steps, self.keep = context.checkpoint_every_steps, context.checkpoints_kept
        self.last_step, self.last = step, time.monotonic()
        self.took_s = 0.0

    def is_due(self, step: int, backend: Backend) -> bool:
        """The same on all workers: steps they count alike, minutes worker 0 decides.

        A collective call where the clock may decide.
        """
        if self.folder is None:
            return False
        if self.every_steps is not None and step - self.last_step >= self.every_steps:
            return True
        if not self.every_s:
            return False
        wanted = max(self.every_s, self.took_s / SHARE_OF_TIME)
        here = float(backend.rank == 0 and time.monotonic() - self.last >= wanted)
        return backend.sum_over_workers(torch.tensor([here], device=backend.device)).item() > 0

    def saved(self, step: int, *, took_s: float) -> None:
        """Also after a failure: the next try comes when the next checkpoint would."""
        self.last_step, self.last, self.took_s = step, time.monotonic(), took_s
