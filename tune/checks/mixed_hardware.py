"""Whether the nodes of a cluster compute alike, and what a study's dtypes mean on each of them.

Knows nothing of Ray: values in, sentences out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from harness.study.code_version import code_sha256, code_version
from harness.study.study_file import Study


@dataclass(frozen=True, kw_only=True)
class NodeHardware:
    """What a node trains with: the device and its words for bf16, its best dtype, its code."""

    device: str
    words: tuple[str, ...]
    best: str
    code: str
    version: str

    @property
    def name(self) -> str:
        return f"{self.device} ({', '.join(self.words) or 'no words for bf16'})"


def hardware_here(device: str) -> NodeHardware:
    """Of the machine where this is called, for `cpu` or `cuda`."""
    from optimizers.hardware import best_dtype_name, device_name, hardware_words

    return NodeHardware(
        device=device_name(device),
        words=hardware_words(device),
        best=best_dtype_name(device)[0],
        code=code_sha256(),
        version=code_version(),
    )


def hardware_notices(study: Study, nodes: Mapping[str, NodeHardware]) -> Iterator[str]:
    """What a person should know before these nodes train; nothing where they are alike and fit.

    Args:
        study: with a dtype in the place of every `auto`.
        nodes: by the address of the node.
    """
    if len(machines := _grouped(nodes, lambda node: node.name)) > 1:
        listed = "; ".join(f"{name} on {_names(where)}" for name, where in machines.items())
        yield (
            f"the nodes of this cluster differ: {listed}. Losses stay comparable, because every "
            "trial is computed in the dtypes of the plan; times do not"
        )
    slow = [where for where, node in nodes.items() if node.best != "bf16"]
    for what in _in_bf16(study) if slow else ():
        yield f"{what} in bf16, as planned, and {_names(slow)} must emulate bf16 products: slow"


def _in_bf16(study: Study) -> Iterator[str]:
    if study.training.precision == "bf16":
        yield "training is computed"
    names = [v.name for v in study.variants if getattr(v.optimizer, "ns_dtype", None) == "bf16"]
    if names:
        yield f"Newton-Schulz ({', '.join(names)}) is computed"


def _grouped(
    nodes: Mapping[str, NodeHardware], key: Callable[[NodeHardware], str]
) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for where, node in nodes.items():
        groups.setdefault(key(node), []).append(where)
    return groups


def _names(where: list[str]) -> str:
    shown = ", ".join(where[:4])
    return shown if len(where) <= 4 else f"{shown} and {len(where) - 4} more"
