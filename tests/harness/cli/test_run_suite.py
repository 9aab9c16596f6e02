"""`optbench run` with a suite, real Ray and Ctrl-C: one task searches, the other one measures."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.runs.plan_file import load_plan
from harness.runs.search_log import Chosen, SearchLog, Suggested
from harness.runs.suite_folder import SuiteFolder
from harness.runs.suite_plan import load_suite_plan
from harness.study.plan import expand
from harness.study.suite_file import load_suite

# Every best value lies at an edge, so the spaces are widened once: a point more of each variant.
TUNED = """
tuning.trials = 2
tuning.searcher = "random"
tuning.extend = true
tuning.max_extensions = 1
tuning.edge_fraction = 0.49
seeds = { tuning = [100] }
variants.adamw.space = { lr = { kind = "loguniform", low = 0.001, high = 0.01 } }
variants.muon.space = { lr = { kind = "loguniform", low = 0.01, high = 0.1 } }
"""


@dataclass(frozen=True)
class Course:
    file: Path
    folder: SuiteFolder
    interrupted: str
    exit_code: int
    kept: dict[Path, int]
    finished: str

    def outcomes(self, task: str) -> dict[Path, int]:
        return outcomes(self.folder.path / "tasks" / task)


def outcomes(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("outcome.json")}


@pytest.fixture(scope="module")
def course(suite_text: str, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Ctrl-C after outcomes of both tasks, then a run to the end."""
    root = tmp_path_factory.mktemp("suite")
    file, runs = root / "tiny-suite.toml", root / "runs"
    file.write_text(suite_text.replace('name = "plain"\n', 'name = "plain"\n' + TUNED))
    command = [sys.executable, "-m", "harness", "run", str(file), "--runs-dir", str(runs)]
    first = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )
    deadline = time.monotonic() + 300
    while len({path.parts[-4] for path in runs.rglob("outcome.json")}) < 2:
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    printed, _ = first.communicate(timeout=60)
    kept = outcomes(runs)
    second = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert second.returncode == 0, second.stdout[-3000:] + second.stderr[-3000:]
    return Course(
        file=file,
        folder=SuiteFolder(runs / "tiny-suite"),
        interrupted=printed,
        exit_code=first.returncode,
        kept=kept,
        finished=second.stdout,
    )


def _heed_ctrl_c() -> None:
    """A shell starts its background jobs deaf to Ctrl-C, and their children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupted_suite_keeps_what_has_ended_and_goes_on(course: Course) -> None:
    assert course.exit_code == 130, course.interrupted
    assert "trials are finished and kept" in course.interrupted
    now = outcomes(course.folder.path)
    assert course.kept.items() <= now.items(), "what had ended was trained again"
    assert len(now) > len(course.kept), "there was nothing left to do"


def test_while_one_task_searches_the_other_one_trains(course: Course) -> None:
    """Otherwise the outcomes of the second task would all come after those of the first."""
    assert {path.parts[-4] for path in course.kept} == {"plain", "long"}
    events = SearchLog(course.folder.task("plain").path).events()
    chosen = [event for event in events if isinstance(event, Chosen)]
    assert len(chosen) == 2
    assert len(course.kept) < 6 + 6, "interrupted before the search was over and all measured"


def test_what_a_person_sees_counts_the_trials_of_widened_spaces_too(course: Course) -> None:
    total = len(outcomes(course.folder.path))
    counted = re.findall(r"^\[(\d+)/(\d+)\]", course.finished, flags=re.MULTILINE)
    assert counted[-1] == (str(total), str(total))


def test_each_task_is_a_study_of_its_own_with_the_trials_that_it_would_have_alone(
    course: Course,
) -> None:
    suite = load_suite(course.file)
    plan = load_suite_plan(course.folder)
    assert [task.name for task in plan.tasks] == ["plain", "long"]
    long = course.folder.task("long")
    frozen = load_plan(long)
    assert {path.parent.name for path in course.outcomes("long")} == set(
        expand(suite.tasks[1].study, frozen.data_sha256)
    )
    searched = SearchLog(course.folder.task("plain").path).events()
    drawn = {k for e in searched if isinstance(e, Suggested) for k in e.keys.values()}
    assert len(drawn) == 6
    assert len(course.outcomes("plain")) == 6 + 6
    for task in plan.tasks:
        folder = course.folder.task(task.name)
        for name in ("analysis.json", "report/index.html", "environment.json", "data.json"):
            assert (folder.path / name).exists(), f"{task.name} has no {name}"
        analysis = json.loads(folder.analysis_path.read_text())
        assert json.dumps(analysis).count('"alpha": 0.025') >= 1


def test_mlflow_holds_an_experiment_for_each_task_beside_those_of_studies(course: Course) -> None:
    with sqlite3.connect(course.folder.path.parent / "mlflow.db") as store:
        names = {name for (name,) in store.execute("SELECT name FROM experiments")}
    assert {"tiny-suite.plain", "tiny-suite.long"} <= names


def test_a_whole_suite_and_one_task_of_it_can_be_asked_how_far_they_are(course: Course) -> None:
    from typer.testing import CliRunner

    from harness.cli.main import app

    runs = ["--runs-dir", str(course.folder.path.parent)]
    asked = CliRunner().invoke(app, ["status", "tiny-suite", "--json", *runs])
    states = {
        task: {row["state"] for row in own["trials"].values()}
        for task, own in json.loads(asked.stdout)["tasks"].items()
    }
    assert states == {"plain": {"completed"}, "long": {"completed"}}
    one = CliRunner().invoke(app, ["status", "tiny-suite/long", "--json", *runs])
    assert json.loads(one.stdout)["study"] == "tiny-suite.long"
