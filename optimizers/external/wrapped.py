"""A `torch.optim.Optimizer` of somebody else's, under our names, rules and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from optimizers.external.tree import from_bytes, to_bytes
from optimizers.fragments import Fragment
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.routing import Route

OURS = ("params", "lr")
"""Of its groups' entries these are set from outside; the others are its state."""


class Wrapped(NamedOptimizer):
    """The other optimizer computes; what is promised of every optimizer here is kept around it.

    A missing gradient is a zero one, a non-finite one skips its step on every worker, its groups
    follow the learning rates here, and its state is saved by parameter: tensors of any shape,
    counts, and nests of them. One with `train()` and `eval()`, as schedule-free ones have, is
    evaluated at what `eval()` gives, and trains on at the very bits that it had.

    It sees whole parameters and averaged gradients, as torch's own optimizers expect, and so needs
    all of them on every worker.

    Args:
        make: Groups with `params` -> the optimizer.
    """

    state_keys: Mapping[str, tuple[str, ...]] = {"external": ()}
    whole_keys = ("state",)

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        make: Callable[[list[Group]], torch.optim.Optimizer],
    ) -> None:
        super().__init__(named_parameters, routes=routes, options=options)
        self._parameters = dict(named_parameters)
        self._inner = make(
            [
                {"params": list(group["params"]), **options[group["name"]]}
                for group in self.param_groups
            ]
        )
        self._group_of_first = {
            group["parameter_names"][0]: index for index, group in enumerate(self.param_groups)
        }
        if self._has_modes:
            self._change_mode("train")

    @property
    def _has_modes(self) -> bool:
        return all(callable(getattr(self._inner, name, None)) for name in ("train", "eval"))

    def _change_mode(self, mode: str) -> None:
        getattr(self._inner, mode)()

    def _prepare(self) -> str:
        if not all(self._is_everywhere(name) for name in self._fragments):
            raise ValueError(
                f"{type(self._inner).__name__} needs whole parameters: use backend ddp"
            )
        return super()._prepare()

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        for parameter in group["params"]:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if group is not self.param_groups[-1]:
            return  # it steps all its groups at once
        for ours, theirs in zip(self.param_groups, self._inner.param_groups, strict=True):
            theirs["lr"] = ours["lr"]
        if any(self._updates[name] > 1 for name in group["parameter_names"]):
            self._inner.step()
            return
        before = self._fingerprint()
        self._inner.step()
        # So the preflight can tell a first step that rests from one that the model does not see.
        if self._fingerprint() == before:
            self.rests_at_first = frozenset({"external"})

    def _fingerprint(self) -> float:
        return float(sum(p.detach().double().abs().sum() for p in self._parameters.values()))

    @contextmanager
    def evaluation_weights(self, publish: Callable[[], None]) -> Iterator[None]:
        if not self._has_modes:
            yield
            return
        before = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._change_mode("eval")
        publish()
        yield
        self._change_mode("train")
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(before[name])
        publish()

    def _whole_state(self, name: str, key: str) -> Tensor:
        kept = {"of_parameter": self._inner.state.get(self._parameters[name], {})}
        if name in self._group_of_first:
            group = self._inner.param_groups[self._group_of_first[name]]
            kept["of_group"] = {k: value for k, value in group.items() if k not in OURS}
        return to_bytes(kept)

    def _load_whole_state(self, name: str, key: str, values: Tensor) -> None:
        kept = from_bytes(values, self._parameters[name].device)
        self._inner.state[self._parameters[name]] = kept["of_parameter"]
        if name in self._group_of_first:
            self._inner.param_groups[self._group_of_first[name]].update(kept["of_group"])
