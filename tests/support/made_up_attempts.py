"""Attempts that a made-up trial could have had, and changes to those of a whole study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from harness.runs.attempts import AttemptBegan, AttemptEnd, AttemptEnded, WorkerPlace
from harness.runs.folder import StudyFolder, TrialFolder
from harness.runs.plan_file import load_plan
from harness.study.plan import PlannedTrial

HOST = "machine"
MINUTE = timedelta(minutes=1)
CAUSES: dict[AttemptEnd, str] = {
    "worker_died": "worker 1 died, machine (10.0.0.1): killed by SIGKILL",
    "hung": "worker 0 does not answer, machine (10.0.0.1)",
    "node_lost": "the node of worker 1 is lost: machine (10.0.0.1)",
    "out_of_memory": "worker 1 was killed for memory, machine (10.0.0.1)",
    "machine": "no space left on device",
    "error": "ValueError: out of luck",
    "stopped": "the run was interrupted",
}


def write_attempts(folder: TrialFolder, *, ends: Sequence[AttemptEnd], steps: int) -> None:
    """Two workers on one host. An attempt that failed took a minute and came to half of the steps;
    the next one goes on from a third of them.
    """
    folder.attempts_path.unlink(missing_ok=True)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for number, end in enumerate(ends, start=1):
        folder.append_attempt(_began(number, at, resumed_step=0 if number == 1 else steps // 3))
        folder.append_attempt(
            AttemptEnded(
                attempt=number,
                at=(at + MINUTE).isoformat(),
                end=end,
                step=steps if end == "outcome" else steps // 2,
                cause=CAUSES.get(end, ""),
            )
        )
        at += 2 * MINUTE


def _began(number: int, at: datetime, *, resumed_step: int) -> AttemptBegan:
    places = tuple(
        WorkerPlace(rank=rank, host=HOST, address="10.0.0.1", node="n", pid=7 + rank, device="cpu")
        for rank in range(2)
    )
    return AttemptBegan(
        attempt=number,
        at=at.isoformat(),
        workers=2,
        cpus_per_worker=1,
        gpus_per_worker=0,
        places=places,
        resumed_step=resumed_step,
    )


def rewrite_attempts(
    folder: StudyFolder, change: Callable[[PlannedTrial, AttemptBegan], AttemptBegan]
) -> None:
    """Every beginning of an attempt as `change` makes it."""
    for row in load_plan(folder).trials:
        trial = folder.trial(row.key)
        events = trial.attempts()
        trial.attempts_path.unlink(missing_ok=True)
        for event in events:
            trial.append_attempt(change(row, event) if event.event == "began" else event)


def on(
    began: AttemptBegan,
    *,
    workers: int = 2,
    host: str = HOST,
    device: str = "cpu",
    gpus: float | None = None,
) -> AttemptBegan:
    """The same attempt with other workers."""
    places = tuple(
        WorkerPlace(rank=rank, host=host, address="10.0.0.2", node=host, pid=7, device=device)
        for rank in range(workers)
    )
    gpus = float(device.startswith("cuda")) if gpus is None else gpus
    return began.model_copy(update={"workers": workers, "gpus_per_worker": gpus, "places": places})


def forget_attempts(folder: StudyFolder) -> None:
    """As an older version leaves a study."""
    for path in folder.path.glob("trials/*/attempts.jsonl"):
        path.unlink()
