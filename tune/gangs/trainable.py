"""One Ray Tune trial: it holds a gang and passes the gang's answers on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ray import tune as ray_tune

from harness.runs.attempts import AttemptEnded, repeats
from tune.gangs.gang import Gang, GangFailure

# Keys of a result, as the driver reads them. JSON text: Tune keeps statistics of every number.
REPORT, OUTCOME, ATTEMPT = "optbench_report", "optbench_outcome", "optbench_attempt"
# What a scheduler may look at beside them.
STEP, LOSS = "step", "validation_loss"


class AttemptFailed(RuntimeError):
    """Tells Tune to try again, if the trial has attempts left."""


class TrialTrainable(ray_tune.Trainable):  # type: ignore[misc]
    """`config["trial"]` is `tune.job.Job.config`.

    A failure ends an attempt. It becomes an outcome of the trial when the training fails again in
    the same way; otherwise Tune is told, and starts the trial again from its newest checkpoint.
    """

    gang: Gang | None = None

    def setup(self, config: dict[str, Any]) -> None:
        trial = config["trial"]
        place = trial["resources"]
        shape = (place["workers"], place["cpus_per_worker"], place["gpus_per_worker"])
        if self.gang is not None and self.gang.shape != shape:
            self._disband()
        if self.gang is None:
            self.gang = Gang(num_workers=shape[0], cpus=shape[1], gpus=shape[2])
        self.trial = trial
        self.attempt: int = trial["attempt"]
        self.told: str | None = None  # why this attempt is over, once the driver knows
        self.failure: GangFailure | None = None
        self.began: dict[str, Any] | None = {"workers": shape[0], **place}
        try:
            self.began |= self.gang.start(trial)
        except GangFailure as failure:
            self.failure = failure

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The gang goes on, warm, with the next trial."""
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self.told is not None:
            raise AttemptFailed(self.told)
        if self.began is not None:
            began, self.began = self.began, None
            event = _event("began", self.attempt, **_as_begun(began, self.trial))
            return {ATTEMPT: json.dumps(event)}
        assert self.gang is not None, "a failed attempt has been told"
        try:
            if self.failure is not None:
                raise self.failure
            answer = self.gang.advance()
        except GangFailure as failure:
            return self._over(failure)
        if "outcome" in answer:
            outcome = answer["outcome"]
            ended = _event("ended", self.attempt, end="outcome", step=outcome["step"])
            return _last(ended, outcome)
        report = answer["report"]
        loss = {} if report[LOSS] is None else {LOSS: report[LOSS]}
        return {REPORT: json.dumps(report), STEP: report[STEP], **loss}

    def _over(self, failure: GangFailure) -> dict[str, Any]:
        """The attempt's end, and with it the trial's where it fails as it did before."""
        self._disband()
        found = failure.failure
        ended = _event(
            "ended",
            self.attempt,
            end=found.end,
            cause=found.cause,
            signature=found.signature,
            traceback=found.traceback,
            step=failure.step,
            log_tails=failure.log_tails,
        )
        earlier = [AttemptEnded.model_validate(values) for values in self.trial["earlier"]]
        this = AttemptEnded.model_validate(ended)
        if not repeats([*earlier, this]):
            self.told = found.cause
            return {ATTEMPT: json.dumps(ended)}
        word = "out_of_memory" if found.end == "out_of_memory" else "failed"
        reason = f"{found.cause} (the same as in an earlier attempt)"
        outcome = {"outcome": word, "reason": reason, "traceback": found.traceback}
        return _last(ended, outcome)

    def _disband(self) -> None:
        if self.gang is not None:
            self.gang.kill()
            self.gang = None

    def cleanup(self) -> None:
        self._disband()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the workers write their own, where the next attempt and the next run look."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load, see `save_checkpoint`."""


def _last(ended: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    """The last result of a trial."""
    done = {ray_tune.result.DONE: True}
    return {ATTEMPT: json.dumps(ended), OUTCOME: json.dumps(outcome), **done}


def _event(event: str, attempt: int, **values: Any) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"event": event, "attempt": attempt, "at": at, **values}


PLACE = ("rank", "host", "address", "node", "pid", "device", "log")


def _as_begun(began: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
    """What the gang answered; where it could not even start, what the driver knew before."""
    places: Sequence[dict[str, Any]] = began.get("places", ())
    known = ("workers", "cpus_per_worker", "gpus_per_worker", "code_version", "code_sha256")
    return {
        **{key: began.get(key, trial.get(key)) for key in known},
        "resumed_step": began.get("resumed_step", 0),
        "places": [{key: place[key] for key in PLACE} for place in places],
    }
