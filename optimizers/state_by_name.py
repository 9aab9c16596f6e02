"""Weights and state under the parameter's name, whatever part of them a worker holds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.fragments import Fragment
from optimizers.plan import Layout, Range
from optimizers.routing import Route
from optimizers.state import Label, NamedState, Piece, check_state, gather_pieces, share_writing


class StateByName:
    """The half of `NamedOptimizer` that keeps, saves and loads; the other half computes.

    State lies in pieces: ranges of the flattened state, those that this worker keeps. Most state
    has the parameter's shape, and its ranges are the parameter's. It can be
    gathered into logical tensors (`state_dict`), or saved by everyone who keeps it, without a word
    between the workers (`answered_pieces`).
    """

    state_keys: Mapping[str, tuple[str, ...]]
    """Algorithm -> the names of its state."""

    whole_keys: tuple[str, ...] = ()
    """Names of further state of each parameter, of a size of its own and alike on every worker."""

    param_groups: list[dict[str, Any]]
    counters: Any

    _route_of: dict[str, Route]
    _fragments: dict[str, Fragment]
    _layout: Layout
    _state: NamedState
    _updates: dict[str, int]
    _skips: dict[str, int]
    _counts: dict[str, int]
    _device: torch.device
    _process_group: dist.ProcessGroup | None
    _rank: int
    _workers: int

    def held_weights(self) -> dict[str, Tensor]:
        """Parameter name -> the elements of it that this worker updates, `(numel,)`, views."""
        return {name: fragment.weight() for name, fragment in self._fragments.items()}

    def counted_ranges(self) -> dict[str, Range]:
        """Parameter name -> the elements `[start, stop)` of it for which this worker answers.

        Those that it holds; what several hold is the first one's alone, and empty for the others.
        So a sum over all workers, also of groups that hold the same, counts every element once.
        """
        if self._is_another_group:
            return dict.fromkeys(self._layout, (0, 0))
        return {
            name: held[self._rank] if held.index(held[self._rank]) == self._rank else (0, 0)
            for name, held in self._layout.items()
        }

    def state_dict(self, *, to: int | None = None) -> dict[str, Any]:
        """State by parameter name, in its logical shape, and the groups' options.

        A collective call when state is sharded.

        Args:
            to: The only worker that gets the tensors; by default all of them.
        """
        state: dict[str, dict[str, Tensor]] = {}
        for name, route in self._route_of.items():
            if not self._updates[name]:
                continue
            entry = {
                key: self._gather(name, key, to=to) for key in self.state_keys[route.algorithm]
            }
            if to in (None, self._rank):
                entry.update({key: self._whole_state(name, key) for key in self.whole_keys})
                entry["step"] = torch.tensor(float(self._updates[name]))
                state[name] = entry
        groups = [
            {key: value for key, value in group.items() if key != "params"}
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups, "counters": self.counters}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load what `state_dict` gave, under any number of workers and any layout.

        Raises:
            ValueError: When names or shapes are not those of this model.
        """
        state = state_dict["state"]
        keys = {name: self.state_keys[route.algorithm] for name, route in self._route_of.items()}
        shapes = {
            name: {key: self._state_shape(name, key) for key in names}
            for name, names in keys.items()
        }
        check_state(state, keys=keys, shapes=shapes, whole_keys=self.whole_keys)
        self.load_pieces(
            lambda name, key, held: state[name][key].reshape(-1)[slice(*held or (None,))],
            updates={name: int(entry["step"]) for name, entry in state.items()},
            counters=state_dict.get("counters", {}),
        )
        saved = {group["name"]: group for group in state_dict["param_groups"]}
        for group in self.param_groups:
            group.update(
                {k: value for k, value in saved.get(group["name"], {}).items() if k != "params"}
            )

    def answered_pieces(self) -> list[Piece]:
        """What this worker has to save: over all workers every element of weights and state, once.

        Not a collective call: who answers for what follows from what all workers know. What several
        hold alike is given to one of them, so that each has about as many elements to write.
        """
        tensors: dict[Label, list[list[Range]]] = {
            (name, key): self._all_ranges(name, key)
            for name, route in self._route_of.items()
            for key in (self.state_keys[route.algorithm] if self._updates[name] else ())
        }
        whole: dict[Label, Tensor] = {
            (name, key): self._whole_state(name, key)
            for name in self._route_of
            for key in (self.whole_keys if self._updates[name] else ())
        }
        for label, values in whole.items():
            tensors[label] = [[(0, values.numel())]] * self._workers
        for name, held in self._layout.items():
            tensors[name, None] = [[one] if one[0] < one[1] else [] for one in held]
        if self._is_another_group:
            return []
        answers = share_writing(tensors, workers=self._workers)
        return [
            piece
            for (name, key), ranges in answers.items()
            for piece in self._held_pieces(name, key, ranges[self._rank], whole)
        ]

    def _held_pieces(
        self,
        name: str,
        key: str | None,
        ranges: Sequence[Range],
        whole: Mapping[Label, Tensor],
    ) -> Iterator[Piece]:
        """Views of ranges that are kept here, each within one piece of what is kept."""
        if not ranges:
            return
        if (name, key) in whole:
            values = whole[name, key]
            yield Piece(name, key, 0, values.numel(), values)
            return
        if key is None:
            ((start, stop),) = ranges
            yield Piece(name, key, start, stop, self._fragments[name].weight())
            return
        kept = sorted(self._pieces(name, key).items(), key=lambda item: item[0])
        starts = [begin for (begin, _), _ in kept]
        for start, stop in ranges:
            (begin, _), elements = kept[bisect_right(starts, start) - 1]
            yield Piece(name, key, start, stop, elements.narrow(0, start - begin, stop - start))

    @property
    def updates(self) -> dict[str, int]:
        """Parameter name -> how often it was updated."""
        return dict(self._updates)

    def load_pieces(
        self,
        read: Callable[[str, str, Range | None], Tensor],
        *,
        updates: Mapping[str, int],
        counters: Mapping[str, int],
    ) -> None:
        """Load the state of this worker, range by range.

        Args:
            read: Parameter name, key of the state and range of the flattened state (None: all
                there is) -> elements. Asked only for what is kept here, and not for parameters
                without an update.
            updates, counters: As the properties were.
        """
        for name, route in self._route_of.items():
            self._updates[name] = updates.get(name, 0)
            for key in self.state_keys[route.algorithm] if self._updates[name] else ():
                for held, piece in self._pieces(name, key).items():
                    if piece.numel():  # an empty one, as of a side left out, was not saved
                        piece.copy_(read(name, key, held))
            for key in self.whole_keys if self._updates[name] else ():
                self._load_whole_state(name, key, read(name, key, None))
        self._skips = dict.fromkeys(self._skips, int(counters.get("skipped_steps", 0)))
        self._counts.update({key: int(counters.get(key, 0)) for key in self._counts})

    def _gather(self, name: str, key: str, *, to: int | None) -> Tensor:
        return gather_pieces(
            self._pieces(name, key),
            ranges=self._all_ranges(name, key),
            shape=self._state_shape(name, key),
            dtype=self._state_dtype(name),
            device=self._device,
            rank=self._rank,
            group=self._process_group,
            to=to,
        )

    def _all_ranges(self, name: str, key: str) -> list[list[Range]]:
        return [self._state_ranges(name, key, worker) for worker in range(self._workers)]

    # What subclasses may keep elsewhere.

    def _state_shape(self, name: str, key: str) -> tuple[int, ...]:
        """The logical shape of one state, by default that of the parameter."""
        return self._route_of[name].shape

    def _state_ranges(self, name: str, key: str, worker: int) -> list[Range]:
        """The ranges of the flattened state that a worker keeps."""
        held = self._layout[name][worker]
        return [held] if held[0] < held[1] else []

    def _whole_state(self, name: str, key: str) -> Tensor:
        """A copy of one of `whole_keys`, flat, of any size and dtype."""
        raise AssertionError(f"{type(self).__name__} has no state {key!r}")

    def _load_whole_state(self, name: str, key: str, values: Tensor) -> None:
        """What `_whole_state` gave, on the CPU or on the device."""
        raise AssertionError(f"{type(self).__name__} has no state {key!r}")

    def _state_dtype(self, name: str) -> torch.dtype:
        return self._fragments[name].weight().dtype

    def _pieces(self, name: str, key: str) -> Mapping[Range, Tensor]:
        """What this worker keeps of one state, by range of the flattened state; zero at first.

        Each piece is flat, and a view where an optimizer stacks its state.
        """
        for held in self._state_ranges(name, key, self._rank):
            self._piece_state(name, key, held)
        return self._state.get(name, {}).get(key, {})

    def _piece_state(self, name: str, key: str, held: Range) -> Tensor:
        """The state of a range of a flattened parameter, zero at first: `(stop - start,)`."""
        pieces = self._state.setdefault(name, {}).setdefault(key, {})
        if held not in pieces:
            pieces[held] = torch.zeros(
                held[1] - held[0], dtype=self._state_dtype(name), device=self._device
            )
        return pieces[held]

    @property
    def _is_another_group(self) -> bool:
        """Whether other workers, before these, hold all that these hold."""
        group = self._process_group
        return group is not None and dist.get_global_rank(group, 0) != 0
