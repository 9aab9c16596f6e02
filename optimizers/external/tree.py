"""Whatever an optimizer keeps about a parameter, as bytes: tensors, numbers, and nests of them.

The bytes are a safetensors file with the shape of the nest as JSON in it; nothing is unpickled.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

NEST = "nest"


class Unsaveable(ValueError):
    """There is something in the state that is neither a tensor, a dtype nor a plain value."""


def to_bytes(value: Any) -> Tensor:
    """`(n,)` of uint8, on the CPU.

    Raises:
        Unsaveable: naming what cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_flatten(value, tensors)).encode()
    tensors[NEST] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    try:
        written = save(tensors)
    except Exception as error:
        raise Unsaveable(f"a tensor that safetensors refuses ({error})") from error
    return torch.frombuffer(bytearray(written), dtype=torch.uint8)


def from_bytes(data: Tensor, device: torch.device) -> Any:
    """What was written. What lay on the CPU comes back there, other tensors to the device."""
    tensors = load(data.cpu().numpy().tobytes())
    return _nested(json.loads(tensors.pop(NEST).numpy().tobytes()), tensors, device)


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().clone().contiguous()
        # Products of the same matrix, laid out otherwise, may differ in their last bit.
        strides = None if value.is_contiguous() or 0 in value.stride() else value.stride()
        return {"tensor": key, "on_cpu": value.device.type == "cpu", "strides": strides}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_flatten(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"table": [[_flatten(k, tensors), _flatten(v, tensors)] for k, v in value.items()]}
    raise Unsaveable(f"a {type(value).__name__}")


def _nested(value: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        found = tensors[value["tensor"]]
        if value["strides"] is not None:
            laid_out = torch.empty_strided(found.shape, value["strides"], dtype=found.dtype)
            found = laid_out.copy_(found)
        return found if value["on_cpu"] else found.to(device)
    if "table" in value:
        pairs = [[_nested(part, tensors, device) for part in pair] for pair in value["table"]]
        return dict(pairs)
    if "dtype" in value:
        return getattr(torch, value["dtype"])
    ((kind, items),) = value.items()
    nested = [_nested(item, tensors, device) for item in items]
    return nested if kind == "list" else tuple(nested)
