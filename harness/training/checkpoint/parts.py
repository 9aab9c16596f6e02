"""The tensors of a checkpoint: one safetensors file a worker, ranges of flattened tensors in it.

A tensor `weights/NAME` or `optimizer/NAME/KEY` is cut into ranges `.../START-STOP`, which may lie
in any of the files. Read with any number of workers, each range that a worker keeps is put together
from those that overlap it, without the whole tensor ever being in memory.

torch.distributed.checkpoint would do the same for distributed tensors, but its metadata is pickled
and would have to know our flat fragments of ZeRO; here nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from optimizers.plan import Range

# The names of the format, https://huggingface.co/docs/safetensors.
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
}


@dataclass(frozen=True, eq=False)
class LabelledRange:
    """Elements `[start, stop)` of the flattened tensor `label`: a view, wherever it lies."""

    label: str
    start: int
    stop: int
    elements: Tensor

    @property
    def key(self) -> str:
        return f"{self.label}/{self.start}-{self.stop}"

    @property
    def num_bytes(self) -> int:
        return self.elements.numel() * self.elements.element_size()


@torch.no_grad()
def write_part(path: Path, ranges: Iterable[LabelledRange]) -> tuple[int, str]:
    """A safetensors file, its bytes and its SHA-256.

    One range after the other is copied to main memory and hashed on its way to the file; the
    library's own writer would want all of them there at once.
    """
    # Wide elements first: so each begins at a multiple of its size.
    ordered = sorted(ranges, key=lambda r: -r.elements.element_size())
    header, position = {}, 0
    for each in ordered:
        header[each.key] = {
            "dtype": DTYPES[each.elements.dtype],
            "shape": [each.elements.numel()],
            "data_offsets": [position, position + each.num_bytes],
        }
        position += each.num_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in (len(text).to_bytes(8, "little"), text):
            hasher.update(chunk)
            file.write(chunk)
        for each in ordered:
            data = memoryview(_bytes_of(each.elements))
            hasher.update(data)
            file.write(data)
    return 8 + len(text) + position, hasher.hexdigest()


def _bytes_of(elements: Tensor) -> Any:
    return elements.detach().reshape(-1).contiguous().cpu().view(torch.uint8).numpy()


class LogicalTensors:
    """All parts of a checkpoint, memory-mapped.

    Args:
        files: Every part; where ranges of two overlap, they say the same.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._pieces: dict[str, list[tuple[int, int, Any, str]]] = {}
        for path in files:
            file: Any = safe_open(path, framework="pt")
            for key in file.keys():  # noqa: SIM118
                label, _, held = key.rpartition("/")
                start, stop = map(int, held.split("-"))
                self._pieces.setdefault(label, []).append((start, stop, file, key))
        for pieces in self._pieces.values():
            pieces.sort(key=lambda piece: piece[:2])

    def numel(self, label: str) -> int:
        return max(stop for _, stop, _, _ in self._pieces[label])

    def read(self, label: str, held: Range | None = None) -> Tensor:
        """Elements `[start, stop)` of a flattened tensor, by default all; on the CPU.

        Raises:
            KeyError: there is no such tensor, or elements of it are missing.
        """
        start, stop = (0, self.numel(label)) if held is None else held
        read, position = [], start
        for begin, end, file, key in self._pieces[label]:
            low, high = max(begin, position), min(end, stop)
            if begin <= position < high:
                read.append(file.get_slice(key)[low - begin : high - begin])
                position = high
        if position != stop:
            raise KeyError(f"{label} has no element {position} of {stop}")
        return read[0] if len(read) == 1 else torch.cat(read)
