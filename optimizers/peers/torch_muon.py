"""A peer: `torch.optim.Muon` on the matrices, AdamW on the rest, in one object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim._muon import muon

from optimizers.adamw import adamw_options
from optimizers.fragments import Fragment
from optimizers.optimizer import Group, NamedOptimizer
from optimizers.peers.specs import TorchMuonSpec
from optimizers.routing import Route, default_rules, route_parameters

# torch.optim.Muon's names of the same two scales.
_ADJUST_LR = {"original": "original", "match_rms": "match_rms_adamw"}


class TorchMuon(NamedOptimizer):
    """The functional form of `torch.optim.Muon`; expert tensors are passed as their matrices."""

    state_keys: Mapping[str, tuple[str, ...]] = {
        **NamedOptimizer.state_keys,
        "muon": ("momentum",),
    }

    def _prepare(self) -> str:
        if not all(self._is_everywhere(name) for name in self._fragments):
            raise ValueError(
                "torch.optim.Muon needs whole matrices on every worker: use backend ddp, or the "
                "optimizer kind muon"
            )
        return super()._prepare()

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        weights: list[Tensor] = []
        raw: list[Tensor] = []
        momenta: list[Tensor] = []
        for fragment in fragments:
            route = self._route_of[fragment.name]
            weight, gradient = fragment.weight(), fragment.gradient()
            held = (0, fragment.numel)
            momentum = self._piece_state(fragment.name, "momentum", held)
            gradient = torch.zeros_like(weight) if gradient is None else gradient
            *_, rows, columns = route.shape
            for parts, flat in ((weights, weight), (raw, gradient), (momenta, momentum)):
                batch = flat.view(-1, rows, columns)
                swapped = route.matrices[0].input_first
                parts.extend((batch.mT if swapped else batch).unbind())
        muon(
            weights,
            raw,
            momenta,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            ns_coefficients=(3.4445, -4.7750, 2.0315),  # the defaults of torch.optim.Muon
            ns_steps=group["num_steps"],
            eps=1e-7,
            adjust_lr_fn=_ADJUST_LR[group["scale"]],
            has_complex=False,
        )
        self._counts["newton_schulz_calls"] += len(weights)


def route(spec: TorchMuonSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]) -> list[Route]:
    """The routes of `muon`."""
    return route_parameters(
        named_shapes,
        rules=spec.routes,
        defaults=default_rules(include_router=spec.include_router),
        input_first=spec.input_first,
    )


def build(
    spec: TorchMuonSpec, named_parameters: Sequence[tuple[str, Tensor]], *, routes: Sequence[Route]
) -> TorchMuon:
    """`torch.optim.Muon` and AdamW in one object."""
    options = adamw_options(
        lr=spec.auxiliary_lr,
        weight_decay=spec.aux_weight_decay,
        beta1=spec.aux_beta1,
        beta2=spec.aux_beta2,
        epsilon=spec.aux_epsilon,
    )
    fields = ("lr", "weight_decay", "momentum", "nesterov", "num_steps", "scale")
    options["muon"] = {field: getattr(spec, field) for field in fields}
    return TorchMuon(named_parameters, routes=routes, options=options)
