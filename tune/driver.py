"""The driver: gives the missing trials to Ray Tune and writes down what comes back."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Before Ray is imported: no telemetry, no result files of Tune's own (ours are the truth), Ctrl-C
# is ours to handle, and no snapshot of the experiment (we resume from our own files).
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune as ray_tune

from harness.config import TrialSpec
from harness.errors import UserError
from harness.results import Outcome, Report, StudyFolder
from tune.trainable import OUTCOME, REPORT, TrialTrainable


class Observer(Protocol):
    """Told of everything after it is on disk."""

    def trial_started(self, key: str) -> None: ...
    def trial_reported(self, key: str, report: Report) -> None: ...
    def trial_ended(self, key: str, outcome: Outcome) -> None: ...


@dataclass(frozen=True)
class Cluster:
    """What Ray can place at once."""

    cpus: float
    gpus: float


def connect(address: str | None) -> Cluster:
    """Joins the cluster at `address`, or starts a local Ray.

    Raises:
        UserError: no cluster answers at `address`.
    """
    if address and address.startswith("ray://"):
        raise UserError(
            f"--address {address!r}: through a Ray Client the results would be written on the head "
            "node; run this command on a node of the cluster with --address auto"
        )
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None and "RAY_ADDRESS" not in os.environ:
        # Ray's dashboard is one more heavy process, and nobody looks at it here.
        options["include_dashboard"] = False
    try:
        ray.init(address=address, **options)
    except ConnectionError as error:
        raise UserError(
            f"no Ray cluster answers at {address or os.environ.get('RAY_ADDRESS')!r} ({error}): "
            "start one with `ray start --head`, or leave out --address and unset RAY_ADDRESS"
        ) from None
    resources = ray.cluster_resources()
    return Cluster(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0))


def check_fits(spec: TrialSpec, cluster: Cluster) -> None:
    """Raises:
    UserError: one gang needs more than the cluster has; nothing was started.
    """
    needed = {
        "CPU cores": (spec.workers * spec.cpus_per_worker, cluster.cpus),
        "GPUs": (spec.workers * spec.gpus_per_worker, cluster.gpus),
    }
    for what, (need, have) in needed.items():
        if need > have:
            raise UserError(
                f"one trial needs {need} {what} (resources.workers = {spec.workers}) and this "
                f"machine or cluster has {have:g}: lower resources.workers, or pass --address of a "
                "larger cluster"
            )


def run_trials(
    specs: Mapping[str, TrialSpec],
    *,
    folder: StudyFolder,
    dataset_path: Path,
    observers: Sequence[Observer],
    max_concurrent_trials: int | None,
    reuse_gangs: bool = True,
) -> None:
    """Trains every given trial; each report and outcome is on disk before anyone hears of it.

    Raises:
        KeyboardInterrupt: finished trials are kept, the workers are gone.
    """
    configs = [
        {"key": key, "spec": spec.model_dump(mode="json"), "dataset_path": str(dataset_path)}
        for key, spec in specs.items()
    ]
    first = next(iter(specs.values()))
    bundle = {"CPU": first.cpus_per_worker, "GPU": first.gpus_per_worker}
    trainable = ray_tune.with_resources(
        TrialTrainable, ray_tune.PlacementGroupFactory([{}] + [bundle] * first.workers)
    )
    scratch = tempfile.mkdtemp(prefix="optbench-tune-")
    try:
        ray_tune.Tuner(
            trainable,
            param_space={"trial": ray_tune.grid_search(configs)},
            tune_config=ray_tune.TuneConfig(
                reuse_actors=reuse_gangs, max_concurrent_trials=max_concurrent_trials
            ),
            run_config=ray_tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                callbacks=[Recorder(folder, specs, observers)],
                checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Recorder(ray_tune.Callback):  # type: ignore[misc]
    """Writes what trials yield into their folders, then tells the observers."""

    def __init__(
        self,
        folder: StudyFolder,
        specs: Mapping[str, TrialSpec],
        observers: Sequence[Observer],
    ) -> None:
        self.folder, self.specs, self.observers = folder, specs, observers

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks for `Tuner.restore`, and we resume from our own files."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        key = trial.config["trial"]["key"]
        self.folder.trial(key).start(self.specs[key])
        for observer in self.observers:
            observer.trial_started(key)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        key = trial.config["trial"]["key"]
        if REPORT in result:
            report = Report.model_validate(result[REPORT])
            self.folder.trial(key).append(report)
            for observer in self.observers:
                observer.trial_reported(key, report)
        if OUTCOME in result:
            self._end(key, Outcome.model_validate(result[OUTCOME]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The actor that holds the gang died: no worker could tell why."""
        reason = f"the trial's actor died: {trial.get_error()}"
        self._end(trial.config["trial"]["key"], Outcome(outcome="failed", reason=reason))

    def _end(self, key: str, outcome: Outcome) -> None:
        self.folder.trial(key).finish(outcome)
        for observer in self.observers:
            observer.trial_ended(key, outcome)
