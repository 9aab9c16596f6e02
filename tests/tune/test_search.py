"""A real search over Ray Tune: Optuna, ASHA, SIGKILL, and the log that continues it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.analysis.search.results import SearchResult
from harness.analysis.search.summary import summarise_search
from harness.data import prepare
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.runs.search_log import Chosen, Ended, SearchLog, Suggested
from harness.runs.snapshot import load_snapshot
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.study_file import Study
from tune.driver import run_round
from tune.job import Launch
from tune.search.rounds import next_round


def search(
    study_file: Path, runs: Path, *overrides: str
) -> tuple[Study, StudyFolder, SearchResult]:
    """Searches to the end, or goes on where the folder's files stop."""
    study = load_study(study_file, overrides)
    dataset = prepare(study.data)
    folder = StudyFolder(runs / study.name)
    freeze(folder, make_plan(study, dataset.manifest.sha256), source=study_file)
    while (current := next_round(study, folder)) is not None:
        run_round(
            study,
            current,
            launch=Launch(
                folder=folder,
                dataset_path=dataset.path,
                resources=study.resources,
                checkpoints=study.checkpoints,
            ),
            dataset=dataset,
            observers=[],
        )
    tuning = summarise_search(load_snapshot(folder))
    assert tuning is not None
    return study, folder, tuning


def ledgers(tuning: SearchResult) -> dict[str, dict[str, object]]:
    """All totals but the hours, which are measured."""
    return {
        name: variant.ledger.model_dump(exclude={"hours"})
        for name, variant in tuning.variants.items()
    }


def test_a_search_killed_halfway_ends_with_the_ledger_of_an_uninterrupted_one(
    searched_file: Path, tmp_path: Path
) -> None:
    _, whole_folder, whole = search(searched_file, tmp_path / "whole")
    _kill_halfway(searched_file, tmp_path / "killed")
    _, folder, resumed = search(searched_file, tmp_path / "killed")

    assert ledgers(resumed) == ledgers(whole)
    # Stronger: every point and every rung follows from the files, so it is the same search.
    assert _course(folder) == _course(whole_folder)
    for variant in whole.variants.values():
        assert variant.ledger.configurations == 8
        assert variant.ledger.stopped > 0, "nothing was stopped: halving was not tested"
        assert variant.ledger.completed > 0
    _check_confirmation_rows(folder)


def _kill_halfway(study_file: Path, runs: Path) -> None:
    command = [sys.executable, "-m", "harness", "run", str(study_file), "--runs-dir", str(runs)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 300
    while len(list(runs.glob("*/trials/*/outcome.json"))) < 7:
        assert process.poll() is None, process.communicate()[0].decode()[-3000:]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = len(list(runs.glob("*/trials/*/outcome.json")))
    assert 7 <= done < 16, "the run was over before it was killed"


def _course(folder: StudyFolder) -> list[tuple[str, ...]]:
    """What was suggested, how it ended and what was chosen, in the order of each variant."""
    events = SearchLog(folder.path).events()
    course = [
        (e.variant, f"{e.index}", e.event, str(e.model_dump()))
        for e in events
        if isinstance(e, Suggested | Ended | Chosen)
    ]
    return sorted(course)


def _check_confirmation_rows(folder: StudyFolder) -> None:
    """The plan that is read now names the chosen settings' trials, on fresh seeds."""
    plan = load_plan(folder)
    seeds = {
        phase: {trial.seed for trial in plan.trials if trial.phase == phase}
        for phase in ("tuning", "confirmation")
    }
    assert seeds == {"tuning": {100}, "confirmation": {0, 1, 2}}
    assert len(plan.trials) == 2 * 8 + 2 * 3


def test_several_trials_at_once_and_several_tuning_seeds_spend_the_same_budget(
    searched_file: Path, tmp_path: Path
) -> None:
    text = searched_file.read_text().replace(
        "max_concurrent_trials = 1", "max_concurrent_trials = 2"
    )
    text = text.replace("asha = {", "# asha = {").replace("trials = 8", "trials = 3")
    searched_file.write_text(text.replace("tuning = [100]", "tuning = [100, 101]"))
    _, _, tuning = search(searched_file, tmp_path, "tuning.searcher=quasi_random")
    for variant in tuning.variants.values():
        assert variant.ledger.training_runs == 6
        assert variant.ledger.tokens == 6 * 6 * 8 * 32
        assert variant.sigma is not None
        assert variant.sigma > 0
        chosen = variant.chosen
        assert chosen is not None
        assert chosen.score == pytest.approx(sum(chosen.losses.values()) / 2)
