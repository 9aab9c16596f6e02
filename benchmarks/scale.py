"""How a study grows: trials that train nothing through a real Ray Tune, and made-up results.

    python benchmarks/scale.py                          # 10, 100, 1,000 trials; 10,000 made up
    python benchmarks/scale.py --trials 100 --nodes 8   # on simulated nodes
    python benchmarks/scale.py --json > docs/figures/scale.json

Trials: the driver, the recorder, the files and Ray's actors are the real ones; only the gang is
replaced by one that answers at once, with 5 reports and an outcome. Compared with Ray Tune alone:
the same trainable, its results thrown away. 16 at once, as in Ray's own benchmark of the same.
Shown are trials a second from the first start to the last end, memory (RSS) of the driver before
and after, and per turn of Tune's loop its wall time and the processor time that it took.

Results: a folder of made-up outcomes with 7 reports each, then the plan, all files read, the
analysis, the report, and the first sync into an empty SQLite, one after another in one process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer

from harness.runs.folder import StudyFolder
from harness.study.load import load_study
from harness.study.plan import expand
from harness.training.records import Outcome, Report
from tune.gangs.trainable import TrialTrainable
from tune.job import Job, Launch

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "studies" / "quickstart.toml"
AT_ONCE = 16  # trials, https://docs.ray.io/en/latest/tune/tutorials/tune-scalability.html
STEPS = (0, 20, 40, 60, 80)
MADE_UP = {10: (2, 5), 100: (4, 25), 1000: (10, 100), 10_000: (20, 500)}  # variants, seeds
MOST_SYNCED = 1000  # trials: the sync grows with them alone, and takes minutes for more


class NoTraining:
    """A gang that answers at once."""

    def __init__(self, *, num_workers: int, cpus: int, gpus: int) -> None:
        self.shape = (num_workers, cpus, gpus)

    def start(self, trial: dict[str, Any]) -> dict[str, Any]:
        answers = [{"report": a_report(step).model_dump(mode="json")} for step in STEPS]
        end = Outcome(outcome="completed", step=STEPS[-1], validation_loss=3.2, wall_time_s=1.0)
        self.answers = iter([*answers, {"outcome": end.model_dump(mode="json")}])
        return {}

    def advance(self) -> dict[str, Any]:
        return next(self.answers)

    def kill(self) -> None:
        """Nothing runs."""


class TrainsNothing(TrialTrainable):
    def setup(self, config: dict[str, Any]) -> None:
        place = config["trial"]["resources"]
        self.gang = self.gang or NoTraining(  # type: ignore[assignment]
            num_workers=place["workers"],
            cpus=place["cpus_per_worker"],
            gpus=place["gpus_per_worker"],
        )
        super().setup(config)


def a_report(step: int) -> Report:
    """As large as one of the quickstart's."""
    return Report(
        step=step,
        tokens=2048 * step,
        train_loss=3.3456789,
        validation_loss=3.2345678,
        validation_accuracy=0.2345678,
        learning_rate=0.0123456,
        gradient_norm=1.2345678,
        train_time_s=12.345678,
        step_time_s=0.1234567,
        tokens_per_s=16543.21,
        evaluation_time_s=1.2345678,
        startup_time_s=2.3456789,
        peak_memory_bytes=734003200,
        router_load=[[0.125] * 8] * 4,
        dead_experts=0,
        counters={"newton_schulz_calls": 240.0, "optimizer_steps": 20.0, "bytes_sent": 1e9},
    )


class Loop:
    """Times the turns of Tune's loop."""

    def __init__(self) -> None:
        self.wall_s: list[float] = []
        self.processor_s: list[float] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        from ray.tune.execution.tune_controller import TuneController

        step = TuneController.step

        def timed(controller: Any) -> None:
            wall, processor = time.perf_counter(), time.thread_time()
            step(controller)
            self.wall_s.append(time.perf_counter() - wall)
            self.processor_s.append(time.thread_time() - processor)

        TuneController.step = timed
        try:
            yield
        finally:
            TuneController.step = step


class Ends:
    """An observer that counts."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0
        self.trials = 0

    def trial_started(self, job: Job) -> None:
        self.started = self.started or time.perf_counter()

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        assert outcome.outcome == "completed", outcome.reason
        self.ended, self.trials = time.perf_counter(), self.trials + 1

    def trial_reported(self, key: str, report: Report) -> None: ...
    def attempt_failed(self, key: str, cause: str) -> None: ...
    def trial_given_up(self, key: str, cause: str) -> None: ...


def jobs_for(trials: int) -> tuple[list[Job], Any]:
    seeds = list(range((trials + 1) // 2))
    study = load_study(STUDY, [f"seeds.confirmation={seeds}", "resources.workers=1"])
    specs = list(expand(study, "0" * 64).values())[:trials]
    jobs = [Job(spec=spec, variants=("adamw",), detail=f"seed {spec.seed}") for spec in specs]
    resources = study.resources.model_copy(update={"max_concurrent_trials": AT_ONCE})
    return jobs, study.model_copy(update={"resources": resources})


def our_trials(trials: int, folder: Path) -> dict[str, float]:
    """All of it: reports and outcomes in files, and told to an observer."""
    import tune.driver

    tune.driver.TrialTrainable = TrainsNothing  # type: ignore[misc]
    jobs, study = jobs_for(trials)
    ends, loop = Ends(), Loop()
    before, begun = rss_bytes(), time.perf_counter()
    launch = Launch(
        folder=StudyFolder(folder / "study"),
        dataset_path=folder / "no data",
        resources=study.resources,
        checkpoints=study.checkpoints,
    )
    with loop.watched():
        tune.driver.run_trials(jobs, launch=launch, observers=[ends])
    assert ends.trials == trials, ends.trials
    return {
        **rates(trials, loop, ends.ended - ends.started),
        "wall_s": time.perf_counter() - begun,
        "memory_before_bytes": before,
        "memory_bytes": rss_bytes(),
    }


def bare_trials(trials: int, folder: Path) -> dict[str, float]:
    """The same trainable under Ray Tune, and nobody who listens."""
    from ray import tune as ray_tune

    jobs, study = jobs_for(trials)
    launch = Launch(
        folder=StudyFolder(folder / "study"),
        dataset_path=folder / "no data",
        resources=study.resources,
        checkpoints=study.checkpoints,
    )
    loop, first = Loop(), first_start()
    bundles = ray_tune.PlacementGroupFactory([{}, {"CPU": 1}])
    with loop.watched():
        ray_tune.Tuner(
            ray_tune.with_resources(TrainsNothing, bundles),
            param_space={"trial": ray_tune.grid_search([launch.config(job) for job in jobs])},
            tune_config=ray_tune.TuneConfig(max_concurrent_trials=AT_ONCE, reuse_actors=True),
            run_config=ray_tune.RunConfig(
                storage_path=str(folder / "tune"),
                verbose=0,
                callbacks=[first],
                checkpoint_config=ray_tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    return rates(trials, loop, time.perf_counter() - first.started)


def rates(trials: int, loop: Loop, seconds: float) -> dict[str, float]:
    turns = np.array(loop.wall_s)
    return {
        "trials_per_s": trials / seconds,
        "turns": len(turns),
        "turn_median_s": float(np.median(turns)),
        "turn_p99_s": float(np.quantile(turns, 0.99)),
        "turn_longest_s": float(turns.max()),
        "loop_processor_s_per_trial": sum(loop.processor_s) / trials,
    }


def first_start() -> Any:
    from ray import tune as ray_tune

    class First(ray_tune.Callback):  # type: ignore[misc]
        started = 0.0

        def on_trial_start(self, **_: Any) -> None:
            self.started = self.started or time.perf_counter()

    return First()


def rss_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def made_up(trials: int, folder: Path) -> dict[str, float]:
    """Seconds of each stage from a plan to MLflow, also of processor time, and the memory."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from made_up import DATA_SHA256, MadeUpStudy

    from harness.analysis.study_analysis import analyse_study
    from harness.report.write import write_report
    from harness.runs.plan_file import freeze
    from harness.runs.snapshot import load_snapshot
    from harness.study.plan import make_plan
    from harness.tracking.tracker import Tracker

    variants, seeds = MADE_UP[trials]
    rates = np.geomspace(0.002, 0.2, variants - 1)
    optimizers = {f"muon-{n}": {"kind": "muon", "lr": float(lr)} for n, lr in enumerate(rates)}
    study = MadeUpStudy(
        variants={"adamw": {"kind": "adamw", "lr": 0.004}, **optimizers},
        effects={f"muon-{n}": -0.01 * n for n in range(variants - 1)},
        seeds=tuple(range(seeds)),
        every=20,
        name="scale",
    )
    without_fsync(lambda: study.write(folder / "runs"))
    made = StudyFolder(folder / "runs" / "scale")
    seconds: dict[str, float] = {}

    def stage(name: str, work: Callable[[], Any]) -> Any:
        begin, processor = time.perf_counter(), time.process_time()
        result = work()
        seconds[f"{name}_s"] = time.perf_counter() - begin
        seconds[f"{name}_processor_s"] = time.process_time() - processor
        return result

    plan = stage("plan", lambda: make_plan(study.study(), DATA_SHA256))
    source = folder / "runs" / "source.toml"
    stage("freeze", lambda: freeze(StudyFolder(folder / "again"), plan, source=source))
    stage("read", lambda: load_snapshot(made))
    results = stage("analysis", lambda: analyse_study(made))
    stage("report", lambda: write_report(results))
    if trials <= MOST_SYNCED:
        database = f"sqlite:///{folder / 'mlflow.db'}"
        stage("sync", lambda: Tracker(made, database).sync(results))
    return {**seconds, "memory_bytes": rss_bytes()}


def without_fsync(work: Callable[[], Any]) -> None:
    """What is made up need not survive a power cut."""
    fsync, os.fsync = os.fsync, lambda _: None
    try:
        work()
    finally:
        os.fsync = fsync


KINDS = {"ours": our_trials, "bare": bare_trials, "results": made_up}


def main(
    trials: Annotated[list[int], typer.Option(help="how many, several times")] = [10, 100, 1000],  # noqa: B006
    results: Annotated[list[int], typer.Option(help="made-up trials")] = [*MADE_UP],  # noqa: B006
    nodes: Annotated[int, typer.Option(help="simulated nodes; 0: a local Ray")] = 0,
    as_json: Annotated[bool, typer.Option("--json")] = False,
    one: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    if one:
        kind, count = one.split(":")
        print(json.dumps(measure(kind, int(count), nodes)))
        return
    measured = {
        kind: {str(count): in_a_process(kind, count, nodes) for count in counts}
        for kind, counts in (("ours", trials), ("bare", trials), ("results", results))
    }
    if as_json:
        print(json.dumps({"nodes": nodes, "cores": os.cpu_count(), **measured}, indent=1))
        return
    for kind, by_count in measured.items():
        for count, values in by_count.items():
            print(f"{kind} {count}: " + ", ".join(f"{k} {v:.4g}" for k, v in values.items()))


def in_a_process(kind: str, count: int, nodes: int) -> dict[str, float]:
    """Of its own, so that memory is that of this run."""
    command = [sys.executable, __file__, "--one", f"{kind}:{count}", "--nodes", str(nodes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{kind} {count}: {values}", file=sys.stderr)
    return values


def measure(kind: str, count: int, nodes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        if kind == "results":
            return made_up(count, Path(folder))
        with a_ray(nodes):
            return KINDS[kind](count, Path(folder))


@contextmanager
def a_ray(nodes: int) -> Iterator[None]:
    """With cores for all trials at once, whatever the machine has."""
    import ray
    from ray.cluster_utils import Cluster

    from tune.cluster.local_ray import lean

    quiet = {"log_to_driver": False, "logging_level": "error"}
    if not nodes:
        with lean():
            ray.init("local", num_cpus=AT_ONCE, include_dashboard=False, **quiet)
        yield
        ray.shutdown()
        return
    cluster = Cluster()
    for _ in range(nodes):
        cluster.add_node(num_cpus=AT_ONCE / nodes, include_dashboard=False)
    ray.init(cluster.address, **quiet)
    yield
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    typer.run(main)
