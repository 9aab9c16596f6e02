"""Schedule-free AdamW: it trains at one point and is judged at another, the average of a third."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from optimizers.elementwise.base import (
    ElementwiseOptimizer,
    Tensors,
    elementwise_options,
    route_elements,
)
from optimizers.elementwise.schedule_free_spec import ScheduleFreeSpec
from optimizers.optimizer import Group
from optimizers.routing import Route


@dataclass(frozen=True)
class Average:
    """What the weight of the next iterate in the average follows from.

    Args:
        lr_max: The largest learning rate so far.
        weight_sum: Of all iterates.
    """

    lr_max: float = 0.0
    weight_sum: float = 0.0


class ScheduleFree(ElementwiseOptimizer):
    """Trains at y, evaluates at x, and steps z with AdamW's direction; t counts from 1.

        lr_t <- lr min(1, t / warmup_steps)
        v <- b2 v + (1 - b2) G(y)^2,  D <- G(y) / (sqrt(v / (1 - b2^t)) + eps) + wd y
        z <- z - lr_t D
        w_t <- t^r max(lr_1 .. lr_t)^p,  c <- w_t / (w_1 + .. + w_t)
        x <- (1 - c) x + c z,  y <- (1 - b1) z + b1 x

    The weights are y and the state keeps z; x is neither stored nor needed in a step:
    `y <- (1 - c) y + c z + lr_t (b1 (1 - c) - 1) D`, with the z before its own step, is the same.

    Source: Defazio et al. 2024, arXiv 2405.15682, algorithm 1 and its section on AdamW. With betas
    between 0 and 1 the sums are the authors' `schedulefree.AdamWScheduleFree`, to the last bit,
    with its weight decay at y.
    Difference: where a study's learning-rate schedule falls, lr does.
    """

    state_names = ("z", "exp_avg_sq")
    whole_keys = ("average",)

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: dict[str, Group],
    ) -> None:
        super().__init__(named_parameters, routes=routes, options=options)
        # Of each parameter: DeepSpeed steps the parameters of one group by turns.
        self._averages = {name: Average() for name, _ in named_parameters}

    def _update_tensors(self, tensors: Tensors, options: Group) -> None:
        alike: dict[tuple[int, Average], list[int]] = {}
        for index, (name, update) in enumerate(zip(tensors.names, tensors.updates, strict=True)):
            alike.setdefault((update, self._averages[name]), []).append(index)
        for (update, average), members in alike.items():
            rate = options["lr"]
            if update <= options["warmup_steps"]:
                rate *= update / options["warmup_steps"]
            lr_max = max(rate, average.lr_max)
            weight = update ** options["r"] * lr_max ** options["weight_lr_power"]
            average = Average(lr_max, average.weight_sum + weight)
            share = weight / average.weight_sum if average.weight_sum else 0.0
            self._averages.update((tensors.names[i], average) for i in members)
            self._move(tensors, members, options, update=update, rate=rate, share=share)

    def _move(
        self,
        tensors: Tensors,
        members: Sequence[int],
        options: Group,
        *,
        update: int,
        rate: float,
        share: float,
    ) -> None:
        """One update of the parameters at these places, at this rate; z has `share` in x."""
        y, direction, z, square = (
            [tensors_of[i] for i in members]
            for tensors_of in (
                tensors.weights,
                tensors.gradients,
                tensors.state["z"],
                tensors.state["exp_avg_sq"],
            )
        )
        beta1, beta2 = options["beta1"], options["beta2"]
        if update == 1:
            torch._foreach_copy_(z, y)
        torch._foreach_mul_(square, beta2)
        torch._foreach_addcmul_(square, direction, direction, value=1.0 - beta2)
        scale = torch._foreach_div(square, 1.0 - beta2**update)
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, options["epsilon"])
        direction = list(torch._foreach_div(direction, scale))
        if options["weight_decay"]:
            torch._foreach_add_(direction, y, alpha=options["weight_decay"])
        torch._foreach_lerp_(y, z, share)
        torch._foreach_add_(y, direction, alpha=rate * (beta1 * (1.0 - share) - 1.0))
        torch._foreach_sub_(z, direction, alpha=rate)

    @contextmanager
    def evaluation_weights(self, publish: Callable[[], None]) -> Iterator[None]:
        """x in the place of y; afterwards y, bit by bit, because x cannot be turned back exactly.

        Costs a copy of what this worker holds of the weights, while it is open.
        """
        kept: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for group in self.param_groups:
                for name in group["parameter_names"]:
                    fragment = self._fragments[name]
                    if fragment.numel and self._updates[name]:
                        y, z = fragment.weight(), self._held_state(fragment, "z")
                        kept.append((y, y.clone()))
                        y.lerp_(z, 1.0 - 1.0 / group["beta1"])
        publish()
        yield  # after an error the trial is over: no collective call would find the other workers
        with torch.no_grad():
            for y, before in kept:
                y.copy_(before)
        publish()

    def _whole_state(self, name: str, key: str) -> Tensor:
        average = self._averages[name]
        return torch.tensor([average.lr_max, average.weight_sum], dtype=torch.float64)

    def _load_whole_state(self, name: str, key: str, values: Tensor) -> None:
        self._averages[name] = Average(*values.tolist())


def route(
    spec: ScheduleFreeSpec, named_shapes: Sequence[tuple[str, tuple[int, ...]]]
) -> list[Route]:
    return route_elements(spec.kind, named_shapes)


def build(
    spec: ScheduleFreeSpec,
    named_parameters: Sequence[tuple[str, Tensor]],
    *,
    routes: Sequence[Route],
) -> ScheduleFree:
    fields = ("beta1", "beta2", "epsilon", "warmup_steps", "r", "weight_lr_power")
    options = elementwise_options(
        spec.kind,
        lr=spec.lr,
        weight_decay=spec.weight_decay,
        **{field: getattr(spec, field) for field in fields},
    )
    return ScheduleFree(named_parameters, routes=routes, options=options)
