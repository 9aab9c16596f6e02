"""The driver: gives training runs to Ray Tune, those of a confirmation or those of a search."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from ray import tune as ray_tune
from ray.tune.execution import class_cache

from harness.data import TokenDataset
from harness.runs.attempts import AttemptBegan
from harness.study.code_version import code_sha256
from harness.study.settings import ResourcesConfig
from harness.study.study_file import Study
from tune.breaker import Breaker
from tune.capacity import fits, gangs_that_fit
from tune.cluster import capacity
from tune.halving import HalvingWithinVariants, earlier_runs
from tune.job import Job, Launch
from tune.observers import Observer
from tune.recorder import Recorder
from tune.rounds import Round
from tune.search import LoggedSearch
from tune.trainable import TrialTrainable


def run_trials(
    jobs: Sequence[Job],
    *,
    launch: Launch,
    observers: Sequence[Observer],
    deadline: float | None = None,
    reuse_gangs: bool = True,
) -> dict[str, str]:
    """Trains every given run; each report and outcome is on disk before anyone hears of it.

    Args:
        deadline: by `time.monotonic`, after which trials are stopped and stay open.

    Returns:
        why each trial that was given up has no outcome, by key; the next run tries again.

    Raises:
        StudyStopped: every trial fails alike, or a disk is full.
        KeyboardInterrupt: finished trials are kept, the workers are gone.
    """
    by_key = {job.key: job for job in jobs}
    recorder = Recorder(
        launch.folder,
        job_of=by_key.__getitem__,
        observers=observers,
        breaker=Breaker(
            variants=(name for job in jobs for name in job.variants), proven=_has_trained(launch)
        ),
        deadline=deadline,
    )
    _fit(
        launch.resources,
        recorder,
        param_space={"trial": ray_tune.grid_search([launch.config(job) for job in jobs])},
        reuse_actors=reuse_gangs,
    )
    return recorder.given_up


def run_round(
    study: Study,
    current: Round,
    *,
    launch: Launch,
    dataset: TokenDataset,
    observers: Sequence[Observer],
    deadline: float | None = None,
) -> dict[str, str]:
    """Searches one round of the study's tuning, or what is left of it.

    Returns, raises: as `run_trials`, but by the trials' names.
    """
    search = LoggedSearch(
        study,
        current,
        launch=launch,
        data_sha256=dataset.manifest.sha256,
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
            earlier=earlier_runs(launch.folder, search.log.events(), current),
        )
    recorder = Recorder(
        launch.folder,
        job_of=search.jobs.__getitem__,
        observers=[search, *observers],
        breaker=Breaker(variants=search.variants, proven=_has_trained(launch)),
        deadline=deadline,
    )
    search.write, search.has_told_ends = recorder.write, recorder.has_told_ends
    _fit(
        launch.resources,
        recorder,
        param_space={},
        search_alg=search,
        scheduler=scheduler,
        num_samples=-1,
    )
    return {search.jobs[key].name: cause for key, cause in recorder.given_up.items()}


def _has_trained(launch: Launch) -> bool:
    """Whether this code has brought a trial of this study to an end before."""
    return any(
        event.code_sha256 == code_sha256()
        for path in launch.folder.path.glob("trials/*/outcome.json")
        for event in launch.folder.trial(path.parent.name).attempts()
        if isinstance(event, AttemptBegan)
    )


class _End(ray_tune.Stopper):  # type: ignore[misc]
    """Asks the recorder whether a trial, or all of them, should end; and the cluster for room.

    A trial that found no room would wait for ever, without a word of Ray's.
    """

    def __init__(self, recorder: Recorder, resources: ResourcesConfig) -> None:
        self.recorder, self.resources = recorder, resources
        self.grows = resources.max_concurrent_trials is not None
        self.had_room = time.monotonic()
        self.looked = 0.0

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.recorder.wants_stop(trial_id, result)

    def stop_all(self) -> bool:
        now = time.monotonic()
        if not self.grows and now - self.looked > LOOK_FOR_ROOM_S:
            self.looked = now
            if self.recorder.attempts or fits(self.resources, capacity()):
                self.had_room = now
            elif now - self.had_room > NO_ROOM_S:
                self.recorder.end(
                    f"no trial has room any more: {capacity()}, and one needs "
                    f"{self.resources.workers} worker(s) of {self.resources.cpus_per_worker} "
                    "core(s): run the same command again with more nodes, or with --set "
                    "resources.workers=1; what was trained is kept"
                )
        return self.recorder.wants_end()


LOOK_FOR_ROOM_S, NO_ROOM_S = 5.0, 60.0
"""A node that is lost may come back within a minute. A cluster that grows on demand is told by
`max_concurrent_trials`, and waited for."""


def _fit(
    resources: ResourcesConfig,
    recorder: Recorder,
    *,
    param_space: dict[str, Any],
    **tune_options: Any,
) -> None:
    """Runs Ray Tune with gangs of this size.

    Never more trials at once than fit: Ray starts the trials that wait for room in any order, while
    whole pairs should come first, and a searcher must not be asked before it has been told. Whoever
    has a cluster that grows on demand sets the number.

    Ray tries a failed trial again; its workers find the newest checkpoint themselves, because the
    next run of the driver must find it as well, and Ray's own records would have to be unpickled.
    """
    # Tune gives its trials a variable for PyTorch Lightning. Without it they need no environment of
    # their own, and Ray starts them, and the workers that inherit it, without asking its agent.
    class_cache.DEFAULT_ENV_VARS.clear()
    bundle = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    trainable = ray_tune.with_resources(
        TrialTrainable, ray_tune.PlacementGroupFactory([{}] + [bundle] * resources.workers)
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # as above: trials that failed
    scratch = tempfile.mkdtemp(prefix="optbench-tune-")
    try:
        ray_tune.Tuner(
            trainable,
            param_space=param_space,
            tune_config=ray_tune.TuneConfig(
                max_concurrent_trials=resources.max_concurrent_trials
                or gangs_that_fit(resources, capacity()),
                **{"reuse_actors": True, **tune_options},
            ),
            run_config=ray_tune.RunConfig(
                storage_path=scratch,
                verbose=0,
                callbacks=[recorder],
                stop=_End(recorder, resources),
                failure_config=ray_tune.FailureConfig(max_failures=resources.max_failures - 1),
                checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        recorder.close()
    if recorder.fault is not None:
        raise recorder.fault
