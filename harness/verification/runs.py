"""The checks themselves. All workers of a gang run each together; what rank 0 returns counts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harness.training.blocks import measure_attention
from harness.verification.bench import (
    CLIP_NORM,
    FROZEN,
    SPARE,
    STEPS,
    Bench,
    Weights,
)
from harness.verification.catalogue import SYNC_LIMIT
from harness.verification.measures import (
    different_bits,
    different_entries,
    not_finite,
    state_tensors,
    travelled_difference,
)

RELATIVE = 1e-3
"""Sums in another order stay far below it (1e-5 at most was measured with ours); what is wrong is
of the order of one."""

FLOORS = 10
"""How many times the difference of one process from itself, its batch cut otherwise."""


@dataclass(frozen=True)
class Finding:
    """What a check measured: it passes at `figure <= limit`."""

    figure: float
    limit: float = 0.0
    detail: str = ""

    @property
    def passes(self) -> bool:
        """NaN does not."""
        return self.figure <= self.limit


def tolerance(bench: Bench) -> float:
    """For sums in another order: at least `RELATIVE`, and what chaos asks for."""
    one = bench.alone.train()
    floor = max(
        travelled_difference(bench.alone.train(accumulation=cut).weights, one.weights, one.start)[0]
        for cut in (4, 8)
    )
    # Of an optimizer whose state counts micro-batches the floor itself is wrong.
    return max(RELATIVE, min(FLOORS * floor, 0.02))


def against_one(bench: Bench, found: Weights, *, after: int = STEPS) -> Finding:
    one = bench.alone.train(after)
    figure, where = travelled_difference(found, one.weights, one.start)
    return Finding(figure, tolerance(bench), where)


def starts(bench: Bench) -> Finding:
    norms = bench.train().norms
    raw = min(norms)
    return Finding(0.0 if raw > 0 and all(map(math.isfinite, norms)) else 1.0)


def moves_every_group(bench: Bench) -> Finding:
    trained = bench.train()
    worst, where = 1.0, ""
    with bench.open() as session:
        groups = [(g["name"], list(g["parameter_names"])) for g in session.optimizer.param_groups]
    for group, names in groups:
        moved = sum(not torch.equal(trained.weights[n], trained.start[n]) for n in names)
        if moved / len(names) < worst:
            worst, where = moved / len(names), group
    return Finding(1.0 - worst, 0.0, f"group {where}" if where else "")


def one_process(bench: Bench) -> Finding:
    return against_one(bench, bench.train().weights)


def ranks_agree(bench: Bench) -> Finding:
    with bench.open() as session:
        for step in range(STEPS):
            session.step(step)
        count = torch.zeros((), dtype=torch.int64)
        where = ""
        for name, weight in session.forward_weights().items():
            first = weight if bench.rank == 0 else torch.zeros_like(weight)
            session.backend.sum_over_workers(first := first.clone())
            unequal = (first != weight).sum()
            count += session.backend.sum_over_workers(unequal)
            where = where or (name if count else "")
    return Finding(float(count), 0.0, where)


def accumulation(bench: Bench) -> Finding:
    trained = bench.train(accumulation=2)
    wrong = {n: count for n, count in trained.updates.items() if count != STEPS}
    if wrong:
        name, count = next(iter(wrong.items()))
        return Finding(abs(count - STEPS), 0.0, f"{count} updates of {name} in {STEPS} steps")
    ns = trained.counters.get("newton_schulz_steps", 0)
    if ns > STEPS:
        return Finding(ns, STEPS, "Newton-Schulz steps")
    whole = bench.train()
    figure, where = travelled_difference(trained.weights, whole.weights, whole.start)
    return Finding(figure, RELATIVE, where)


def clipping(bench: Bench) -> Finding:
    expected, start, raw_norms = _clipped_by_hand(bench.alone)
    trained = bench.train()
    figure, where = travelled_difference(trained.weights, expected, start)
    apart = [abs(a - b) / b for a, b in zip(trained.norms, raw_norms, strict=True)]
    if max(apart) > figure:
        figure, where = max(apart), "the reported norm"
    return Finding(figure, tolerance(bench), where)


def _clipped_by_hand(alone: Bench) -> tuple[Weights, Weights, list[float]]:
    """`torch.nn.utils.clip_grad_norm_` on the raw gradients, and a step without clipping."""
    norms = []
    with alone.open(clip_norm=0.0) as session:
        start = session.weights()
        for step in range(STEPS):
            session.micro_steps(step)
            parameters = [p for p in session.model.parameters() if p.requires_grad]
            norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)))
            session.backend.update(clip_norm=0.0)
        return session.weights(), start, norms


def _half(bench: Bench) -> tuple[Weights, dict[str, Any]]:
    """Weights and state after half of the steps."""
    saved = bench.half()
    return saved.weights, copy.deepcopy(saved.state)


def _other_half(bench: Bench, weights: Weights, state: dict[str, Any]) -> Weights:
    with bench.open(weights=weights) as session:
        session.rehearse()
        session.optimizer.load_state_dict(state)
        for step in range(STEPS // 2, STEPS):
            session.step(step)
        return session.weights()


def resume(bench: Bench) -> Finding:
    count, where = different_bits(_other_half(bench, *_half(bench)), bench.train().weights)
    return Finding(count, 0.0, where)


def resume_elsewhere(bench: Bench) -> Finding:
    outward = against_one(bench, _other_half(bench.alone, *_half(bench)))
    if not outward.passes:
        return Finding(outward.figure, outward.limit, f"gang to one process: {outward.detail}")
    inward = against_one(bench, _other_half(bench, *_half(bench.alone)))
    return Finding(inward.figure, inward.limit, inward.detail and f"to the gang: {inward.detail}")


def _round_trip(bench: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
    weights, before = _half(bench)
    with bench.open(weights=weights) as session:
        session.rehearse()
        session.optimizer.load_state_dict(before)
        return before, session.state()


def state_round_trip(bench: Bench) -> Finding:
    before, after = _round_trip(bench)
    if not before.get("state"):
        return Finding(1.0, 0.0, "the state dict has no state after 2 steps")
    odd = different_entries(after, before)
    return Finding(len(odd), 0.0, odd[0] if odd else "")


def state_dtypes(bench: Bench) -> Finding:
    """As it is gathered, and as it lies in the workers, after a step that follows."""
    saved = bench.half()
    with bench.open(weights=saved.weights) as session:
        session.rehearse()
        session.optimizer.load_state_dict(copy.deepcopy(saved.state))
        session.step(STEPS // 2)
        gathered = {path: t.dtype for path, t in state_tensors(session.state()).items()}
        kept = session.kept_dtypes()
    expected = {path: tensor.dtype for path, tensor in state_tensors(saved.state).items()}
    odd = [path for path, dtype in expected.items() if gathered.get(path, dtype) != dtype]
    odd += [path for path, dtype in saved.kept.items() if kept.get(path, dtype) != dtype]
    return Finding(len(odd), 0.0, odd[0] if odd else "")


def missing_gradients(bench: Bench) -> Finding:
    results = [_without(bench, as_none=as_none) for as_none in (True, False)]
    count, where = different_bits(*results)
    return Finding(count, 0.0, where)


def _without(bench: Bench, *, as_none: bool) -> Weights:
    """Every other step, gradients of whole parameters are taken away after the backward pass."""
    with bench.open(clip_norm=0.0) as session:
        # What the optimizer reduces itself during the backward pass is gone already.
        reduced = session.optimizer._gradients == "local"
        gone = set(getattr(session.optimizer, "matrix_names", ())) if reduced else set()
        for step in range(STEPS):
            session.micro_steps(step)
            for index, (name, parameter) in enumerate(session.model.named_parameters()):
                if name in gone:
                    continue
                if (index + step) % 2 == 0 and parameter.grad is not None:
                    mine = bench.place.workers == 1 or bench.rank % 2 == 1
                    if as_none and mine:
                        parameter.grad = None
                    else:
                        parameter.grad.zero_()
            session.backend.update(clip_norm=0.0)
        return session.weights()


def zero_gradients(bench: Bench) -> Finding:
    with bench.open() as session:
        for step in range(3):
            session.step(step, factor=0.0)
        count, where = not_finite({**session.weights(), **state_tensors(session.state())})
        session.step(3)
        later, at = not_finite({**session.weights(), **state_tensors(session.state())})
    return Finding(count + later, 0.0, where or at)


def nonfinite_gradients(bench: Bench) -> Finding:
    last = bench.place.workers - 1
    with bench.open() as session:
        session.step(0)
        weights, state = session.weights(), session.state()
        skipped = session.optimizer.skipped_steps
        session.step(1, factor=math.inf if bench.rank == last else None)
        changed, where = different_bits(session.weights(), weights)
        tensors = state_tensors(state)
        in_state, entry = different_bits(state_tensors(session.state()), tensors)
        counted = torch.tensor(float(session.optimizer.skipped_steps - skipped == 1))
        told = float(session.backend.sum_over_workers(counted))
        session.step(2)
        after, at = not_finite(session.weights())
    silent = bench.place.workers - told
    detail = where or entry or at or ("counters.skipped_steps" if silent else "")
    return Finding(changed + in_state + after + silent, 0.0, detail)


def tied_weights(bench: Bench) -> Finding:
    """The whole model gives the gradients; its weights, each a leaf of its own, take the step."""
    tied = bench.train(1, clip_norm=0.0)
    named = {n: torch.nn.Parameter(w.clone()) for n, w in tied.start.items()}
    optimizer = bench.subject.build(list(named.items()))
    with bench.open(clip_norm=0.0) as session:
        measure_attention(session.model, optimizer)
        session.micro_steps(0)
        gradients = {
            n: p.grad.clone() for n, p in session.model.named_parameters() if p.grad is not None
        }
    name = "embedding.weight"
    for each, parameter in named.items():
        parameter.grad = gradients[each]
    optimizer.step()
    figure, where = travelled_difference(
        {name: tied.weights[name]}, {name: named[name].detach()}, {name: tied.start[name]}
    )
    return Finding(figure, RELATIVE, where)


def unused_weights(bench: Bench) -> Finding:
    """`spare` is of no use to the loss; the others train as without it."""
    with bench.open(spare=True) as session:
        start = session.weights()
        for step in range(STEPS):
            session.step(step)
        weights = session.weights()
    bad, where = not_finite(weights)
    # Where it went must be along itself: weight decay, or nothing.
    spare, before = weights[SPARE].flatten(), start[SPARE].flatten()
    along = float(torch.dot(spare, before) / torch.dot(before, before))
    wandered = float((spare - along * before).norm() / before.norm())
    others = {name: w for name, w in weights.items() if name != SPARE}
    without = bench.train()
    figure, at = travelled_difference(others, without.weights, without.start)
    if bad or not wandered <= RELATIVE:
        return Finding(max(bad, wandered), RELATIVE, where or SPARE)
    return Finding(figure, RELATIVE, at)


def frozen_weights(bench: Bench) -> Finding:
    with bench.open(frozen=True) as session:
        names = {route.name for route in session.optimizer.routes}
        before = session.forward_weights()[FROZEN]
        for step in range(STEPS):
            session.step(step)
        count = int((session.forward_weights()[FROZEN] != before).sum())
    return Finding(count + (FROZEN in names), 0.0, FROZEN if count else "")


def learning_rate(bench: Bench) -> Finding:
    steps = {factor: _one_step(bench, lr_factor=factor) for factor in (1.0, 0.5, 0.0)}
    moved, where = different_bits(steps[0.0][1], steps[0.0][0])
    if moved:
        return Finding(moved, 0.0, f"{where} moved at learning rate 0")
    lengths = {f: _distance(after, before) for f, (before, after) in steps.items()}
    ratio = lengths[0.5] / lengths[1.0] if lengths[1.0] else math.nan
    return Finding(abs(ratio - 0.5), 0.05, f"half the rate gave {ratio:.3f} of the step")


def _one_step(bench: Bench, *, lr_factor: float) -> tuple[Weights, Weights]:
    with bench.open() as session:
        before = session.weights()
        session.step(0, lr_factor=lr_factor)
        if session.optimizer.rests_at_first:
            session.step(1, lr_factor=lr_factor)
        return before, session.weights()


def _distance(one: Weights, other: Weights) -> float:
    return math.sqrt(sum(float((one[n] - other[n]).double().square().sum()) for n in one))


def deterministic(bench: Bench) -> Finding:
    again = bench.train_anew(2)
    count, where = different_bits(again.weights, bench.train(2).weights)
    return Finding(count, 0.0, where)


def evaluation(bench: Bench) -> Finding:
    """Evaluated after every step, as a trial does that reports."""
    with bench.open() as session:
        for step in range(STEPS):
            session.step(step)
            with session.optimizer.evaluation_weights(session.backend.publish_weights):
                session.backend.evaluate(*session.rows(step))
        count, where = different_bits(session.weights(), bench.train().weights)
    return Finding(count, 0.0, where)


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what makes Python wait for a value."""

    READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.count += func.name().split(".")[0] in self.READS
        return func(*args, **(kwargs or {}))


def device_sync(bench: Bench) -> Finding:
    with bench.open() as session:
        session.step(0)  # what is made once is no matter of every step
        reads = _Reads()
        for step in range(1, STEPS):
            session.micro_steps(step)
            with reads:
                session.backend.update(clip_norm=session.clip_norm)
    per_step = reads.count / (STEPS - 1)
    parameters = len(session.optimizer.routes)
    return Finding(per_step, SYNC_LIMIT, f"{per_step:g} reads a step, {parameters} parameters")


RUNS: dict[str, Callable[[Bench], Finding]] = {
    run.__name__: run
    for run in (
        starts,
        moves_every_group,
        one_process,
        ranks_agree,
        accumulation,
        clipping,
        resume,
        resume_elsewhere,
        state_round_trip,
        state_dtypes,
        missing_gradients,
        zero_gradients,
        nonfinite_gradients,
        tied_weights,
        unused_weights,
        frozen_weights,
        learning_rate,
        evaluation,
        deterministic,
        device_sync,
    )
}
"""Name of a check -> what runs it."""
