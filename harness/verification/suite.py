"""The suite: which checks run where, and their results as they come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.verification.catalogue import Check, chosen
from harness.verification.places import BACKENDS, SIZES, Place, places
from harness.verification.results import CheckResult
from harness.verification.subjects import Subject, subject_of

PATIENCE_S = 60.0
ONLY_WHOLE = "a plain torch optimizer sees whole weights only"


class GangsFailed(RuntimeError):
    """The process that starts the workers ended: what it said last."""


def verify(
    target: str,
    *,
    settings: Mapping[str, Any] | None = None,
    backends: Sequence[str] = tuple(BACKENDS),
    workers: Sequence[int] = SIZES,
    checks: Sequence[str] | None = None,
    patience_s: float = PATIENCE_S,
) -> list[CheckResult]:
    """Every check in every place, in real processes on the CPU.

    Args:
        target: A registered kind, or `package.module:ClassName`.
        settings: Of its specification or constructor; `lr` is 0.003 by default.
        backends: Of the gangs; keys of `BACKENDS`.
        workers: Sizes: 1 is one process, 2 and 4 are gangs.
        checks: Names of `CHECKS`; by default all.
        patience_s: A gang that is silent for so long hangs, and fails its check.

    Raises:
        UserError: what is wrong with the target, its settings or a name, before anything starts.
    """
    return list(
        results_of(
            subject_of(target, settings),
            places(backends, workers),
            chosen(list(checks) if checks else None),
            patience_s=patience_s,
        )
    )


def results_of(
    subject: Subject,
    where: Sequence[Place],
    checks: Sequence[Check],
    *,
    patience_s: float = PATIENCE_S,
) -> Iterator[CheckResult]:
    """As `verify`, one result after another."""
    tasks: list[tuple[str, int, str]] = []
    for place in where:
        for check in checks:
            reason = not_applicable(subject, place, check)
            if reason is None:
                tasks.append((place.backend, place.workers, check.name))
            else:
                yield CheckResult(check.name, place.label, "not applicable", detail=reason)
    if tasks:
        yield from _run(subject, tasks, patience_s=patience_s)


def not_applicable(subject: Subject, place: Place, check: Check) -> str | None:
    """Why a check says nothing about this optimizer here, or None."""
    if place.workers > 1 and place.backend != "ddp" and subject.needs_whole_parameters:
        return ONLY_WHOLE
    return check.not_applicable(place)


def _run(
    subject: Subject, tasks: Sequence[tuple[str, int, str]], *, patience_s: float
) -> Iterator[CheckResult]:
    path = [entry or os.getcwd() for entry in sys.path]
    request = {
        "target": subject.target,
        "settings": dict(subject.settings),
        "tasks": list(tasks),
        "patience_s": patience_s,
        "path": path,
    }
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "DS_ACCELERATOR": "cpu",
        "TORCHDYNAMO_DISABLE": "1",
        "PYTHONPATH": os.pathsep.join(path),
    }
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.verification.gangs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        assert process.stdin is not None, "it was asked for"
        assert process.stdout is not None, "it was asked for"
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()  # it stays open: the process ends where this one does
            count = 0
            for line in process.stdout:
                count += 1
                values = json.loads(line)
                values.pop("meaning", None)
                yield CheckResult(**values)
            if process.wait() or count < len(tasks):
                errors.seek(0)
                raise GangsFailed(errors.read()[-3000:])
        finally:
            process.terminate()
            process.stdin.close()
            process.stdout.close()
            process.wait()
