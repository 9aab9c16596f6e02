"""One Muon step over the waves of a plan.

    momentum   on the range of each matrix that this worker keeps
    assemble   the ranges at the matrix's owner                (all-to-all)
    orth       at the owner, one batched call for a wave of equal shapes
    return     to each worker the range whose weights it holds (all-to-all)
    update     that range

The exchange of one wave runs while another wave is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from optimizers.exchange import Pending, Piece, WaveTransfers, wave_transfers
from optimizers.fragments import Fragment
from optimizers.muon_spec import MuonSpec, update_scale
from optimizers.newton_schulz import Computation, orthogonalize
from optimizers.sharding import EVERYONE, Plan


@dataclass(frozen=True)
class Wave:
    """Matrices of one shape that are worked on together, as one worker sees them.

    Args:
        shape: `(m, n)`.
        positions: Index in the plan -> position in the batch, for what this worker orthogonalises.
        kept: The pieces whose momentum this worker keeps.
        held: The pieces whose weights this worker holds.
        transfers: To the owners, and back.
    """

    shape: tuple[int, int]
    positions: Mapping[int, int]
    kept: tuple[Piece, ...]
    held: tuple[Piece, ...]
    transfers: WaveTransfers


def make_waves(
    plan: Plan, *, rank: int, process_group: dist.ProcessGroup | None
) -> tuple[Wave, ...]:
    """The waves of a plan for the worker `rank`."""
    waves = []
    for indices in plan.waves:
        shares = {i: plan.shares[i] for i in indices}
        mine = [i for i, share in shares.items() if share.owner in (rank, EVERYONE)]
        first = shares[indices[0]].matrix
        waves.append(
            Wave(
                shape=(first.rows, first.columns),
                positions={index: position for position, index in enumerate(mine)},
                kept=tuple(Piece(i, *s.momentum[rank]) for i, s in shares.items()),
                held=tuple(Piece(i, *s.weights[rank]) for i, s in shares.items()),
                transfers=wave_transfers(plan, indices, rank=rank, group=process_group),
            )
        )
    return tuple(waves)


@dataclass(frozen=True)
class MatrixStep:
    """What one step needs to know.

    Args:
        plan: Who does what.
        spec: Momentum, schedule and scale.
        computations: Form and dtype by shape.
        options: The parameter group: `lr`, `momentum`, `weight_decay`.
        fragments: What this worker holds, by parameter.
        gradient: `(piece) -> (numel,)`, the averaged raw gradient in float32.
        momentum: `(piece) -> (numel,)`, the momentum in float32, updated in place.
    """

    plan: Plan
    spec: MuonSpec
    computations: Mapping[tuple[int, int], Computation]
    options: Mapping[str, float]
    fragments: Mapping[str, Fragment]
    gradient: Callable[[Piece], Tensor]
    momentum: Callable[[Piece], Tensor]
    device: torch.device

    def run(self, waves: Sequence[Wave]) -> None:
        """Update all weights that this worker holds."""
        for fragment in self.fragments.values():
            fragment.weight().mul_(1.0 - self.options["lr"] * self.options["weight_decay"])
        arriving = self._start(waves[0])
        returning: tuple[Wave, Tensor, Pending] | None = None
        for wave, following in zip(waves, (*waves[1:], None), strict=True):
            batch, momentum_of_others = arriving
            if following is not None:
                arriving = self._start(following)
            result = self._orthogonalize(wave, batch, momentum_of_others)
            sent = wave, result, self._send_back(wave, result)
            if returning is not None:
                self._update(*returning)
            returning = sent
        if returning is not None:
            self._update(*returning)

    def _start(self, wave: Wave) -> tuple[Tensor, Pending]:
        """Advance the momentum; what is orthogonalised here goes into the batch, the rest away."""
        batch = torch.empty(
            (len(wave.positions), *wave.shape), dtype=torch.float32, device=self.device
        )
        for piece in wave.kept:
            if piece.numel and piece.index in wave.positions:
                self._advance(piece, _part(batch, wave, piece))
        pending = wave.transfers.to_owners.start(
            self._advance, dtype=torch.float32, device=self.device
        )
        return batch, pending

    def _advance(self, piece: Piece, out: Tensor) -> None:
        """`M <- mu M + (1 - mu) G`; `out = mu M + (1 - mu) G` (Nesterov) or `M`."""
        gradient, momentum, mu = (
            self.gradient(piece),
            self.momentum(piece),
            self.options["momentum"],
        )
        if self.spec.momentum_kind == "ema":
            momentum.lerp_(gradient, 1.0 - mu)
            if self.spec.nesterov:
                torch.lerp(gradient, momentum, mu, out=out)
        else:
            momentum.mul_(mu).add_(gradient)
            if self.spec.nesterov:
                torch.add(gradient, momentum, alpha=mu, out=out)
        if not self.spec.nesterov:
            out.copy_(momentum)

    def _orthogonalize(self, wave: Wave, batch: Tensor, others: Pending) -> Tensor:
        """Put the pieces that arrived in their places: `batch` (K, m, n) -> (K, m, n)."""
        for _, piece, elements in others.wait():
            _part(batch, wave, piece).copy_(elements)
        computation = self.computations[wave.shape]
        return orthogonalize(
            batch,
            self.spec.schedule,
            self.spec.num_steps,
            dtype=computation.dtype,
            form=computation.form,
            batch_invariant=self.spec.batch_invariant,
        )

    def _send_back(self, wave: Wave, result: Tensor) -> Pending:
        def write(piece: Piece, out: Tensor) -> None:
            out.copy_(_part(result, wave, piece))

        return wave.transfers.back.start(write, dtype=result.dtype, device=self.device)

    def _update(self, wave: Wave, result: Tensor, others: Pending) -> None:
        """`W <- W - lr scale(m, n) O` on the pieces held here."""
        for piece, orthogonal in self._results(wave, result, others):
            matrix = self.plan.shares[piece.index].matrix
            outputs, inputs = matrix.fan_out_in
            scale = update_scale(self.spec.scale, outputs=outputs, inputs=inputs)
            fragment = self.fragments[matrix.parameter]
            weight = fragment.weight().narrow(
                0, matrix.offset + piece.start - fragment.start, piece.numel
            )
            weight.add_(orthogonal, alpha=-self.options["lr"] * scale)

    def _results(
        self, wave: Wave, result: Tensor, others: Pending
    ) -> Iterator[tuple[Piece, Tensor]]:
        for piece in wave.held:
            if piece.numel and piece.index in wave.positions:
                yield piece, _part(result, wave, piece)
        for _, piece, elements in others.wait():
            yield piece, elements


def _part(batch: Tensor, wave: Wave, piece: Piece) -> Tensor:
    """The elements of a piece in a `(K, m, n)` batch: `(numel,)`, a view."""
    flat = batch[wave.positions[piece.index]].view(-1)
    return flat.narrow(0, piece.start, piece.numel)
