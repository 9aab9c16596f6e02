"""The manifest: what a checkpoint is of, what it consists of, and all that is no tensor.

It is written last, so a folder without it is no checkpoint. It names the SHA-256 of every part and
of itself.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import ValidationError

from harness.study.dotted import flatten
from harness.study.record import Record
from harness.study.trial import TrialSpec
from harness.training.checkpoint.storage import Folder
from harness.training.records import Report

FILE_NAME = "manifest.json"

# Who trains and who looks on: these change the order of sums in fp32, and nothing else. Another
# precision, dtype of Newton-Schulz or kind of device is other arithmetic and so another trial: a
# loss after some steps in each would belong to neither.
MAY_DIFFER = frozenset(
    {
        "training.backend",
        "training.zero_stage",
        "training.accumulation_steps",
        "training.evaluation_every",
        "training.evaluation_windows",
    }
)


class Damaged(Exception):
    """This is no whole checkpoint; the text says why."""


class Part(Record):
    """A file of tensors, written by one worker."""

    file: str
    bytes: int
    sha256: str


class Times(Record):
    """Seconds from the start of the trial, over all attempts that led here."""

    train: float = 0.0
    evaluation: float = 0.0
    startup: float = 0.0
    checkpoint: float = 0.0
    wall: float = 0.0


class Manifest(Record):
    """What a checkpoint holds besides tensors.

    `counters` are those of each worker, `updates` how often each parameter was updated; `preflight`
    is what the checks found when the trial began.
    """

    format: Literal["optbench-checkpoint-2"] = "optbench-checkpoint-2"
    spec_key: str
    spec: dict[str, Any]
    code_version: str
    code_sha256: str
    device_type: str
    backend: str
    step: int
    report: Report
    times: Times
    counters: tuple[dict[str, int], ...]
    updates: dict[str, int]
    preflight: dict[str, Any]
    parts: tuple[Part, ...]

    @property
    def num_workers(self) -> int:
        return len(self.parts)


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """The step in the name of a checkpoint's folder; None of another name."""
    digits = name.removeprefix("step-")
    return int(digits) if name.startswith("step-") and digits.isdigit() else None


def part_name(rank: int, workers: int) -> str:
    return f"part-{rank:05d}-of-{workers:05d}.safetensors"


_HEAD, _MIDDLE, _END = '{"sha256":"', '","checkpoint":', "}\n"


def to_text(manifest: Manifest) -> str:
    return _framed(manifest.model_dump_json())


def _framed(content: str) -> str:
    return _HEAD + hashlib.sha256(content.encode()).hexdigest() + _MIDDLE + content + _END


def read_manifest(folder: Folder) -> Manifest:
    """Of the checkpoint in this folder; its parts are not looked at.

    Raises:
        Damaged: there is none, it is not as it was written, or of another version of optbench.
        OSError: it cannot be read.
    """
    if folder.size(FILE_NAME) is None:
        raise Damaged(f"it has no {FILE_NAME}, which is written last")
    with folder.stream(FILE_NAME) as file:
        text = file.read().decode(errors="replace")
    content = text[len(_HEAD) + 64 + len(_MIDDLE) : -len(_END)]
    if _framed(content) != text:
        raise Damaged(f"{FILE_NAME} is not what was written (SHA-256)")
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Damaged(f"it is of another version of optbench ({where}: {first['msg']})") from None


def check_parts(folder: Folder, manifest: Manifest) -> None:
    """Every part is there to the last bit: sizes first, then hashes.

    Raises:
        Damaged: naming the first part that is not.
    """
    check_sizes(folder, manifest)
    check_hashes(folder, manifest)


def check_sizes(folder: Folder, manifest: Manifest) -> None:
    for part in manifest.parts:
        if (size := folder.size(part.file)) != part.bytes:
            found = "missing" if size is None else f"{size} bytes"
            raise Damaged(f"{part.file} is {found} instead of {part.bytes} bytes")


def check_hashes(folder: Folder, manifest: Manifest) -> None:
    for part in manifest.parts:
        if folder.sha256(part.file) != part.sha256:
            raise Damaged(f"{part.file} is not what was written (SHA-256)")


def differences(manifest: Manifest, spec: TrialSpec) -> list[str]:
    """What makes the trial another one than that of the checkpoint: `path (there, here)`."""
    saved, asked = flatten(manifest.spec), flatten(spec.model_dump(mode="json"))
    return [
        f"{path} ({saved.get(path)!r} there, {asked.get(path)!r} here)"
        for path in {**saved, **asked}
        if path not in MAY_DIFFER and saved.get(path) != asked.get(path)
    ]
