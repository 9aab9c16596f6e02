"""What `optbench run` does: search, confirm, conclude, each from what the files already hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.config import Study, TrialSpec
from harness.data import TokenDataset
from harness.journal import Journal, Suggested
from harness.planning import twins_sentence
from harness.progress import Label, Progress
from harness.results import StudyFolder
from harness.study import Plan, expand, load_plan, settled

if TYPE_CHECKING:
    from harness.tuning.rounds import Round

TRAINED_AGAIN = ("failed", "out_of_memory")


class Execution:
    """One run of a study: connects to Ray when the first trial must be trained, and only then."""

    def __init__(
        self,
        study: Study,
        *,
        folder: StudyFolder,
        dataset: TokenDataset,
        console: Console,
        address: str | None,
    ) -> None:
        self.study, self.folder, self.dataset = study, folder, dataset
        self.console, self.address = console, address
        self._environment: threading.Thread | None = None  # set once Ray is there

    def tune(self) -> None:
        """Searches, round after round, until every variant's settings are chosen."""
        if self.study.tuning is None:
            return
        from harness.tuning.rounds import next_round
        from harness.tuning.tables import render_tuning

        while (current := next_round(self.study, self.folder)) is not None:
            self._search(current)
        self.console.print(render_tuning(self.folder))

    def confirm(self, *, retry_failed: bool) -> None:
        """Trains the confirmation trials that are missing, up to each look."""
        study = settled(self.study, Journal(self.folder.path).events())
        specs = expand(study, self.dataset.manifest.sha256)
        plan = load_plan(self.folder)
        for names in plan.twins():
            self.console.print(f"{twins_sentence(names)}.", soft_wrap=True)
        for wanted in wanted_keys(self.study, plan, self.folder):
            missing = {}
            for key in wanted:
                outcome = self.folder.trial(key).outcome()
                if outcome is None or (retry_failed and outcome.outcome in TRAINED_AGAIN):
                    missing[key] = specs[key]
            if missing:
                self._train(missing, plan)
            else:
                self.console.print(f"All {len(wanted)} trials are done: nothing to train.")

    def _train(self, missing: Mapping[str, TrialSpec], plan: Plan) -> None:
        labels = {
            key: Label(tuple(plan.names(key)), f"seed {spec.seed}") for key, spec in missing.items()
        }
        keys = {trial.key for trial in plan.trials if trial.phase == "confirmation"}
        done = len(keys) - len(missing)
        self._announce(len(missing), done, "to train")
        with Progress(
            total=len(keys), already_done=done, label=labels.__getitem__, console=self.console
        ) as progress:
            from tune.driver import run_trials

            self._connect(next(iter(missing.values())))
            with self._told_of_interruption(progress):
                run_trials(
                    missing,
                    folder=self.folder,
                    dataset_path=self.dataset.path,
                    observers=[progress],
                    max_concurrent_trials=self.study.resources.max_concurrent_trials,
                )

    def _search(self, current: Round) -> None:
        from harness.tuning.labels import search_labels

        study, journal = self.study, Journal(self.folder.path)
        suggested = [
            event
            for event in journal.events()
            if isinstance(event, Suggested) and event.round == current.index
        ]
        keys = {key for event in suggested for key in event.keys.values()}
        done = sum(self.folder.trial(key).outcome() is not None for key in keys)

        def label(key: str) -> Label:
            return search_labels(self.folder)[key]

        total = current.trials * len(study.variants) * len(study.seeds.tuning)
        self._announce(total - done, done, f"of the search, round {current.index + 1},")
        with Progress(
            total=total, already_done=done, label=label, console=self.console
        ) as progress:
            from tune.driver import run_round

            self._connect(next(iter(expand(study, self.dataset.manifest.sha256).values())))
            with self._told_of_interruption(progress):
                run_round(
                    study,
                    current,
                    folder=self.folder,
                    dataset=self.dataset,
                    observers=[progress],
                )

    def _announce(self, missing: int, done: int, what: str) -> None:
        self.console.print(
            f"{self.study.name}: {missing} trials {what} ({done} done), "
            f"{self.study.resources.workers} worker(s) each"
        )

    def _connect(self, spec: TrialSpec) -> None:
        """Joins or starts Ray once, checks that a gang fits, and notes the environment."""
        from tune.driver import check_fits, connect

        if self._environment is None:
            check_fits(spec, connect(self.address))
            self._environment = threading.Thread(
                target=_write_environment, args=(self.folder,), daemon=True
            )
            self._environment.start()

    @contextmanager
    def _told_of_interruption(self, progress: Progress) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.console.print(
                f"[yellow]interrupted[/]: {progress.done} of {progress.total} trials are finished "
                "and kept; run the same command again to go on",
                soft_wrap=True,
            )
            raise
        assert self._environment is not None, "Ray is connected before the first trial"
        self._environment.join()


def wanted_keys(study: Study, plan: Plan, folder: StudyFolder) -> Iterator[list[str]]:
    """Keys of the trials up to each look; after a look, only those of undecided variants.

    Every list is asked for when the trials of the one before have outcomes.
    """
    looks, seeds = study.analysis.looks, study.seeds.confirmation
    wanted = {variant.name: (looks or (None,))[0] for variant in study.variants}
    while wanted:
        yield list(
            dict.fromkeys(
                trial.key
                for trial in plan.trials
                if trial.phase == "confirmation"
                and trial.variant in wanted
                and trial.seed in seeds[: wanted[trial.variant]]
            )
        )
        wanted = _wanted_after_look(folder) if looks else {}


def _wanted_after_look(folder: StudyFolder) -> dict[str, int | None]:
    from harness.report import analyse_study

    analysis = analyse_study(folder)
    return {} if analysis is None else dict(analysis.seeds_wanted())


def _write_environment(folder: StudyFolder) -> None:
    from harness.environment import collect
    from harness.results import write_json

    write_json(folder.environment_path, collect())


def conclude(
    folder: StudyFolder,
    console: Console,
    tracking_uri: str | None,
    *,
    horizons: Sequence[StudyFolder] = (),
) -> None:
    """From the files to the analysis, MLflow and the report.

    Args:
        horizons: studies of the same baseline at other lengths, see `harness.report.build`.
    """
    from harness import report
    from harness.tracking import Tracker, TrackingUnavailable

    analysis = report.analyse_study(folder)
    page = report.build(folder, horizons=horizons)
    console.print(report.render_terminal(folder, analysis))
    try:
        Tracker(folder, tracking_uri).sync()
    except TrackingUnavailable as error:
        console.print(
            f"[yellow]MLflow was left out[/]: {error}. `optbench report` writes it later."
        )
    console.print(f"Report:    {page}", soft_wrap=True)
    server = f"at {tracking_uri}" if tracking_uri else f"optbench ui --runs-dir {_shown(folder)}"
    console.print(f"MLflow UI: {server}", soft_wrap=True)


def _shown(folder: StudyFolder) -> str:
    """The runs folder as one would type it here."""
    parent = folder.path.parent
    return str(parent.relative_to(Path.cwd()) if parent.is_relative_to(Path.cwd()) else parent)
