"""A peer: DeepSpeed's own Muon with its auxiliary AdamW, under our names and routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from optimizers.fragments import Fragment
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.peers.specs import DeepSpeedMuonSpec
from optimizers.routing import Route, default_rules, route_parameters


class DeepSpeedMuon(NamedOptimizer):
    """The names and counters of DeepSpeed's optimizer, which does all the work.

    DeepSpeed orthogonalises outside the optimizer's `step`, in its ZeRO code, for parameters marked
    by `use_muon` and only if the optimizer is of its own class. So `hand_over` makes one;
    both have the same groups, so that a learning rate set here is used there. Stacked experts
    `(E, m, n)` are E matrices to it.
    """

    def hand_over(self) -> torch.optim.Optimizer:
        """The object that DeepSpeed works with, made once, on the parameters as they are now."""
        # Imported late: it takes seconds, and reads the environment that the backend prepares.
        from deepspeed.runtime.zero.muon.muon_optimizer import MuonWithAuxAdam

        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.use_muon = group["use_muon"]
        inner: torch.optim.Optimizer = MuonWithAuxAdam(
            self.param_groups, adam_optimizer=torch.optim.AdamW
        )
        return inner

    def step(self, closure: Callable[[], Any] | None = None) -> NoReturn:
        raise ValueError("DeepSpeed's engine steps its own Muon: use the backend deepspeed")

    def count_step(self) -> None:
        """For the backend, after DeepSpeed took a step."""
        for name in self._updates:
            self._updates[name] += 1

    @property
    def counters(self) -> dict[str, int]:
        """`optimizer_steps` and `skipped_steps`; DeepSpeed does not count what it sends."""
        kept = ("optimizer_steps", "skipped_steps")
        return {name: count for name, count in super().counters.items() if name in kept}

    def state_dict(self, *, to: int | None = None) -> NoReturn:
        raise ValueError("the state of DeepSpeed's Muon is in DeepSpeed's own checkpoints only")

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> NoReturn:
        raise ValueError("the state of DeepSpeed's Muon is in DeepSpeed's own checkpoints only")

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> NoReturn:
        raise AssertionError("DeepSpeed updates the matrices")


def route(
    spec: DeepSpeedMuonSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]
) -> list[Route]:
    """The routes of `muon`."""
    return route_parameters(
        named_shapes,
        rules=spec.routes,
        defaults=default_rules(include_router=spec.include_router),
    )


def build(
    spec: DeepSpeedMuonSpec,
    named_parameters: Sequence[tuple[str, Tensor]],
    *,
    routes: Sequence[Route],
) -> DeepSpeedMuon:
    """DeepSpeed's Muon and torch's AdamW in one object."""
    auxiliary = {
        "use_muon": False,
        "lr": spec.auxiliary_lr,
        "betas": (spec.aux_beta1, spec.aux_beta2),
        "eps": spec.aux_epsilon,
    }
    fields = ("lr", "weight_decay", "momentum", "ns_method")
    options = {
        "muon": {"use_muon": True, **{field: getattr(spec, field) for field in fields}},
        "adamw_decay": {**auxiliary, "weight_decay": spec.aux_weight_decay},
        "adamw_no_decay": {**auxiliary, "weight_decay": 0.0},
    }
    return DeepSpeedMuon(named_parameters, routes=routes, options=options)
