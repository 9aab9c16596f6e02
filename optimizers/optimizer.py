"""The optimizer object: named parameters, groups, and updates on whatever part of them is here.

Everything elementwise (AdamW, momentum, weight decay) works on fragments as they are. How state is
kept and saved under the parameter's name stands in `state_by_name`.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.fragments import Fragment, agree_on_layout, own_fragment, require_agreement
from optimizers.routing import Route
from optimizers.state_by_name import StateByName
from optimizers.tensor_lists import adamw_update, not_finite, sum_of_squares

Group = dict[str, Any]
Gradients = Literal["averaged", "local"]

COUNTED = ("newton_schulz_calls", "bytes_sent", "bytes_between_nodes", "bytes_floor")
"""What the optimizers of matrices count; see `NamedOptimizer.counters`."""


class NamedOptimizer(StateByName, torch.optim.Optimizer):
    """One optimizer object whose groups, state and reports speak of parameters by name.

    A gradient that is `None` counts as zero, so that all workers take the same step whatever tokens
    they saw. When any gradient of any worker is not finite, the whole step is skipped on every
    worker: weights and state stay untouched and `counters["skipped_steps"]` rises.

    Every group has `name`, `algorithm`, `lr`, `initial_lr` and `parameter_names`.

    Args:
        named_parameters: `(name, parameter)`, in the order of the model.
        routes: One for each parameter.
        options: Group name -> the group's options, with `lr`.
    """

    state_keys: Mapping[str, tuple[str, ...]] = {"adamw": ("exp_avg", "exp_avg_sq")}

    orthogonalizes: Set[str] = frozenset({"muon"})
    """The algorithms whose matrices go through Newton-Schulz."""

    rests_at_first: Set[str] = frozenset()
    """The algorithms whose first update only measures, and moves nothing."""

    # torch keeps its compiler out of these by a wrapper that imports the compiler, for a second.
    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
    ) -> None:
        self.routes = tuple(routes)
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
        self._route_of = {route.name: route for route in self.routes}
        self._fragments = {name: own_fragment(name, p) for name, p in named_parameters}
        self._device = self._fragments[named_parameters[0][0]].weight().device
        self._state = {}
        self._updates = dict.fromkeys(self._fragments, 0)
        self._skips = dict.fromkeys(self._fragments, 0)
        self._counts = dict.fromkeys(COUNTED, 0)
        self._process_group: dist.ProcessGroup | None = None
        self._rank, self._workers = 0, 1
        self._gradients: Gradients = "averaged"
        self._verdict: Callable[[], bool] | None = None
        self._is_flat = False
        self._layout = {name: ((f.start, f.stop),) for name, f in self._fragments.items()}

    def bind(
        self,
        fragments: Sequence[Fragment] | None = None,
        *,
        process_group: dist.ProcessGroup | None = None,
        gradients: Gradients = "averaged",
        gradients_are_finite: Callable[[], bool] | None = None,
    ) -> None:
        """Tell the optimizer which workers there are and what this one holds. A collective call.

        Needed once, before the first step, whenever a worker holds only parts of the parameters, or
        the workers are to share Newton-Schulz work.

        Args:
            fragments: One for every parameter, empty ones included; by default the parameters
                themselves, whole or (as distributed tensors) by rows.
            process_group: The workers; by default all of them.
            gradients: What stands in `.grad` of a matrix that every worker holds whole: the
                `averaged` gradient, or this worker's `local` one, which the optimizer then reduces
                to the matrix's owner instead of an all-reduce.
            gradients_are_finite: Asked once a call of `step`, when the backend knows already; it
                must answer the same on every worker. By default the optimizer looks for itself.

        Raises:
            ValueError: When fragments are missing, overlap or leave gaps, or when the workers
                disagree about the model, the specification or the layout.
        """
        if any(self._updates.values()):
            raise ValueError("bind the optimizer before its first step and before loading a state")
        chosen = {f.name: f for f in fragments} if fragments is not None else self._fragments
        if set(chosen) != set(self._fragments):
            odd = sorted(set(chosen) ^ set(self._fragments))
            raise ValueError(f"fragments must name every parameter once; check {', '.join(odd)}")
        self._fragments = {name: chosen[name] for name in self._fragments}
        self._device = self._fragments[next(iter(self._fragments))].weight().device
        self._process_group, self._gradients = process_group, gradients
        self._is_flat = fragments is not None
        self._verdict = gradients_are_finite
        if dist.is_available() and dist.is_initialized():
            self._rank = dist.get_rank(process_group)
            self._workers = dist.get_world_size(process_group)
        ordered = list(self._fragments.values())
        self._agree(repr([(r.name, r.shape, r.matrices) for r in self.routes]))
        self._layout = agree_on_layout(ordered, group=process_group, workers=self._workers)
        self._agree(self._prepare())

    def _agree(self, content: str) -> None:
        require_agreement(
            content,
            rank=self._rank,
            workers=self._workers,
            group=self._process_group,
            device=self._device,
        )

    def _prepare(self) -> str:
        """Plan the work for the bound layout; returns what all workers must agree on."""
        return repr(sorted(self._layout.items()))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every group; see the class for zero, missing and non-finite gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [(group, self._active(group)) for group in self.param_groups]
        self._reduce_gradients()
        is_finite = self._are_finite() if self._verdict is None else self._verdict()
        tally = self._updates if is_finite else self._skips
        for group, fragments in work:
            for fragment in fragments:
                tally[fragment.name] += 1
            if not is_finite or not fragments:
                continue
            if group["algorithm"] == "adamw":
                self._update_elements(group, fragments)
            else:
                self._update_group(group, fragments)
        self._forget_gradients()
        return loss

    @torch.no_grad()
    def clip_gradients(self, max_norm: float) -> Tensor:
        """Scale all raw gradients so that their global L2 norm is at most `max_norm`.

        A collective call when gradients are sharded or local; the same formula as
        `torch.nn.utils.clip_grad_norm_`.

        Args:
            max_norm: The bound; 0 or infinity only measures.

        Returns:
            The norm before clipping, a scalar tensor, equal on all workers.
        """
        self._reduce_gradients()
        everywhere, here = self._gradient_tensors()
        square = sum_of_squares(here, device=self._device)
        if self._has_parts:
            dist.all_reduce(square, group=self._process_group)
        norm = (square + sum_of_squares(everywhere, device=self._device)).sqrt()
        if 0.0 < max_norm < float("inf"):
            factor = (max_norm / (norm + 1e-6)).clamp(max=1.0)  # as in clip_grad_norm_
            for gradient in (*everywhere, *here):
                gradient.mul_(factor.to(gradient.dtype))
        return norm

    @contextmanager
    def evaluation_weights(self, publish: Callable[[], None]) -> Iterator[None]:
        """While it is open the weights are those to evaluate; afterwards those to train, unchanged.

        Here they are the same. An optimizer for which they differ writes the former into its
        fragments and calls `publish`, then puts back the latter bit by bit and calls it again: how
        often one evaluates changes no training. A collective call.

        Args:
            publish: Makes the model read what the fragments hold; see the backend's
                `publish_weights`.
        """
        yield

    def count_skipped_step(self) -> None:
        """For a backend that found a non-finite gradient itself and does not call `step`."""
        for name in self._skips:
            self._skips[name] += 1

    @property
    def skipped_steps(self) -> int:
        """The counter of that name."""
        return min(self._skips.values())

    @property
    def counters(self) -> dict[str, int]:
        """Counts since the start, loaded ones included.

        `optimizer_steps` and `skipped_steps`; `newton_schulz_steps`, the optimizer steps in which
        Newton-Schulz ran; `newton_schulz_calls`, the matrices orthogonalised on this worker;
        `bytes_sent` by this worker for shared matrices, `bytes_between_nodes` those of them that
        left its node, and `bytes_floor`, the least possible on average over the workers.
        """
        matrices = [n for n, r in self._route_of.items() if r.algorithm in self.orthogonalizes]
        return {
            "optimizer_steps": min(self._updates.values()),
            "skipped_steps": self.skipped_steps,
            "newton_schulz_steps": min((self._updates[name] for name in matrices), default=0),
            **self._counts,
        }

    # What subclasses add.

    @abstractmethod
    def _update_group(self, group: Group, fragments: Sequence[Fragment]) -> None:
        """Update the fragments of a group whose algorithm is not AdamW."""

    def _reduce_gradients(self) -> None:
        """Average local gradients, where the optimizer does that; only once a step."""

    def _forget_gradients(self) -> None:
        """Drop what `_reduce_gradients` made."""

    def _gradient_tensors(self) -> tuple[list[Tensor], list[Tensor]]:
        """Gradients that every worker has in full, and those of which this worker has a part."""
        everywhere: list[Tensor] = []
        here: list[Tensor] = []
        for group in self.param_groups:
            for fragment in self._active(group):
                gradient = fragment.gradient()
                if gradient is not None and gradient.numel():
                    whole = self._is_everywhere(fragment.name)
                    (everywhere if whole else here).append(gradient)
        return everywhere, here

    # What subclasses use.

    @property
    def _has_parts(self) -> bool:
        """Whether a worker sees gradients that the others do not."""
        return self._workers > 1 and (
            self._gradients == "local"
            or not all(self._is_everywhere(name) for name in self._fragments)
        )

    def _is_everywhere(self, name: str) -> bool:
        return len(set(self._layout[name])) == 1

    def _totals(self, fragments: Sequence[Fragment], partial: Tensor) -> Tensor:
        """Sums over whole parameters, from sums over what is here. A collective call if sharded.

        Args:
            fragments: F of them, the same parameters on all workers, empty ones included.
            partial: `(F,)`, for each fragment a sum over the elements that this worker holds.

        Returns:
            `(F,)`, equal on all workers.
        """
        in_parts = [not self._is_everywhere(fragment.name) for fragment in fragments]
        if self._workers == 1 or not any(in_parts):
            return partial
        # A GPU is not waited for.
        mask = torch.tensor(in_parts).to(partial.device, non_blocking=True)
        summed = partial * mask
        dist.all_reduce(summed, group=self._process_group)
        return torch.where(mask, summed, partial)

    def _active(self, group: Group) -> list[Fragment]:
        """The group's fragments whose storage the backend is stepping now, empty ones included."""
        stepping = {id(parameter) for parameter in group["params"]}
        fragments = [self._fragments[name] for name in group["parameter_names"]]
        active = [fragment for fragment in fragments if id(fragment.storage) in stepping]
        if len({id(fragment.storage) for fragment in active}) != len(stepping):
            raise ValueError(
                f"group {group['name']} holds tensors that are no parameter's storage: the backend "
                "replaced them, so call bind() with the fragments after it did"
            )
        return active

    def _update_elements(self, group: Group, fragments: Sequence[Fragment]) -> None:
        """AdamW by torch's own functional form, on fragments."""
        fragments = [fragment for fragment in fragments if fragment.numel]
        if not fragments:
            return
        adamw_update(
            [fragment.weight() for fragment in fragments],
            [fragment.gradient() for fragment in fragments],
            [self._piece_state(f.name, "exp_avg", (f.start, f.stop)) for f in fragments],
            [self._piece_state(f.name, "exp_avg_sq", (f.start, f.stop)) for f in fragments],
            updates=[self._updates[fragment.name] for fragment in fragments],
            options=group,
        )

    def _are_finite(self) -> bool:
        everywhere, here = self._gradient_tensors()
        bad = not_finite([*everywhere, *here], device=self._device)
        if self._has_parts:
            dist.all_reduce(bad, op=dist.ReduceOp.MAX, group=self._process_group)
        return not bool(bad)
