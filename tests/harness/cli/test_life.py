"""Following a study: status with --watch, logs of a trial, a request to stop."""

from __future__ import annotations

import json
import platform
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up_attempts import forget_attempts

from harness.cli import life
from harness.cli.main import main
from harness.runs.attempts import AttemptBegan, AttemptEnded, WorkerPlace
from harness.runs.folder import StudyFolder, TrialFolder
from harness.runs.plan_file import load_plan

Write = Callable[..., StudyFolder]
Optbench = Callable[..., tuple[int, str, str]]


@pytest.fixture
def optbench(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Optbench:
    """Runs the command in this process: `(exit code, standard output, standard error)`."""
    monkeypatch.setenv("OPTBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["optbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def folder(made_up_study: Write) -> StudyFolder:
    """muon/0 was cut off after some reports."""
    folder = made_up_study(seeds=(0, 1, 2), unfinished=frozenset({("muon", 0)}))
    forget_attempts(folder)
    return folder


def trial_of(folder: StudyFolder, variant: str, seed: int) -> TrialFolder:
    rows = load_plan(folder).trials
    return folder.trial(next(r.key for r in rows if (r.variant, r.seed) == (variant, seed)))


def begin(trial: TrialFolder, number: int = 1, log: Path | None = None) -> None:
    place = WorkerPlace(
        rank=0,
        host=platform.node(),
        address="10.0.0.1",
        node="n",
        pid=7,
        device="cuda:0 [/x] H100",
        log=None if log is None else str(log),
    )
    trial.append_attempt(
        AttemptBegan(
            attempt=number,
            at="2026-01-02T03:04:05+00:00",
            workers=1,
            cpus_per_worker=1,
            gpus_per_worker=1,
            places=(place,),
            resumed_step=40 * (number - 1),
        )
    )


def lose(trial: TrialFolder) -> None:
    trial.append_attempt(
        AttemptEnded(
            attempt=1,
            at="2026-01-02T03:06:05+00:00",
            end="node_lost",
            step=50,
            cause="the host is gone",
            log_tails={0: "last words"},
        )
    )


def test_logs_tell_each_attempt_with_hosts_cause_and_last_lines(
    folder: StudyFolder, optbench: Optbench, tmp_path: Path
) -> None:
    trial, log = trial_of(folder, "muon", 0), tmp_path / "worker.log"
    begin(trial)
    lose(trial)
    log.write_text("\n".join(f"line {number}" for number in range(100)))
    begin(trial, 2, log)
    code, out, _ = optbench("logs", "made-up", "muon/0")
    assert code == 0
    assert "attempt 1: node lost after 2" in out
    assert "at step 50: the host is gone" in out
    assert f"worker 0: {platform.node()}, cuda:0 [/x] H100, pid 7" in out
    assert "last words" in out
    assert "from step 40" in out
    assert "line 99" in out
    assert "line 9\n" not in out
    _, out, _ = optbench("logs", "made-up", trial.path.name[:10], "--json")
    values = json.loads(out)
    assert values["trial_key"] == trial.path.name
    first, second = values["attempts"]
    assert (first["duration_s"], first["ended"]["end"]) == (120.0, "node_lost")
    assert first["log_tails"] == {"0": "last words"}
    assert second["ended"] is None
    assert second["log_tails"]["0"].splitlines()[0] == "line 80"


def test_a_trial_without_recorded_attempts_says_so(folder: StudyFolder, optbench: Optbench) -> None:
    code, out, _ = optbench("logs", "made-up", "adamw/0")
    assert code == 0
    assert "no attempt is recorded" in out
    assert "outcome: completed" in out


@pytest.mark.parametrize("wrong", ["muon/9", "nobody/0", "../../etc", "zz", "", "[/x]"])
@pytest.mark.parametrize("command", ["logs", "stop"])
def test_a_wrong_trial_lists_what_there_is(
    folder: StudyFolder, optbench: Optbench, command: str, wrong: str
) -> None:
    code, _, errors = optbench(command, "made-up", wrong)
    assert code == 2
    assert "names no trial of this study" in errors
    for row in load_plan(folder).trials:
        assert f"{row.key[:8]} ({row.variant} seed {row.seed})" in errors
    assert errors.count("\n") == 1


def test_a_beginning_that_several_keys_share_lists_them(
    folder: StudyFolder, optbench: Optbench
) -> None:
    keys = load_plan(folder).distinct_keys
    shared = next(letter for letter in "0123456789abcdef" if sum(k[0] == letter for k in keys) > 1)
    code, _, errors = optbench("logs", "made-up", shared)
    assert (code, "names several trials" in errors) == (2, True)


def test_a_stop_is_a_request_that_leaves_the_trial_open(
    folder: StudyFolder, optbench: Optbench
) -> None:
    trial = trial_of(folder, "muon", 0)
    begin(trial)
    assert trial.stop_requested() is None
    with folder.locked():
        code, out, _ = optbench("stop", "made-up", "muon/0", "--why", "the node is needed")
    assert code == 0
    assert "stays open, without an outcome" in out
    assert trial.stop_requested() == "the node is needed"
    assert json.loads(trial.stop_path.read_text()).keys() == {"why", "at", "by"}
    assert trial.outcome() is None
    trial.clear_stop()
    trial.clear_stop()
    assert trial.stop_requested() is None


def test_a_request_that_cannot_be_read_is_one_too(folder: StudyFolder) -> None:
    trial = trial_of(folder, "muon", 0)
    trial.stop_path.write_text("{")
    assert trial.stop_requested() == "no reason can be read"


def test_nothing_is_asked_where_nothing_runs(folder: StudyFolder, optbench: Optbench) -> None:
    trial = trial_of(folder, "muon", 0)
    begin(trial)
    code, _, errors = optbench("stop", "made-up", "muon/0")
    assert (code, "nobody runs this study" in errors) == (2, True)
    with folder.locked():
        code, _, errors = optbench("stop", "made-up", "muon/1")
        assert (code, "it has ended (completed)" in errors) == (2, True)
        lose(trial)
        code, _, errors = optbench("stop", "made-up", "muon/0")
        assert (code, "the last one is over" in errors) == (2, True)
    assert not list(folder.path.rglob("stop.json"))


def test_status_says_who_runs_the_study(folder: StudyFolder, optbench: Optbench) -> None:
    with folder.locked():
        _, out, _ = optbench("status", "made-up")
        assert "the driver runs: pid" in out
        assert "1 running" in out
    _, out, _ = optbench("status", "made-up")
    assert "1 interrupted" in out
    assert "nothing runs: run the study again to go on" in out


def test_watching_ends_by_itself_when_the_study_is_over(
    folder: StudyFolder, optbench: Optbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "WATCH_S", 0.05)
    held = folder.locked()
    held.__enter__()
    timer = threading.Timer(0.3, lambda: held.__exit__(None, None, None))
    timer.start()
    code, out, _ = optbench("status", "made-up", "--watch")
    timer.join()
    assert code == 0
    assert "nothing runs" in out


def test_ctrl_c_ends_the_watching_without_a_word(
    folder: StudyFolder, optbench: Optbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.cli.life.time.sleep", interrupted)
    with folder.locked():
        code, out, errors = optbench("status", "made-up", "--watch")
    assert (code, errors) == (0, "")
    assert "the driver runs" in out


def test_watching_is_not_for_scripts(folder: StudyFolder, optbench: Optbench) -> None:
    code, _, errors = optbench("status", "made-up", "--watch", "--json")
    assert (code, "give one of them" in errors) == (2, True)
