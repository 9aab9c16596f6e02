"""The driver: gives training runs to Ray Tune, those of a confirmation or those of a search."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune as ray_tune
from ray.tune.execution import class_cache

from harness.data import TokenDataset
from harness.runs.folder import StudyFolder
from harness.study.study_file import Study
from tune.capacity import GangSize, gangs_that_fit
from tune.cluster import capacity
from tune.halving import HalvingWithinVariants, earlier_runs
from tune.job import Job
from tune.recorder import Observer, Recorder
from tune.rounds import Round
from tune.search import LoggedSearch
from tune.trainable import TrialTrainable


def run_trials(
    jobs: Sequence[Job],
    *,
    folder: StudyFolder,
    dataset_path: Path,
    observers: Sequence[Observer],
    max_concurrent_trials: int | None,
    reuse_gangs: bool = True,
) -> None:
    """Trains every given run; each report and outcome is on disk before anyone hears of it.

    Raises:
        KeyboardInterrupt: finished trials are kept, the workers are gone.
    """
    by_key = {job.key: job for job in jobs}
    _fit(
        jobs[0].spec,
        Recorder(folder, job_of=by_key.__getitem__, observers=observers),
        param_space={"trial": ray_tune.grid_search([job.config(dataset_path) for job in jobs])},
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
) -> Mapping[str, str]:
    """Searches one round of the study's tuning, or what is left of it.

    Returns:
        training runs that the machines did not let end, with the cause; the round is not over.

    Raises:
        KeyboardInterrupt: finished trials are kept, the workers are gone.
    """
    search = LoggedSearch(
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
            earlier=earlier_runs(folder, search.log.events(), current),
        )
    _fit(
        study.resources,
        Recorder(folder, job_of=search.jobs.__getitem__, observers=[search, *observers]),
        param_space={},
        max_concurrent_trials=study.resources.max_concurrent_trials,
        search_alg=search,
        scheduler=scheduler,
        num_samples=-1,
    )
    return {search.jobs[key].name: cause for key, cause in search.given_up.items()}


def _fit(
    gang: GangSize,
    recorder: Recorder,
    *,
    param_space: dict[str, Any],
    max_concurrent_trials: int | None,
    **tune_options: Any,
) -> None:
    """Runs Ray Tune with gangs of this size.

    Never more trials at once than fit: Ray starts the trials that wait for room in any order, while
    whole pairs should come first, and a searcher must not be asked before it has been told. Whoever
    has a cluster that grows on demand sets the number.
    """
    # Tune gives its trials a variable for PyTorch Lightning. Without it they need no environment of
    # their own, and Ray starts them, and the workers that inherit it, without asking its agent.
    class_cache.DEFAULT_ENV_VARS.clear()
    bundle = {"CPU": gang.cpus_per_worker, "GPU": gang.gpus_per_worker}
    trainable = ray_tune.with_resources(
        TrialTrainable, ray_tune.PlacementGroupFactory([{}] + [bundle] * gang.workers)
    )
    scratch = tempfile.mkdtemp(prefix="optbench-tune-")
    try:
        ray_tune.Tuner(
            trainable,
            param_space=param_space,
            tune_config=ray_tune.TuneConfig(
                max_concurrent_trials=max_concurrent_trials or gangs_that_fit(gang, capacity()),
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
