"""Which checkpoint a trial goes on from: the newest that is whole, of the trial and of the code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.study.trial import TrialSpec
from harness.training.checkpoint import manifest as manifests
from harness.training.checkpoint.manifest import Damaged, Manifest, differences, step_of
from harness.training.checkpoint.storage import Folder, open_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """A checkpoint that can be gone on from.

    Args:
        folder: Its path or URI, for `WorkerContext.resume_from`.
        step: Optimizer steps done.
        skipped: A sentence about every newer one that cannot be used.
    """

    folder: str
    step: int
    skipped: tuple[str, ...] = ()


def newest_valid(
    folder: str | Path | Folder,
    spec: TrialSpec,
    code_sha256: str | None = None,
    *,
    device_type: str | None = None,
    at_most: int | None = None,
) -> Found | None:
    """The newest checkpoint in a folder of them whose manifest and every part are as written.

    What is skipped is logged as a warning. On a remote file system the parts are read over the
    network, once here and once by every worker that resumes.

    Args:
        folder: Path or URI, or the folder opened.
        spec: The trial; what `MAY_DIFFER` names may be another.
        code_sha256: The code that saved it; None for any.
        device_type: `cpu` or `cuda`, where it trained; None for any.
        at_most: Steps done; a later one is ahead of the reports that its driver has written.
    """
    skipped: list[str] = []
    for child, reason in _newest_first(open_folder(folder)):
        if isinstance(reason, Manifest):
            reason = _refusal(child, reason, spec, code_sha256, device_type) or reason
        if isinstance(reason, Manifest) and at_most is not None and reason.step > at_most:
            reason = f"no reports lead up to step {reason.step}, only to step {at_most}"
        if isinstance(reason, Manifest):
            return Found(child.where, reason.step, tuple(skipped))
        skipped.append(f"the checkpoint {child.where} is left alone: {reason}")
        logger.warning(skipped[-1])
    return None


def _newest_first(folder: Folder) -> Iterator[tuple[Folder, Manifest | str]]:
    """Every checkpoint with its manifest, or why it has none."""
    names = [name for name in folder.names() if step_of(name) is not None]
    for name in sorted(names, key=lambda name: -(step_of(name) or 0)):
        child = folder.child(name)
        try:
            yield child, manifests.read_manifest(child)
        except (Damaged, OSError) as error:
            yield child, str(error)


def _refusal(
    folder: Folder,
    manifest: Manifest,
    spec: TrialSpec,
    code_sha256: str | None,
    device_type: str | None,
) -> str | None:
    if changes := differences(manifest, spec):
        return "it is of another trial: " + "; ".join(changes[:3])
    if code_sha256 is not None and manifest.code_sha256 != code_sha256:
        return f"it is of other code ({manifest.code_version})"
    if device_type is not None and manifest.device_type != device_type:
        return f"it was trained on {manifest.device_type}, not on {device_type}"
    try:
        manifests.check_parts(folder, manifest)
    except (Damaged, OSError) as error:
        return str(error)
    return None
