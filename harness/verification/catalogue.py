"""The checks: what each does, and what its failure means. Read without torch."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import UserError
from harness.verification.places import Place


@dataclass(frozen=True)
class Check:
    """One promise of an optimizer.

    Args:
        name: As `--check` takes it.
        does: What is done and compared, with the unit of the figure.
        meaning: What a failure means for whoever trains with the optimizer.
        where: `alone` in one process only, `gangs` with several workers only, or `everywhere`.
        lacking: Backend of several workers -> why the check says nothing there.
    """

    name: str
    does: str
    meaning: str
    where: str = "everywhere"
    lacking: tuple[tuple[str, str], ...] = ()

    def not_applicable(self, place: Place) -> str | None:
        """Why the check says nothing in this place, or None."""
        if self.where == "alone" and place.workers > 1:
            return "the same in every process: looked at in one"
        if self.where == "gangs" and place.workers == 1:
            return "needs several workers"
        return dict(self.lacking).get(place.backend) if place.workers > 1 else None


_FILLED = "DeepSpeed fills every gradient of its flat partitions itself"
_REFUSED = "DistributedDataParallel itself refuses a weight that no loss reaches"

_ALL = (
    Check(
        "starts",
        "builds the optimizer, tells it what each worker holds, and takes a step",
        "the optimizer does not run here at all: the message is the library's or its own",
    ),
    Check(
        "moves_every_group",
        "share of the parameters that the first steps moved, of the group where it is least",
        "a group of parameters is never updated: part of the model stays as it was drawn",
    ),
    Check(
        "one_process",
        "weights after 4 steps against one process: the largest difference of a parameter, "
        "relative to the way that it went",
        "what is trained depends on the number of workers or on the backend: a norm or mean is "
        "taken over a shard, a gradient is not averaged, or whole matrices are cut",
        where="gangs",
    ),
    Check(
        "ranks_agree",
        "elements of the weights that differ between workers that hold the same",
        "the workers drift apart and train different models, which no loss curve shows",
        where="gangs",
        lacking=(
            ("zero3", "no weight is held twice"),
            ("fsdp2", "no weight is held twice"),
        ),
    ),
    Check(
        "accumulation",
        "two micro-batches a step against one batch: the largest relative difference of a "
        "parameter, and the updates counted",
        "state advances once a micro-batch (momentum decays too fast, Newton-Schulz runs twice), "
        "or gradients are summed where they should be averaged",
    ),
    Check(
        "clipping",
        "4 clipped steps against gradients clipped by hand in one process: the largest relative "
        "difference of a parameter or of a reported norm",
        "clipping acts on something else than the raw gradient of the whole model: after the "
        "algorithm, over a shard, or a second time",
    ),
    Check(
        "resume",
        "2 steps, saved, loaded into a new optimizer, 2 steps, against 4 steps: elements of the "
        "weights whose bits differ",
        "a resumed trial is another trial: something that decides the next step is not saved",
    ),
    Check(
        "resume_elsewhere",
        "the state of a gang goes on in one process, and that of one process in the gang: the "
        "largest relative difference of a parameter",
        "a checkpoint belongs to one number of workers: state is saved in parts, or under the "
        "place where it lay",
        where="gangs",
    ),
    Check(
        "state_round_trip",
        "the state dict, loaded and taken again: entries that are missing or have other values",
        "the state dict is not the whole state: entries are lost or changed",
    ),
    Check(
        "state_dtypes",
        "the dtypes of a state that was loaded: entries that have another one than before",
        "a resumed run computes in another precision: second moments in bf16 stop moving",
    ),
    Check(
        "missing_gradients",
        "gradients that are None on some workers and zero on the others, against zero everywhere: "
        "elements of the weights whose bits differ",
        "a step with a missing gradient is not that with a zero one: workers that saw other "
        "tokens take other steps, or one waits for a collective that another skips",
        lacking=tuple((f"zero{stage}", _FILLED) for stage in (1, 2, 3)),
    ),
    Check(
        "zero_gradients",
        "3 steps whose whole gradient is zero, from fresh state: elements that are not finite, in "
        "weights and state",
        "0 / 0: one expert or one layer without a token makes the model NaN",
    ),
    Check(
        "nonfinite_gradients",
        "one worker's loss is infinite: elements of weights and state that changed, and workers "
        "that did not count a skipped step",
        "one overflow poisons the momentum or the weights for the rest of the run, or only some "
        "workers skip the step",
    ),
    Check(
        "tied_weights",
        "the weight of the embedding and the head after a step, against the same weight alone "
        "with the same gradient: the relative difference",
        "a weight that two modules share takes its step twice",
        where="alone",
    ),
    Check(
        "unused_weights",
        "a weight that no loss reaches: elements that are not finite or went another way than by "
        "weight decay, and the relative difference of the others",
        "an unused weight stops the run, turns into NaN, wanders, or changes how others train",
        lacking=(("ddp", _REFUSED), ("zero0", "DeepSpeed at stage 0 says nothing else than ddp")),
    ),
    Check(
        "frozen_weights",
        "a weight that requires no gradient: elements that changed",
        "what the user froze is trained, or decays",
    ),
    Check(
        "learning_rate",
        "the first step at half the learning rate, relative to that at the whole (0.5), and "
        "elements that move at rate 0",
        "the schedule is ignored, or scales only a part of the update",
    ),
    Check(
        "evaluation",
        "4 steps with an evaluation after each, against 4 steps: elements of the weights whose "
        "bits differ",
        "to look changes what is trained: the weights to train on are not put back after those to "
        "evaluate, or gathered ones are read again",
    ),
    Check(
        "deterministic",
        "the same 2 steps again: elements of the weights whose bits differ",
        "noise without a seed: no run can be repeated, and workers draw differently",
    ),
    Check(
        "device_sync",
        "reads of a tensor's value by Python in an update of 3 steps' mean",
        "each read makes a GPU wait for the host, once a parameter: slow, and it grows with the "
        "model",
        where="alone",
    ),
)

CHECKS: dict[str, Check] = {check.name: check for check in _ALL}
"""Name -> check, in the order in which they run."""

SYNC_LIMIT = 3
"""Reads of a value in an update: the one question whether all gradients are finite, and two more
for an optimizer with a global scalar."""


def chosen(names: list[str] | None) -> list[Check]:
    """The checks of these names; `starts` comes before all others. By default all of them.

    Raises:
        UserError: there is none of a name.
    """
    for name in names or ():
        if name not in CHECKS:
            raise UserError(f"--check {name!r}: choose among {', '.join(CHECKS)}")
    return [c for c in CHECKS.values() if not names or c.name in (*names, "starts")]
