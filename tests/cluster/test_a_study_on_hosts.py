"""A study on four hosts and an MLflow host that share no disk, while two of the hosts are lost.

`make cluster-test` runs it; with `-s` it tells what it does, and when.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from namespace_hosts import Host, Hosts, why_not
from team_on_hosts import RAY, URI, Mlflow, start_head, start_worker, until, why_no_postgres
from under_fire import Left, failures, left, open_attempts, study_folder

from harness.analysis.study_results import load_results
from harness.runs.attempts import AttemptBegan, AttemptEnded, AttemptEvent
from harness.tracking.run_records import records

LACKING = why_not() or why_no_postgres()

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(LACKING), reason=str(LACKING))]

WORKERS = ("w1", "w2", "w3")
STUDY, ALONE, RUNS = "/tmp/tiny.toml", "/tmp/alone", "/tmp/runs"
SETTINGS = (
    *("--set", "training.steps=200"),
    *("--set", "training.evaluation_every=10"),
    *("--set", "checkpoints.every_steps=10"),
    *("--set", "resources.workers=2"),
    *("--set", "resources.heartbeat_timeout_s=10"),
)
LOSS = "validation_loss"
CACHE = str(Path.home() / ".cache/optbench/data")

WATCH = """
import json, os, time
os.environ["RAY_ADDRESS"] = "10.77.0.1:6379"
import ray
ray.init(log_to_driver=False, logging_level="error")
while True:
    alive = sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])
    print(json.dumps(alive), flush=True)
    time.sleep(0.5)
"""


class Transcript:
    """What happens, for a reader; the clock starts with it."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        print()

    def __call__(self, line: str) -> None:
        print(f"{time.monotonic() - self.begun:6.1f} s  {line}", flush=True)


@dataclass
class Story:
    """What the tests look at when all is over; the hosts are still there."""

    hosts: Hosts
    outputs: Path
    mlflow: Mlflow
    say: Transcript
    without_password: subprocess.CompletedProcess[str]
    doctor: list[dict[str, Any]]
    printed: str
    hit: dict[str, str] = field(default_factory=dict)  # what was done to a host: the trial's key
    delivered: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    @property
    def alone(self) -> Path:
        return self.hosts["head"].fetch(ALONE, self.outputs / "alone")

    @property
    def runs(self) -> Path:
        """As they are now, without checkpoints."""
        return self.hosts["head"].fetch(RUNS, self.outputs / "runs", leave_out="checkpoints")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, study_text: str) -> Iterator[Story]:
    outputs = tmp_path_factory.mktemp("outputs")
    say = Transcript()
    try:
        with Hosts("head", *WORKERS, "mlflow") as hosts:
            say(f"hosts: {', '.join(f'{n} {hosts[n].address}' for n in hosts.all)}")
            yield Scenario(hosts, outputs, say).tell(study_text)
    except BaseException:
        for path in sorted(outputs.glob("*.txt")):
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}", file=sys.stderr)
        raise
    say("all hosts are gone")


class Scenario:
    """From empty hosts to a study that is over."""

    def __init__(self, hosts: Hosts, outputs: Path, say: Transcript) -> None:
        self.hosts, self.outputs, self.say = hosts, outputs, say
        self.head, self.mlflow = hosts["head"], Mlflow(hosts["mlflow"], outputs)
        self.story: Story

    def tell(self, study_text: str) -> Story:
        self.head.write(STUDY, study_text)
        with ThreadPoolExecutor() as pool:
            ready = pool.submit(self.mlflow.start)
            self._train_alone()
            ready.result()
        self.say("mlflow: PostgreSQL and a tracking server that asks for a password are there")
        refused = self._optbench("sync", STUDY, "--runs-dir", ALONE)
        start_head(self.head)
        for name in WORKERS:
            start_worker(self.head, self.hosts[name], self.outputs / f"{name}.txt")
        self.head.start("python", "-c", WATCH, output=self.outputs / "alive.txt", **RAY)
        until(lambda: len(self._alive()) == 4, "four nodes")
        self.say(f"ray: {', '.join(self._alive())} are one cluster")
        doctor = self._ask_the_doctor()
        self.story = Story(self.hosts, self.outputs, self.mlflow, self.say, refused, doctor, "")
        study = self._start_study()
        try:
            self._disturb(study)
            until(lambda: study.poll() is not None, "the end of the study")
        finally:
            study.kill()
        self.story.printed = (self.outputs / "study.txt").read_text()
        assert study.returncode == 0, self.story.printed[-4000:]
        self.say("head: the study is over, exit code 0")
        return self.story

    def _train_alone(self) -> None:
        elsewhere = "sqlite:////tmp/alone.db"
        words = ["optbench", "run", STUDY, "--runs-dir", ALONE, "--tracking-uri", elsewhere]
        self.head.run(*words, *SETTINGS, timeout_s=600)
        self.say("head: the same study on this host alone, for comparison")

    def _optbench(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self.head.command("optbench", *words, "--tracking-uri", URI)
        return subprocess.run(command, capture_output=True, text=True)

    def _ask_the_doctor(self) -> list[dict[str, Any]]:
        words = ["optbench", "doctor", "--address", "auto", "--tracking-uri", URI, "--json"]
        command = self.head.command(*words, **RAY, **self.mlflow.credentials)
        asked = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert asked.stdout, asked.stderr
        self.say(f"head: the doctor has asked every node, exit code {asked.returncode}")
        found: list[dict[str, Any]] = json.loads(asked.stdout)
        return found

    def _start_study(self) -> subprocess.Popen[str]:
        words = ["optbench", "run", STUDY, "--runs-dir", RUNS, *SETTINGS]
        words += ["--address", "auto", "--tracking-uri", URI]
        output = self.outputs / "study.txt"
        return self.head.start(*words, output=output, **RAY, **self.mlflow.credentials)

    def _disturb(self, study: subprocess.Popen[str]) -> None:
        cut = self._host_in_a_trial(study, "cut off", rank=1)
        self._note_deliveries()
        self.hosts.cut(cut)
        self._again(study, "cut off")
        self.hosts.join(cut)
        self.say(f"{cut}: the cable is in again")
        until(lambda: len(self._alive()) == 4, "the host that was cut off is a node again")
        self.say(f"ray: {cut} is a node again")
        killed = self._host_in_a_trial(study, "killed", rank=0)
        self.hosts.kill(killed)
        fresh = self.hosts.add(killed)
        start_worker(self.head, fresh, self.outputs / f"{killed}-fresh.txt")
        self.story.delivered.pop(killed, None)
        self.say(f"{killed}: a fresh host with an empty disk is in its place")
        self._again(study, "killed")

    def _host_in_a_trial(self, study: subprocess.Popen[str], fate: str, *, rank: int) -> str:
        """Waits for a gang that spans two hosts, has a checkpoint, and much to do."""

        def found() -> tuple[str, AttemptBegan, int] | None:
            assert study.poll() is None, (self.outputs / "study.txt").read_text()[-4000:]
            for key, began, step in open_attempts(self.story.runs):
                if key not in self.story.hit.values() and 20 <= step <= 100:
                    return key, began, step
            return None

        key, began, step = until(found, "a trial under way")
        places = [place.host for place in began.places]
        assert len(set(places)) == 2, f"a gang of two on one CPU each lies on two hosts: {places}"
        self.story.hit[fate] = key
        self.say(f"{places[rank]}: {fate} under {key[:8]} on {' and '.join(places)} at step {step}")
        return places[rank]

    def _again(self, study: subprocess.Popen[str], fate: str) -> None:
        """Waits until the trial that was hit is trained again."""
        key, begun = self.story.hit[fate], time.monotonic()

        def again() -> AttemptBegan | None:
            assert study.poll() is None, (self.outputs / "study.txt").read_text()[-4000:]
            events = [e for e in self._attempts(key) if isinstance(e, AttemptBegan)]
            return events[-1] if len(events) > 1 else None

        event = until(again, "another attempt")
        ended = next(e for e in self._attempts(key) if isinstance(e, AttemptEnded))
        self.say(
            f"driver: {ended.end} ({ended.cause[:90]}); {time.monotonic() - begun:.0f} s later on "
            f"{' and '.join(p.host for p in event.places)} from step {event.resumed_step}"
        )

    def _attempts(self, key: str) -> list[AttemptEvent]:
        folder = study_folder(self.story.runs)
        assert folder is not None
        return folder.trial(key).attempts()

    def _alive(self) -> list[str]:
        lines = (self.outputs / "alive.txt").read_text().splitlines()
        return json.loads(lines[-1]) if lines and lines[-1].startswith("[") else []

    def _note_deliveries(self) -> None:
        self.story.delivered = {name: data_of(self.hosts[name]) for name in WORKERS}


def data_of(host: Host) -> list[tuple[str, int]]:
    """Folders of tokens on a host's own disk, and when each came there."""
    folder = host.path(CACHE)
    return [
        (path.name, path.stat().st_ctime_ns)
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if (path / "manifest.json").exists()
    ]


def test_the_doctor_finds_every_node_fit_and_how_fast_they_reach_one_another(story: Story) -> None:
    assert [line for line in story.doctor if line["level"] == "failure"] == []
    (network,) = [line for line in story.doctor if line["check"] == "network"]
    (mlflow,) = [line for line in story.doctor if line["check"] == "MLflow"]
    assert mlflow["level"] == "ok"
    assert network["bus_bytes_per_s"] > 0  # how fast is the machine's matter
    story.say(f"proved: doctor: network: {network['found']}; MLflow: {mlflow['found']}")


def test_every_number_is_that_of_one_machine(story: Story) -> None:
    here, there = left(story.alone), left(story.runs)
    assert set(bytes_between_hosts(here)) == {0.0}
    assert max(bytes_between_hosts(there)) > 0, "Muon's pieces went over the cable"
    assert there == here, "to the last bit: the workers are as many"
    story.say(f"proved: {len(there.outcomes)} trials, every number bit for bit as on one host")


def bytes_between_hosts(study: Left) -> list[float]:
    """Takes out the one counter that tells where the workers lay."""
    return [
        report["counters"].pop("bytes_between_nodes", 0.0)
        for reports in study.reports.values()
        for report in reports
    ]


def test_every_gang_spans_two_hosts_and_no_interface_was_named(story: Story) -> None:
    folder = study_folder(story.runs)
    assert folder is not None
    gangs = [
        {place.host for place in event.places}
        for path in folder.path.glob("trials/*")
        for event in folder.trial(path.name).attempts()
        if isinstance(event, AttemptBegan)
    ]
    assert {len(gang) for gang in gangs} == {2}
    for host in story.hosts.all.values():
        for process in host.processes():
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()  # as it was started
            assert b"_SOCKET_IFNAME" not in environment
    story.say(f"proved: {len(gangs)} gangs on two hosts each; nobody named an interface")


def test_lost_hosts_are_attempts_that_say_so_and_trials_go_on_from_checkpoints(
    story: Story,
) -> None:
    assert set(story.hit) == {"cut off", "killed"}
    assert {event.end for event in failures(story.runs)} <= {"node_lost", "hung", "worker_died"}
    folder = study_folder(story.runs)
    assert folder is not None
    for fate, key in story.hit.items():
        events = folder.trial(key).attempts()
        first = next(e for e in events if isinstance(e, AttemptEnded))
        last = [e for e in events if isinstance(e, AttemptBegan)][-1]
        assert first.end in ("node_lost", "hung"), first
        assert last.resumed_step > 0
        story.say(
            f"proved: {fate}: an attempt '{first.end}', then on from step {last.resumed_step}"
        )


def test_the_data_came_once_to_every_host(story: Story) -> None:
    folder = study_folder(story.runs)
    assert folder is not None
    (built,) = data_of(story.hosts["head"])
    for name in WORKERS:
        (brought,) = data_of(story.hosts[name])
        assert brought[0].startswith("sha256-")
        assert story.delivered.get(name, [brought]) == [brought], f"{name} got it twice"
    story.say(f"proved: head built {built[0]}; each worker got it once, as {brought[0]}")


def test_mlflow_holds_every_point_once(story: Story) -> None:
    folder = study_folder(story.runs)
    assert folder is not None
    expected = Counter(
        (record.name, key, step)
        for record in records(load_results(folder))
        for group in record.groups
        for key, _, step in group.values
    )
    stored = story.mlflow.sql(
        "SELECT r.name, m.key, m.step, count(*) FROM metrics m JOIN runs r USING (run_uuid) "
        "WHERE r.lifecycle_stage = 'active' GROUP BY r.run_uuid, r.name, m.key, m.step"
    )
    assert {row[3] for row in stored} == {"1"}
    assert Counter((name, key, int(step)) for name, key, step, _ in stored) == expected
    losses = sum(key == LOSS for _, key, _, _ in stored)
    assert losses > 0
    assert losses_by_the_api(story) == losses
    story.say(
        f"proved: {len(stored)} points in PostgreSQL, each once; by the API the same {losses} of "
        f"{LOSS}"
    )


def losses_by_the_api(story: Story) -> int:
    """Of one metric: each request costs the server a hash of the password."""
    count = f"""
from mlflow import MlflowClient
client = MlflowClient()
experiments = [e.experiment_id for e in client.search_experiments()]
print("points", sum(
    len(client.get_metric_history(run.info.run_id, "{LOSS}"))
    for run in client.search_runs(experiments)
))
"""
    environment = {**story.mlflow.credentials, "MLFLOW_TRACKING_URI": URI}
    printed = story.hosts["head"].run("python", "-c", count, **environment)
    return int(printed.split()[-1])


def test_without_a_password_mlflow_refuses_and_it_is_said(story: Story) -> None:
    assert story.without_password.returncode == 1
    said = story.without_password.stderr.strip()
    assert said.startswith("error: MLflow is not up to date")
    assert "MLFLOW_TRACKING_USERNAME" in said
    assert "Traceback" not in said
    story.say(f"proved: without a password: {said}")
