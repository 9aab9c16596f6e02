"""Optimizers whose owners orthogonalise: the momentum travels, Newton-Schulz answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor

from optimizers.buckets import Bucket
from optimizers.matrices.base import MatrixOptimizer, SharedSpec
from optimizers.newton_schulz import Computation, orthogonalize
from optimizers.optimizer import Group
from optimizers.routing import Route
from optimizers.sharing import (
    MatrixWork,
    NewtonSchulzSettings,
    choose_computations,
    newton_schulz_works,
    travel_dtype,
)


class OrthogonalizingSpec(SharedSpec, NewtonSchulzSettings, Protocol):
    """What the specification of such an optimizer has."""


class OrthogonalizingOptimizer(MatrixOptimizer):
    """Momentum beside the gradient, Newton-Schulz at the owner.

    Momentum is kept in float32. It is rounded to the dtype of Newton-Schulz when it leaves the
    worker that keeps it, or would leave it: so the arithmetic is the same whoever holds what.
    """

    kept_state = ("momentum",)

    def __init__(
        self,
        named_parameters: Sequence[tuple[str, Tensor]],
        *,
        routes: Sequence[Route],
        options: Mapping[str, Group],
        algorithm: str,
        settings: OrthogonalizingSpec,
    ) -> None:
        self._settings = settings
        self.computations: dict[tuple[int, int], Computation] = {}
        self.orthogonalizes = frozenset({algorithm})
        super().__init__(
            named_parameters, routes=routes, options=options, algorithm=algorithm, spec=settings
        )

    def _works(self) -> Mapping[tuple[int, int], MatrixWork]:
        self.computations = choose_computations(self._settings, self.routes, device=self._device)
        return newton_schulz_works(self.computations)

    @property
    def _choices(self) -> str:
        return repr([(c.form, c.restarts, str(c.dtype)) for c in self.computations.values()])

    def _travelling(self, bucket: Bucket, update: Tensor) -> Tensor:
        """The update as it leaves for the owner, whoever that is."""
        return update.to(travel_dtype(self.computations[bucket.shape].dtype))

    def _compute(self, bucket: Bucket, batch: Tensor, group: Group) -> Tensor:
        """`(k, m, n)` at their owner -> the same, orthogonalised."""
        self._counts["newton_schulz_calls"] += len(batch)
        computation = self.computations[bucket.shape]
        return orthogonalize(
            batch,
            self._settings.schedule,
            self._settings.num_steps,
            dtype=computation.dtype,
            form=computation.form,
            batch_invariant=self._settings.batch_invariant,
        )


def advance_momentum(
    momentum: Tensor, gradient: Tensor, *, decay: float, heavy_ball: bool, nesterov: bool
) -> Tensor:
    """One step of the momentum, in place, and the update to orthogonalise.

    `M <- mu M + (1 - mu) G` (heavy ball: `mu M + G`), then `U = mu M + (1 - mu) G` with Nesterov
    (heavy ball: `mu M + G`), else `U = M`.

    Args:
        momentum: M, of any shape, float32.
        gradient: G, of the same shape; it becomes U with Nesterov.
        decay: mu.

    Returns:
        U: the tensor that was the gradient, or the momentum itself.
    """
    if heavy_ball:
        momentum.mul_(decay).add_(gradient)
        return gradient.add_(momentum, alpha=decay) if nesterov else momentum
    momentum.lerp_(gradient, 1.0 - decay)
    return gradient.lerp_(momentum, decay) if nesterov else momentum
