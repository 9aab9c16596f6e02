"""The optimizer object: named parameters, groups, and updates on whatever part of them is here.

A worker holds a contiguous range of the flattened elements of every parameter: all of it, some
rows, a flat slice, or nothing. That range is a `Fragment`. Everything elementwise (AdamW, momentum,
weight decay) works on fragments as they are; state is kept and saved under the parameter's name.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from optimizers.routing import Route

Group = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Fragment:
    """Elements `[start, stop)` of the flattened parameter `name`, as they lie on this worker.

    Args:
        name: The parameter.
        start, stop: The range, in elements of the flattened logical parameter.
        storage: The tensor in the optimizer's parameter group; its gradient is `storage.grad`.
        offset: Where the range begins in the flattened storage.
    """

    name: str
    start: int
    stop: int
    storage: Tensor
    offset: int = 0

    @property
    def numel(self) -> int:
        return self.stop - self.start

    def weight(self) -> Tensor:
        """`(numel,)`, a view."""
        return self._view(self.storage.detach())

    def gradient(self) -> Tensor | None:
        """`(numel,)`, a view, or None when no gradient arrived."""
        return None if self.storage.grad is None else self._view(self.storage.grad.detach())

    def _view(self, tensor: Tensor) -> Tensor:
        flat = local_tensor(tensor).view(-1)
        return flat.narrow(0, self.offset, self.numel)


def local_tensor(tensor: Tensor) -> Tensor:
    """The part of a (possibly distributed) tensor that is on this worker."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()


class NamedOptimizer(torch.optim.Optimizer):
    """One optimizer object whose groups, state and reports speak of parameters by name.

    A gradient that is `None` counts as zero, so that all workers take the same step whatever tokens
    they saw. When any gradient is not finite, the whole step is skipped: weights and state stay
    untouched and `counters["skipped_steps"]` rises.

    Every group has `name`, `algorithm`, `lr`, `initial_lr` and `parameter_names`.

    Args:
        named_parameters: `(name, parameter)`, in the order of the model.
        routes: One for each parameter.
        options: Group name -> the group's options, with `lr`.
    """

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
    ) -> None:
        self.routes = tuple(routes)
        self.counters: dict[str, int] = {
            "optimizer_steps": 0,
            "skipped_steps": 0,
            "newton_schulz_steps": 0,
            "newton_schulz_calls": 0,
            "bytes_sent": 0,
            "bytes_floor": 0,
        }
        by_name = dict(named_parameters)
        groups = []
        for group in dict.fromkeys(route.group for route in routes):
            members = [route for route in routes if route.group == group]
            groups.append(
                {
                    "params": [by_name[route.name] for route in members],
                    "name": group,
                    "algorithm": members[0].algorithm,
                    "parameter_names": [route.name for route in members],
                    "initial_lr": options[group]["lr"],
                    **options[group],
                }
            )
        super().__init__(groups, {})
        self._fragments = {
            name: Fragment(name, 0, parameter.numel(), parameter)
            for name, parameter in named_parameters
        }
        self._state: dict[str, dict[str, Tensor]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every group; see the class for zero, missing and non-finite gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [(group, self._present(group)) for group in self.param_groups]
        gradients = {
            fragment.name: fragment.gradient() for _, present in work for fragment in present
        }
        if not _all_finite(gradient for gradient in gradients.values() if gradient is not None):
            self.counters["skipped_steps"] += 1
            return loss
        for group, fragments in work:
            if group["algorithm"] == "adamw":
                self._update_elements(group, fragments, gradients)
            else:
                self._update_matrices(group, fragments, gradients)
        self.counters["optimizer_steps"] += 1
        return loss

    def _present(self, group: Group) -> list[Fragment]:
        """The fragments of a group that are here and not empty."""
        fragments = [self._fragments[name] for name in group["parameter_names"]]
        return [fragment for fragment in fragments if fragment.numel]

    def _update_elements(
        self,
        group: Group,
        fragments: Sequence[Fragment],
        gradients: Mapping[str, Tensor | None],
    ) -> None:
        """AdamW by torch's own functional form, on fragments."""
        weights = [fragment.weight() for fragment in fragments]
        states = [
            self._adamw_state(fragment, weight)
            for fragment, weight in zip(fragments, weights, strict=True)
        ]
        if not weights:
            return
        adamw(
            weights,
            [
                _or_zero(gradients[fragment.name], like=weight)
                for fragment, weight in zip(fragments, weights, strict=True)
            ],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=group["beta1"],
            beta2=group["beta2"],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["epsilon"],
        )

    def _adamw_state(self, fragment: Fragment, weight: Tensor) -> dict[str, Tensor]:
        if fragment.name not in self._state:
            self._state[fragment.name] = {
                "step": torch.zeros((), dtype=torch.float32, device=weight.device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }
        return self._state[fragment.name]

    @abstractmethod
    def _update_matrices(
        self,
        group: Group,
        fragments: Sequence[Fragment],
        gradients: Mapping[str, Tensor | None],
    ) -> None:
        """Update the fragments of a group whose algorithm is not AdamW."""

    def state_dict(self) -> dict[str, Any]:
        """State by parameter name, in the parameter's logical shape, and the groups' options."""
        shapes = {route.name: route.shape for route in self.routes}
        state = {
            name: {
                key: value.detach().clone().view(shapes[name] if value.ndim else ())
                for key, value in entry.items()
            }
            for name, entry in self._state.items()
        }
        groups = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups, "counters": dict(self.counters)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` gave.

        Raises:
            ValueError: When names or shapes are not those of this model.
        """
        shapes = {route.name: route.shape for route in self.routes}
        for name, entry in state_dict["state"].items():
            if name not in shapes:
                raise ValueError(
                    f"the optimizer state names {name}, which this model does not have"
                )
            for key, value in entry.items():
                if value.ndim and tuple(value.shape) != shapes[name]:
                    raise ValueError(
                        f"the state {key} of {name} has shape {tuple(value.shape)}, the parameter "
                        f"{shapes[name]}: load a checkpoint of the same model"
                    )
        self._state = {
            name: {
                key: value.detach()
                .clone()
                .to(self._fragments[name].storage.device)
                .view(-1 if value.ndim else ())
                for key, value in entry.items()
            }
            for name, entry in state_dict["state"].items()
        }
        saved = {group["name"]: group for group in state_dict["param_groups"]}
        for group in self.param_groups:
            group.update(
                {
                    key: value
                    for key, value in saved.get(group["name"], {}).items()
                    if key != "params"
                }
            )
        self.counters.update(state_dict.get("counters", {}))


def _all_finite(gradients: Iterable[Tensor]) -> bool:
    """One pass and one synchronisation: the largest magnitude is finite where all elements are."""
    present = [gradient for gradient in gradients if gradient.numel()]
    if not present:
        return True
    largest = torch._foreach_norm(present, ord=float("inf"))
    return bool(torch.isfinite(torch.stack([value.float() for value in largest])).all())


def _or_zero(gradient: Tensor | None, *, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient
