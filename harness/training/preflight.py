"""Checks at the start of every trial, for what the libraries otherwise get wrong in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from harness.study.trial import TrialSpec
from harness.training.backends.inspection import Inspection, dtype_names
from harness.training.backends.protocol import Backend, WorkerContext
from optimizers import DeepSpeedMuonSpec, Muon, NamedOptimizer
from optimizers.plan import EVERYONE

WRAPPERS = {"ddp": "DistributedDataParallel", "fsdp2": "fully_shard"}
PRODUCTS = {"fp32": "float32", "bf16": "bfloat16"}


class PreflightError(RuntimeError):
    """A trial would have measured something else than its spec says."""


def check_gang(backend: Backend, spec: TrialSpec, context: WorkerContext) -> dict[str, Any]:
    """Every worker knows of all the others, through the library that the spec names.

    Raises:
        PreflightError: the backend sees a different number of workers than were started, or
            Accelerate opened another kind of gang.
    """
    counted = int(backend.sum_over_workers(torch.ones(1, device=backend.device)).item())
    if not backend.num_workers == counted == context.num_workers:
        raise PreflightError(
            f"{context.num_workers} workers were started, the backend believes in "
            f"{backend.num_workers}, and an all-reduce counted {counted}"
        )
    found = backend.describe()
    _require(
        "Accelerate's distributed type", found["distributed_type"], _distributed_type(spec, context)
    )
    return {**found, "workers_counted": counted}


def _distributed_type(spec: TrialSpec, context: WorkerContext) -> str:
    if spec.training.backend == "deepspeed":
        return "DEEPSPEED"
    if context.num_workers == 1:
        return "NO"
    return "MULTI_GPU" if context.gpus else "MULTI_CPU"


def check_groups(trainable: Sequence[str], optimizer: NamedOptimizer) -> None:
    """Every trainable parameter is in exactly one group.

    Raises:
        PreflightError: naming the parameters that are in none or in several.
    """
    times = Counter(name for group in optimizer.param_groups for name in group["parameter_names"])
    wrong = {name: times[name] for name in trainable if times[name] != 1}
    if wrong:
        raise PreflightError(f"parameters not in exactly one optimizer group: {wrong}")


def check_wrapping(found: Inspection, spec: TrialSpec, *, alone: bool) -> dict[str, Any]:
    """The library holds the model as the spec says, in fp32, and sends gradients in fp32.

    Both precisions keep fp32 weights and gradients; `bf16` rounds the factors of a product only.

    Raises:
        PreflightError: naming what differs.
    """
    training = spec.training
    with_zero = training.backend == "deepspeed"
    wrapper = "DeepSpeedEngine" if with_zero else WRAPPERS[training.backend]
    _require(
        f"what {training.backend} put around the model",
        found.wrapper,
        "none" if alone and not with_zero else wrapper,
    )
    _require("the ZeRO stage", found.zero_stage, training.zero_stage if with_zero else None)
    shards = training.zero_stage == 3 if with_zero else training.backend == "fsdp2" and not alone
    _require("whether a worker holds a part of the weights only", found.sharded, shards)
    _require("the dtypes of the weights", found.weights, ("float32",))
    _require("the dtypes of accumulated gradients", found.gradients, ("float32",))
    _require("the dtypes of gradients on their way", found.exchange, ("float32",))
    return asdict(found)


def _require(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise PreflightError(
            f"{what}: {found} is found where the spec asks for {expected}; the installed library "
            "does something else than this version of optbench expects of it"
        )


class FirstStep:
    """Watches the first step: what was computed in which dtype, and what moved.

    Args:
        backend: With its model prepared.
        model: The module as it was built, now inside what the backend put around it.
        optimizer: Bound.
    """

    def __init__(self, backend: Backend, model: nn.Module, optimizer: NamedOptimizer) -> None:
        self.backend, self.optimizer = backend, optimizer
        self.before = fingerprints(backend.forward_weights())
        self.counters = dict(optimizer.counters)
        self.products: set[torch.dtype] = set()
        self.gradients: set[torch.dtype] = set()
        # The model's own hooks run outside of its autocast, those of a part inside.
        part = next(model.children())
        self._hooks = [
            part.register_forward_pre_hook(self._see_products),
            optimizer.register_step_pre_hook(self._see_gradients),
        ]

    def _see_products(self, *_: Any) -> None:
        kind = self.backend.device.type
        autocast = torch.is_autocast_enabled(kind)
        self.products.add(torch.get_autocast_dtype(kind) if autocast else torch.float32)

    def _see_gradients(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            self.gradients.update(p.grad.dtype for p in group["params"] if p.grad is not None)

    def check(self, spec: TrialSpec) -> dict[str, Any]:
        """After the step. A collective call.

        Raises:
            PreflightError: naming what differs from the spec.
        """
        for hook in self._hooks:
            hook.remove()
        found: dict[str, Any] = {}
        # A gradient that is not finite moves nothing, and the loss will say why.
        if not self._increase("skipped_steps"):
            moved = moved_parameters(self.before, self.backend)
            found["moved"] = check_movement(moved, self.optimizer)
            found["newton_schulz_calls"] = self._check_newton_schulz()
        found["products"] = dtype_names(self.products)
        expected = (PRODUCTS[spec.training.precision],)
        _require("the dtype of matrix products", found["products"], expected)
        # DeepSpeed steps its own Muon, which is not this object.
        if not isinstance(spec.optimizer, DeepSpeedMuonSpec):
            gradients = dtype_names(self.gradients)
            _require("the dtypes of the optimizer's gradients", gradients, ("float32",))
        return found

    def _increase(self, counter: str) -> int:
        return self.optimizer.counters.get(counter, 0) - self.counters.get(counter, 0)

    def _check_newton_schulz(self) -> int | None:
        """Every matrix of the routes was orthogonalised once: by its owner, or by every worker."""
        if "newton_schulz_calls" not in self.optimizer.counters:
            return None
        counted = [float(self._increase("newton_schulz_calls")), own_share(self.optimizer)]
        here = torch.tensor(counted, dtype=torch.double, device=self.backend.device)
        total = self.backend.sum_over_workers(here)
        calls, expected = round(float(total[0])), round(float(total[1]))
        if calls != expected:
            raise PreflightError(
                f"{calls} matrices were orthogonalised in the first step, over all workers, where "
                f"the routes and the sharing of the work ask for {expected}"
            )
        return calls


def own_share(optimizer: NamedOptimizer) -> float:
    """The matrices that this worker has to orthogonalise in a step: all, or its share on average.

    Counted from the routes, so that a matrix that the plan forgot is missed.
    """
    matrices = sum(route.num_matrices for route in optimizer.routes if route.algorithm == "muon")
    if not isinstance(optimizer, Muon):
        return matrices  # no other optimizer shares its work
    sharing = {
        plan.workers
        for plan in optimizer.plans
        if any(share.owner != EVERYONE for share in plan.shares)
    }
    return matrices / max(sharing, default=1)


def fingerprints(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameter name -> the double-precision sum of squares of what this worker holds of it."""
    return {name: weight.double().square().sum() for name, weight in weights.items()}


def moved_parameters(before: Mapping[str, Tensor], backend: Backend) -> set[str]:
    """The parameters whose weights, as the forward pass reads them, changed on some worker."""
    after, names = fingerprints(backend.forward_weights()), list(before)
    moved_here = torch.stack([(after[name] != before[name]).double() for name in names])
    moved = backend.sum_over_workers(moved_here)
    return {name for name, times in zip(names, moved.tolist(), strict=True) if times}


def check_movement(moved: set[str], optimizer: NamedOptimizer) -> dict[str, float]:
    """After the first step every group has moved.

    Returns the share of the parameters that moved, by group. A group whose learning rate is zero
    may stand still, and every group of an optimizer that says that it moves nothing at first.

    Raises:
        PreflightError: naming the group whose weights are where they were.
    """
    shares = {}
    for group in optimizer.param_groups:
        members = group["parameter_names"]
        shares[group["name"]] = sum(name in moved for name in members) / len(members)
        if group["lr"] and optimizer.moves_at_first and not shares[group["name"]]:
            raise PreflightError(
                f"the optimizer group {group['name']!r} did not move the model in the first step "
                f"(learning rate {group['lr']:g}, {len(members)} parameters)"
            )
    return shares
