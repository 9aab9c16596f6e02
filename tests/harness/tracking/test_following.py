"""What MLflow shows while trials run, and that the end of the run agrees with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from growing import Growing

from harness.analysis.study_analysis import analyse_study
from harness.runs.folder import StudyFolder
from harness.tracking.following import Following
from harness.tracking.run_records import STATUS_OF_OUTCOME
from harness.tracking.tracker import Tracker, writing_alone

Write = Callable[..., StudyFolder]
SMALL: dict[str, Any] = {"seeds": (0, 1), "steps": 40, "every": 10}
STATUS = "SELECT name, status FROM runs WHERE lifecycle_stage = 'active'"


@pytest.fixture
def growing(made_up_study: Write) -> Growing:
    return Growing(made_up_study(**SMALL, diverged={("muon", 1): 20}))


def test_a_trial_runs_until_it_has_an_outcome(growing: Growing, stored: Any) -> None:
    with Following(growing.folder) as following:
        following.poll()
        assert dict(stored.query(STATUS)) == {
            "made-up (study)": "RUNNING",
            "adamw (summary)": "RUNNING",
            "muon (summary)": "RUNNING",
        }
        seen = []
        while growing.report("muon seed 1"):
            following.poll()
            seen.append((dict(stored.query(STATUS))["muon seed 1"], len(stored.points())))
    assert following.problem == ""
    statuses, points = zip(*seen, strict=True)
    outcome = growing.trial("muon seed 1").outcome()
    assert outcome is not None
    assert statuses == ("RUNNING",) * (len(seen) - 1) + (STATUS_OF_OUTCOME[outcome.outcome],)
    assert len(set(points[:-1])) == len(points) - 1, "each report was sent as it came"
    assert stored.tags("muon seed 1")["diverged"] == "20"


def test_what_the_driver_leaves_open_is_killed_and_runs_again_when_the_study_goes_on(
    growing: Growing, stored: Any
) -> None:
    def at(name: str) -> tuple[str, str]:
        return dict(stored.query(STATUS))[name], stored.tags(name).get("outcome", "")

    with Following(growing.folder) as following:
        while growing.report("adamw seed 0"):
            pass
        while growing.report("adamw seed 1"):
            pass
        growing.report("muon seed 0", count=2)
        following.poll()
        assert at("muon seed 0") == ("RUNNING", "running")
        following.finish()
    assert at("muon seed 0") == ("KILLED", "interrupted")
    assert at("adamw seed 0") == ("FINISHED", "completed")
    assert at("muon (summary)") == at("made-up (study)") == ("KILLED", "")
    assert at("adamw (summary)") == ("FINISHED", "")
    last = growing.trial("muon seed 0").reports()[-1]
    ended = "SELECT end_time - start_time FROM runs WHERE name = 'muon seed 0'"
    past_training_s = stored.query(ended)[0][0] / 1000 - last.train_time_s
    assert 0 <= past_training_s < 10, "it ended with its last report, not when this was written"

    with Following(growing.folder) as following:
        following.poll()
        assert at("muon seed 0") == ("RUNNING", "running")
        assert at("muon (summary)") == at("made-up (study)") == ("RUNNING", "")
        growing.report("muon seed 0")
        following.poll()
    # Here the follower died with its driver: nobody said that it is over.
    assert at("muon seed 0") == ("RUNNING", "running")
    Tracker(growing.folder).sync()
    assert at("muon seed 0") == ("KILLED", "interrupted")
    assert at("muon (summary)")[0] == at("made-up (study)")[0] == "KILLED"
    growing.to_the_end()
    Tracker(growing.folder).sync()
    assert {status for _, status in stored.query(STATUS)} == {"FINISHED"}
    found, expected = stored.points(), stored.expected(growing.folder)
    assert stored.of_trials(found) == stored.of_trials(expected)


def test_the_end_of_the_run_only_adds_what_was_analysed(growing: Growing, stored: Any) -> None:
    with Following(growing.folder) as following:
        following.poll()
        growing.report("muon seed 0", count=2)
        following.poll()
        growing.to_the_end()
        following.poll()
    live = stored.query("SELECT run_uuid FROM runs")
    analyse_study(growing.folder)
    sent = Tracker(growing.folder).sync()
    assert sent.runs == 0
    assert set(stored.query("SELECT run_uuid FROM runs")) == set(live)
    assert stored.points() == stored.expected(growing.folder)
    assert sent.points == len(stored.points()) - len(stored.of_trials(stored.points()))
    assert dict(stored.query(STATUS))["made-up (study)"] == "FINISHED"


def test_a_follower_that_starts_again_sends_nothing_twice(growing: Growing, stored: Any) -> None:
    for count in (1, 2, 9):
        growing.report("adamw seed 0", count=count)
        growing.report("muon seed 0", count=count)
        with Following(growing.folder) as following:
            following.poll()
            following.poll()
    growing.to_the_end()
    Tracker(growing.folder).sync()
    assert stored.points() == stored.expected(growing.folder)


def test_reports_of_steps_that_are_trained_again_are_skipped(growing: Growing, stored: Any) -> None:
    name, trial = "adamw seed 0", growing.trial("adamw seed 0")
    with Following(growing.folder) as following:
        growing.report(name, count=4)
        following.poll()
        # A trial that goes on from a checkpoint: the same beginning, then the same steps again.
        lines = trial.reports_path.read_bytes().splitlines(keepends=True)
        trial.reports_path.write_bytes(b"".join(lines[:2]))
        following.poll()
        while growing.report(name):
            following.poll()
    per_point = Counter(point[:3] for point in stored.points())
    assert max(per_point.values()) == 1
    assert stored.query("SELECT COUNT(*) FROM runs WHERE name = 'adamw seed 0'") == [(1,)]
    own = [point for point in stored.points() if point[0] == name]
    assert own == [p for p in stored.expected(growing.folder) if p[0] == name]


def test_a_trial_that_begins_anew_gets_a_new_run(
    growing: Growing, made_up_study: Write, stored: Any
) -> None:
    name, trial = "adamw seed 0", growing.trial("adamw seed 0")
    with Following(growing.folder) as following:
        growing.report(name, count=3)
        following.poll()
        first = growing.reports[trial.path.name][0]
        anew = first.model_copy(update={"evaluation_time_s": 9.0})
        trial.reports_path.unlink()
        growing.reports[trial.path.name][0] = anew
        growing.report(name, count=2)
        following.poll()
    steps = [point[2] for point in stored.points() if point[:2] == (name, "step")]
    assert steps == [0, 10]


def test_a_searched_trial_is_followed_as_soon_as_it_is_drawn(
    made_up_search: Write, stored: Any
) -> None:
    folder = made_up_search(tuning={"trials": 2})
    log = folder.path / "tuning.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"")
    with Following(folder) as following:
        following.poll()
        assert len(stored.query(STATUS)) == 3
        for line in lines:
            with log.open("ab") as file:
                file.write(line)
            following.poll()
        assert following.problem == ""
    Tracker(folder).sync()
    assert stored.points() == stored.expected(folder)
    names = [name for name, _ in stored.query(STATUS)]
    assert len(names) == len(set(names))
    params = dict(
        stored.query(
            "SELECT p.key, p.value FROM params p JOIN runs r ON r.run_uuid = p.run_uuid "
            "WHERE r.name = 'muon (summary)'"
        )
    )
    assert "optimizer.lr" in params, "what the search chose is written when it is known"


def test_a_server_that_is_away_is_a_problem_and_no_error(
    growing: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with Following(growing.folder, "http://ann:sesame@127.0.0.1:9") as following:
        following.poll()
    assert following.problem == "http://***@127.0.0.1:9: nothing answers there (connection refused)"


def test_two_processes_never_write_one_study(growing: Growing, stored: Any) -> None:
    with writing_alone(growing.folder, 0), Following(growing.folder) as following:
        following.poll()
        assert "another process" in following.problem
    assert stored.query(STATUS) == []
