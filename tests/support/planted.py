"""Optimizers with one fault each, for the check that must find it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import Parameter

from optimizers.elementwise.base import ElementwiseOptimizer, Tensors
from optimizers.fragments import Fragment
from optimizers.optimizer import Group


class Honest(ElementwiseOptimizer):
    """Momentum, `M <- b M + (1 - b) G`, `W <- W - lr M`: no fault."""

    state_names = ("momentum",)
    settings: Mapping[str, Any] = {"beta": 0.9, "weight_decay": 0.1}  # type: ignore[misc]

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        for i, (weight, gradient) in enumerate(
            zip(tensors.weights, tensors.gradients, strict=True)
        ):
            momentum = tensors.state["momentum"][i]
            momentum.lerp_(gradient, 1.0 - options["beta"])
            weight.mul_(1.0 - options["lr"] * options["weight_decay"])
            weight.add_(self.direction(momentum, tensors, i), alpha=-self.rate(options))

    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        return momentum

    def rate(self, options: Group) -> float:
        return float(options["lr"])


class Raises(Honest):
    def rate(self, options: Group) -> float:
        raise RuntimeError("no such kernel")


class ForgetsAGroup(Honest):
    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        if group["name"].endswith("_no_decay"):
            return
        super()._update_group(group, fragments)


class MeanOverAShard(Honest):
    """A cautious mask whose mean is taken over what is here."""

    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        if not momentum.numel():
            return momentum
        mask = (momentum * tensors.gradients[index] > 0).to(momentum.dtype)
        return momentum * mask / mask.mean().clamp(min=1e-3)


class RanksDrift(Honest):
    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        rank = dist.get_rank() if dist.is_initialized() else 0
        return momentum * (1.0 + 1e-6 * rank)


class OnceAMicroBatch(Honest):
    """Momentum fades in a hook of the backward pass."""

    def __init__(self, named_parameters: Sequence[tuple[str, Tensor]], **options: Any) -> None:
        super().__init__(named_parameters, **options)
        for name, parameter in named_parameters:
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: self._fade(name))

    def _fade(self, name: str) -> None:
        for piece in self._state.get(name, {}).get("momentum", {}).values():
            piece.mul_(0.8)


class CountsEverySecond(Honest):
    @property
    def updates(self) -> dict[str, int]:
        return {name: count // 2 for name, count in super().updates.items()}


class RefusesOnOneWorker(Honest):
    def _prepare(self) -> str:
        if self._rank == 1:
            raise ValueError("max() arg is an empty sequence")
        return super()._prepare()


class EndsOneWorker(Honest):
    def rate(self, options: Group) -> float:
        if dist.is_initialized() and dist.get_rank() == 1:
            os._exit(3)
        return super().rate(options)


class ClipsTheUpdate(Honest):
    @torch.no_grad()
    def clip_gradients(self, max_norm: float) -> Tensor:
        self._bound = max_norm
        return super().clip_gradients(0.0)

    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        return momentum * (self._bound / (momentum.norm() + 1e-6)).clamp(max=1.0)


class CountsByItself(Honest):
    """A warm-up whose step is not saved."""

    _seen = 0

    def rate(self, options: Group) -> float:
        self._seen += 1
        return float(options["lr"]) * min(1.0, self._seen / 16)


class StateOfAPlace(Honest):
    """State that another number of workers starts anew."""

    def state_dict(self, *, to: int | None = None) -> dict[str, Any]:
        return {**super().state_dict(to=to), "workers": self._workers}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["workers"] != self._workers:
            for pieces in self._state.values():
                for piece in pieces["momentum"].values():
                    piece.zero_()


class LoadsOtherValues(Honest):
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for pieces in self._state.values():
            for piece in pieces["momentum"].values():
                piece.mul_(1.001)


class LosesDtype(Honest):
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for pieces in self._state.values():
            for held, piece in pieces["momentum"].items():
                pieces["momentum"][held] = piece.bfloat16()

    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        return momentum.to(tensors.weights[index].dtype)

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        for momentum, gradient in zip(tensors.state["momentum"], tensors.gradients, strict=True):
            momentum.lerp_(gradient.to(momentum.dtype), 1.0 - options["beta"])
        for i, weight in enumerate(tensors.weights):
            weight.add_(
                self.direction(tensors.state["momentum"][i], tensors, i), alpha=-options["lr"]
            )


class SkipsMissing(Honest):
    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        super()._update_group(group, [f for f in fragments if f.gradient() is not None])


class WaitsForMissing(Honest):
    """Meets the others once for each gradient that it has."""

    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        if dist.is_initialized():
            for _ in [f for f in fragments if f.gradient() is not None]:
                dist.all_reduce(torch.zeros(1))
        super()._update_group(group, fragments)


class DividesByItsNorm(Honest):
    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        return momentum / momentum.norm()


class TakesInfinity(Honest):
    def _are_finite(self) -> bool:
        return True


class StepsInTheBackward(Honest):
    """The embedding is updated in a hook of the backward pass, and in the step again."""

    def __init__(self, named_parameters: Sequence[tuple[str, Tensor]], **options: Any) -> None:
        super().__init__(named_parameters, **options)
        for name, parameter in named_parameters:
            if "embedding" in name:
                parameter.register_post_accumulate_grad_hook(self._step_now)

    @torch.no_grad()
    def _step_now(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        parameter.sub_(parameter.grad, alpha=self.param_groups[0]["lr"])


class MovesUnused(Honest):
    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        return momentum if momentum.any() else torch.ones_like(momentum)


class MovesFrozen(Honest):
    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        super()._update_group(group, fragments)
        for thing in gc.get_objects():
            if type(thing) is Parameter and not thing.requires_grad:
                thing.mul_(0.99)


class IgnoresTheSchedule(Honest):
    def rate(self, options: Group) -> float:
        return float(options["initial_lr"])


class EvaluatesForGood(Honest):
    @contextmanager
    def evaluation_weights(self, publish: Callable[[], None]) -> Iterator[None]:
        for weight in self.held_weights().values():
            weight.mul_(0.999)
        publish()
        yield


class Noisy(Honest):
    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(int.from_bytes(os.urandom(4), "big"))
        return momentum * (1.0 + 1e-6 * torch.rand(1, generator=generator))


class ReadsValues(Honest):
    def direction(self, momentum: Tensor, tensors: Tensors, index: int) -> Tensor:
        return momentum * (1.0 if momentum.abs().sum().item() >= 0 else 0.0)


ALONE: dict[str, str] = {
    "starts": "Raises",
    "moves_every_group": "ForgetsAGroup",
    "accumulation": "OnceAMicroBatch",
    "clipping": "ClipsTheUpdate",
    "resume": "CountsByItself",
    "state_round_trip": "LoadsOtherValues",
    "state_dtypes": "LosesDtype",
    "missing_gradients": "SkipsMissing",
    "zero_gradients": "DividesByItsNorm",
    "nonfinite_gradients": "TakesInfinity",
    "tied_weights": "StepsInTheBackward",
    "unused_weights": "MovesUnused",
    "frozen_weights": "MovesFrozen",
    "learning_rate": "IgnoresTheSchedule",
    "evaluation": "EvaluatesForGood",
    "deterministic": "Noisy",
    "device_sync": "ReadsValues",
}
"""Check -> the class with the fault that it finds in one process."""

IN_GANGS: dict[str, tuple[str, str]] = {
    "one_process": ("MeanOverAShard", "fsdp2"),
    "ranks_agree": ("RanksDrift", "ddp"),
    "resume_elsewhere": ("StateOfAPlace", "fsdp2"),
}
"""Check -> the class, and a backend of two workers that shows its fault."""
