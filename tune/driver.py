"""The driver: gives training runs to Ray Tune, those of a confirmation or those of a search."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ray import tune as ray_tune
from ray.tune.execution import class_cache
from ray.tune.search import Searcher

from harness.data import TokenDataset
from harness.runs.attempts import AttemptBegan
from harness.study.code_version import code_sha256
from harness.study.study_file import Study
from tune.cluster.neighbours import present
from tune.cluster.room import Room, look
from tune.gangs.trainable import TrialTrainable
from tune.job import Job, Launch
from tune.queue import InOrder, JobQueue, Limited
from tune.recording.breaker import Breaker
from tune.recording.observers import Observer
from tune.recording.recorder import Recorder
from tune.search.halving import HalvingWithinVariants, earlier_runs
from tune.search.rounds import Round
from tune.search.searcher import LoggedSearch


def _nothing(what: str) -> None:
    """For those who do not listen."""


def run_trials(
    jobs: Sequence[Job],
    *,
    launch: Launch,
    observers: Sequence[Observer],
    deadline: float | None = None,
    say: Callable[[str], None] = _nothing,
    reuse_gangs: bool = True,
) -> dict[str, str]:
    """Trains every given run; each report and outcome is on disk before anyone hears of it.

    Args:
        deadline: by `time.monotonic`, after which trials are stopped and stay open.
        say: told why trials wait, and when the share of a cluster changes.

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
    _fit(launch, recorder, JobQueue(jobs, launch), say=say, reuse_gangs=reuse_gangs)
    return recorder.given_up


def run_round(
    study: Study,
    current: Round,
    *,
    launch: Launch,
    dataset: TokenDataset,
    observers: Sequence[Observer],
    deadline: float | None = None,
    say: Callable[[str], None] = _nothing,
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
    _fit(launch, recorder, search, say=say, scheduler=scheduler)
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

    def __init__(self, recorder: Recorder, room: Room) -> None:
        self.recorder, self.room = recorder, room

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, see `Recorder`."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.recorder.wants_stop(trial_id, result)

    def stop_all(self) -> bool:
        if (lacking := self.room.lacking(under_way=bool(self.recorder.attempts))) is not None:
            self.recorder.end(lacking)
        return self.recorder.wants_end()


def _fit(
    launch: Launch,
    recorder: Recorder,
    searcher: Searcher,
    *,
    say: Callable[[str], None],
    scheduler: InOrder | None = None,
    reuse_gangs: bool = True,
) -> None:
    """Runs Ray Tune with gangs of this size, as many at once as the cluster has room for.

    Ray tries a failed trial again; its workers find the newest checkpoint themselves, because the
    next run of the driver must find it as well, and Ray's own records would have to be unpickled.
    """
    # Tune gives its trials a variable for PyTorch Lightning. Without it they need no environment of
    # their own, and Ray starts them, and the workers that inherit it, without asking its agent.
    class_cache.DEFAULT_ENV_VARS.clear()
    resources = launch.resources
    bundle = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    gang = ray_tune.PlacementGroupFactory(
        [{}] + [bundle] * resources.workers, strategy=resources.placement.upper()
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # trials that failed: we say why
    scratch = tempfile.mkdtemp(prefix="optbench-tune-")
    try:
        with present(launch.folder.path.name) as name:
            room = Room(resources, see=partial(look, name), say=say)
            ray_tune.Tuner(
                ray_tune.with_resources(TrialTrainable, gang),
                tune_config=ray_tune.TuneConfig(
                    search_alg=Limited(searcher, room.limit),
                    scheduler=scheduler or InOrder(),
                    num_samples=-1,
                    reuse_actors=reuse_gangs,
                ),
                run_config=ray_tune.RunConfig(
                    storage_path=scratch,
                    verbose=0,
                    callbacks=[recorder],
                    stop=_End(recorder, room),
                    failure_config=ray_tune.FailureConfig(max_failures=resources.max_failures - 1),
                    checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        recorder.close()
    if recorder.fault is not None:
        raise recorder.fault
