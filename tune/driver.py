"""The driver: gives to Ray Tune what one study trains, or several tasks through one queue."""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from ray import tune as ray_tune
from ray.tune.execution import class_cache

from harness.data import TokenDataset
from harness.runs.attempts import AttemptBegan
from harness.study.code_version import code_sha256
from harness.study.placement import ResourcesConfig
from harness.study.study_file import Study
from tune.cluster.neighbours import present
from tune.cluster.room import Room, look
from tune.confirmation import confirmation_batches
from tune.courses import Course, Courses, Stage
from tune.gangs.trainable import TrialTrainable
from tune.job import Job, Launch
from tune.queue import JobQueue, Limited, StoppedEarly
from tune.recording.breaker import Breaker
from tune.recording.observers import Observer
from tune.recording.recorder import Recorder
from tune.recording.trial_files import HoldsTrials
from tune.search.halving import HalvingWithinVariants, earlier_runs
from tune.search.rounds import Round, next_round
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
    variants = (name for job in jobs for name in job.variants)
    course = course_of([listed_stage(jobs, launch)], launch=launch, variants=variants)
    run_courses(
        [course],
        folder=launch.folder,
        resources=launch.resources,
        observers=observers,
        deadline=deadline,
        say=say,
        reuse_gangs=reuse_gangs,
    )
    return course.given_up


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
    stage = search_stage(study, current, launch=launch, dataset=dataset)
    variants = (variant.name for variant in study.searched)
    course = course_of([stage], launch=launch, variants=variants)
    run_courses(
        [course],
        folder=launch.folder,
        resources=launch.resources,
        observers=observers,
        deadline=deadline,
        say=say,
    )
    return {course.open[key]: cause for key, cause in course.given_up.items()}


def listed_stage(jobs: Sequence[Job], launch: Launch) -> Stage:
    """Trials that are all known."""
    return Stage(searcher=JobQueue(jobs, launch), jobs={job.key: job for job in jobs})


def search_stage(study: Study, current: Round, *, launch: Launch, dataset: TokenDataset) -> Stage:
    """One round of the study's tuning, or what is left of it."""
    search = LoggedSearch(
        study,
        current,
        launch=launch,
        data_sha256=dataset.manifest.sha256,
        # A uniform guess over the vocabulary.
        worst_loss=math.log(dataset.vocab_size),
    )
    assert study.tuning is not None, "only a study with [tuning] searches"
    halving = None
    if study.tuning.asha is not None:
        halving = HalvingWithinVariants(
            study.tuning.asha,
            steps=study.tuning.steps or study.training.steps,
            variants=search.variants,
            earlier=earlier_runs(launch.folder, search.log.events(), current),
        )
    return Stage(searcher=search, jobs=search.jobs, halving=halving)


def study_stages(
    study: Study,
    *,
    launch: Launch,
    dataset: TokenDataset,
    retry_failed: bool = False,
    code: str | None = None,
) -> Iterator[Stage]:
    """All that a study trains and that is missing: its search, then what measures, look by look.

    Args:
        retry_failed, code: see `confirmation_batches`.

    Raises:
        UserError: its analysis cannot be applied at a look.
    """
    if study.tuning is not None:
        while (current := next_round(study, launch.folder)) is not None:
            yield search_stage(study, current, launch=launch, dataset=dataset)
    batches = confirmation_batches(study, launch.folder, retry_failed=retry_failed, code=code)
    for batch in batches:
        if batch.missing:
            yield listed_stage(batch.missing, launch)


def course_of(stages: Iterable[Stage], *, launch: Launch, variants: Iterable[str]) -> Course:
    """What is trained of one study, in a run of one or several."""
    breaker = Breaker(variants=variants, proven=_has_trained(launch))
    return Course(task=launch.task, stages=iter(stages), breaker=breaker)


def run_courses(
    courses: Sequence[Course],
    *,
    folder: HoldsTrials,
    resources: ResourcesConfig,
    observers: Sequence[Observer],
    deadline: float | None = None,
    say: Callable[[str], None] = _nothing,
    reuse_gangs: bool = True,
) -> None:
    """Trains what all courses name, in one queue: the cluster stays full while any has a trial.

    What came of each stands in the course itself: what is still open, what was given up, and why it
    was set aside.

    Args:
        folder: of the study, or of the suite whose tasks these are.
        resources: of every trial.
        observers, deadline, say: as `run_trials`.

    Raises:
        StudyStopped: every trial of every course fails alike, or a disk is full.
        KeyboardInterrupt: finished trials are kept, the workers are gone.
    """
    queue = Courses(courses, say=say)
    recorder = Recorder(
        folder,
        job_of=queue.jobs.__getitem__,
        observers=[queue, *observers],
        breakers={course.task: course.breaker for course in courses},
        deadline=deadline,
    )
    queue.write, queue.has_told_ends = recorder.write, recorder.has_told_ends
    queue.fault_of = recorder.fault_of
    try:
        _fit(folder.path.name, resources, recorder, queue, say=say, reuse_gangs=reuse_gangs)
    finally:
        for course in courses:
            course.error = course.error or recorder.fault_of(course.task)


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
    name: str,
    resources: ResourcesConfig,
    recorder: Recorder,
    queue: Courses,
    *,
    say: Callable[[str], None],
    reuse_gangs: bool,
) -> None:
    """Runs Ray Tune with gangs of this size, as many at once as the cluster has room for.

    Ray tries a failed trial again; its workers find the newest checkpoint themselves, because the
    next run of the driver must find it as well, and Ray's own records would have to be unpickled.
    """
    # Tune gives its trials a variable for PyTorch Lightning. Without it they need no environment of
    # their own, and Ray starts them, and the workers that inherit it, without asking its agent.
    class_cache.DEFAULT_ENV_VARS.clear()
    bundle = {"CPU": resources.cpus_per_worker, "GPU": resources.gpus_per_worker}
    gang = ray_tune.PlacementGroupFactory(
        [{}] + [bundle] * resources.workers, strategy=resources.placement.upper()
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # trials that failed: we say why
    scratch = tempfile.mkdtemp(prefix="optbench-tune-")
    try:
        with present(name) as known_as:
            room = Room(resources, see=partial(look, known_as), say=say)
            ray_tune.Tuner(
                ray_tune.with_resources(TrialTrainable, gang),
                tune_config=ray_tune.TuneConfig(
                    search_alg=Limited(queue, room.limit),
                    scheduler=StoppedEarly(queue.halving_of),
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
