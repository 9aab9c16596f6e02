"""One Ray Tune trial: it holds a gang and passes the gang's answers on."""

from __future__ import annotations

from typing import Any

from ray import tune as ray_tune

from tune.gang import Gang, GangFailure

# Keys of a result, as the driver reads them. Plain JSON text: Tune flattens nested dictionaries.
REPORT, OUTCOME = "optbench_report", "optbench_outcome"
# What a scheduler may look at beside them.
STEP, LOSS = "step", "validation_loss"


class TrialTrainable(ray_tune.Trainable):  # type: ignore[misc]
    """`config["trial"]` holds `spec` (plain values), `key`, and `dataset_path`.

    A failure of the workers is an outcome of the trial, not an error of Tune: it must become a row.
    """

    gang: Gang | None = None

    def setup(self, config: dict[str, Any]) -> None:
        trial = config["trial"]
        spec = trial["spec"]
        shape = (spec["workers"], spec["cpus_per_worker"], spec["gpus_per_worker"])
        if self.gang is not None and self.gang.shape != shape:
            self._disband()
        if self.gang is None:
            self.gang = Gang(num_workers=shape[0], cpus=shape[1], gpus=shape[2])
        self._begin(trial)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The gang goes on, warm, with the next trial."""
        self.setup(new_config)
        return True

    def _begin(self, trial: dict[str, Any]) -> None:
        assert self.gang is not None
        self.failure: GangFailure | None = None
        try:
            self.gang.start(trial["spec"], trial["dataset_path"])
        except GangFailure as failure:
            self.failure = failure

    def step(self) -> dict[str, Any]:
        assert self.gang is not None
        try:
            if self.failure is not None:
                raise self.failure
            answer = self.gang.advance()
        except GangFailure as failure:
            self._disband()
            return {OUTCOME: failure.outcome, ray_tune.result.DONE: True}
        if "outcome" in answer:
            return {OUTCOME: answer["outcome"], ray_tune.result.DONE: True}
        report = answer["report"]
        loss = {} if report[LOSS] is None else {LOSS: report[LOSS]}
        return {REPORT: report, STEP: report[STEP], **loss}

    def _disband(self) -> None:
        if self.gang is not None:
            self.gang.kill()
            self.gang = None

    def cleanup(self) -> None:
        self._disband()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: an interrupted trial starts again from its seed."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing to load, see `save_checkpoint`."""
