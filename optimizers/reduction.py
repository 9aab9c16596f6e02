"""The first phase of a step of matrices: local gradients to their owners, bucket by bucket.

Every worker starts the buckets in the same order, or their collectives would not meet. A bucket
may start while the backward pass goes on, once the gradients of all its parameters are there.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from optimizers.buckets import Bucket

# Buckets under way: enough to keep a link busy, few enough to be in memory at once.
_UNDER_WAY = 2


class Reduction:
    """Starts the buckets of an optimizer in their order, and waits for them.

    Args:
        buckets: In the order in which their gradients arrive.
        parameters: The tensors whose gradients are awaited, by name.
    """

    def __init__(self, buckets: Sequence[Bucket], parameters: Mapping[str, Tensor]) -> None:
        self._buckets = list(buckets)
        self._awaited: list[set[str]] | None = None
        self._started = 0
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(self._arrival(name))  # type: ignore[no-untyped-call]
            for name, parameter in parameters.items()
        ]

    def during_backward(self) -> None:
        """From the coming backward pass on, each bucket starts when its gradients have arrived."""
        self._awaited = [set(bucket.parameters) for bucket in self._buckets]

    def finish(self) -> None:
        """Start what has not started, wait for all."""
        self._awaited = None
        while self._started < len(self._buckets):
            self._start_next()
        for bucket in self._buckets:
            bucket.finish_reduce()
        self._started = 0

    def close(self) -> None:
        """Take the hooks from the parameters."""
        for hook in self._hooks:
            hook.remove()

    def _arrival(self, name: str) -> Callable[[Tensor], None]:
        # Weakly: autograd keeps the hook where the garbage collector does not look, and with it
        # would be kept the buckets, the parameters and the process group, trial after trial.
        me = weakref.ref(self)

        def hook(_: Tensor) -> None:
            if (reduction := me()) is not None:
                reduction._arrived(name)

        return hook

    def _arrived(self, name: str) -> None:
        if self._awaited is None:
            return
        for awaited in self._awaited:
            awaited.discard(name)
        while self._started < len(self._buckets) and not self._awaited[self._started]:
            self._start_next()

    def _start_next(self) -> None:
        if self._started >= _UNDER_WAY:
            self._buckets[self._started - _UNDER_WAY].finish_reduce()
        self._buckets[self._started].start_reduce()
        self._started += 1
