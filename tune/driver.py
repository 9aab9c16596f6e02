"""The driver: gives the missing trials to Ray Tune and writes down what comes back."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
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
# Ray starts its workers at nice 15: whatever else runs would then be in every step time.
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray import tune as ray_tune

from harness.config import Study, TrialSpec
from harness.data import TokenDataset
from harness.errors import UserError
from harness.results import Outcome, Report, StudyFolder
from harness.study import trial_spec
from harness.tuning.rounds import Round
from tune.halving import HalvingWithinVariants
from tune.search import JournaledSearch, finished_reports
from tune.trainable import OUTCOME, REPORT, TrialTrainable


class Observer(Protocol):
    """Told of everything after it is on disk."""

    def trial_started(self, key: str, spec: TrialSpec) -> None: ...
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
    return cluster()


def cluster() -> Cluster:
    """What the connected Ray has now."""
    resources = ray.cluster_resources()
    return Cluster(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0))


def fitting(spec: TrialSpec, cluster: Cluster) -> int:
    """Gangs that fit at once, at least one."""
    fit = cluster.cpus // (spec.workers * spec.cpus_per_worker)
    if spec.gpus_per_worker:
        fit = min(fit, cluster.gpus // spec.workers)
    return max(1, int(fit))


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
    _fit(
        next(iter(specs.values())),
        Recorder(folder, observers),
        param_space={"trial": ray_tune.grid_search(configs)},
        max_concurrent_trials=max_concurrent_trials,
        reuse_actors=reuse_gangs,
    )


def run_round(
    study: Study,
    current: Round,
    *,
    folder: StudyFolder,
    dataset: TokenDataset,
    observers: Sequence[Observer],
) -> None:
    """Searches one round of the study's tuning, or what is left of it.

    Raises:
        KeyboardInterrupt: finished trials are kept, the workers are gone.
    """
    search = JournaledSearch(
        study,
        current,
        folder=folder,
        data_sha256=dataset.manifest.sha256,
        dataset_path=dataset.path,
        # A uniform guess over the vocabulary.
        worst_loss=math.log(dataset.vocab_size),
    )
    assert study.tuning is not None, "only a study with [tuning] searches"
    scheduler = None
    if study.tuning.asha is not None:
        scheduler = HalvingWithinVariants(
            study.tuning.asha,
            steps=study.tuning.steps or study.training.steps,
            variants=search.variants,
            finished=finished_reports(folder, search.journal.events(), current),
        )
    some_spec = trial_spec(study, study.variants[0], 0, dataset.manifest.sha256)
    _fit(
        some_spec,
        Recorder(folder, [search, *observers]),
        param_space={},
        max_concurrent_trials=study.resources.max_concurrent_trials,
        search_alg=search,
        scheduler=scheduler,
        num_samples=-1,
    )


def _fit(
    gang_of: TrialSpec,
    recorder: Recorder,
    *,
    param_space: dict[str, Any],
    max_concurrent_trials: int | None,
    **tune_options: Any,
) -> None:
    """Runs Ray Tune with gangs of the shape that `gang_of` needs.

    Never more trials at once than fit: Ray starts the trials that wait for room in any order, while
    whole pairs should come first, and a searcher must not be asked before it has been told. Whoever
    has a cluster that grows on demand sets the number.
    """
    bundle = {"CPU": gang_of.cpus_per_worker, "GPU": gang_of.gpus_per_worker}
    trainable = ray_tune.with_resources(
        TrialTrainable, ray_tune.PlacementGroupFactory([{}] + [bundle] * gang_of.workers)
    )
    scratch = tempfile.mkdtemp(prefix="optbench-tune-")
    try:
        ray_tune.Tuner(
            trainable,
            param_space=param_space,
            tune_config=ray_tune.TuneConfig(
                max_concurrent_trials=max_concurrent_trials or fitting(gang_of, cluster()),
                **{"reuse_actors": True, **tune_options},
            ),
            run_config=ray_tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                callbacks=[recorder],
                checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Recorder(ray_tune.Callback):  # type: ignore[misc]
    """Writes what trials yield into their folders, then tells the observers."""

    def __init__(self, folder: StudyFolder, observers: Sequence[Observer]) -> None:
        self.folder, self.observers = folder, observers
        self.begun: dict[str, float] = {}  # of the trials that have no outcome yet

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles callbacks for `Tuner.restore`, and we resume from our own files."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        key = trial.config["trial"]["key"]
        spec = TrialSpec.model_validate(trial.config["trial"]["spec"])
        self.begun[key] = time.monotonic()
        self.folder.trial(key).start(spec)
        for observer in self.observers:
            observer.trial_started(key, spec)

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

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """A trial that ends without an outcome of its own was stopped by the scheduler."""
        key = trial.config["trial"]["key"]
        if key in self.begun:
            reason = "stopped early: behind the other configurations of its variant"
            self._end(key, Outcome(outcome="stopped", reason=reason))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The actor that holds the gang died: no worker could tell why."""
        reason = f"the trial's actor died: {trial.get_error()}"
        self._end(trial.config["trial"]["key"], Outcome(outcome="failed", reason=reason))

    def _end(self, key: str, outcome: Outcome) -> None:
        begun = self.begun.pop(key, None)
        if outcome.wall_time_s is None and begun is not None:
            outcome = self._as_far_as_it_came(key, outcome, time.monotonic() - begun)
        self.folder.trial(key).finish(outcome)
        for observer in self.observers:
            observer.trial_ended(key, outcome)

    def _as_far_as_it_came(self, key: str, outcome: Outcome, wall_time_s: float) -> Outcome:
        """What a stopped or failed trial spent, from its last report: the ledger counts it."""
        known: dict[str, Any] = {"wall_time_s": wall_time_s}
        if reports := self.folder.trial(key).reports():
            last = reports[-1]
            known |= {"step": last.step, "tokens": last.tokens}
            if outcome.outcome == "stopped":
                known |= {
                    "validation_loss": last.validation_loss,
                    "validation_accuracy": last.validation_accuracy,
                }
        return outcome.model_copy(update=known)
