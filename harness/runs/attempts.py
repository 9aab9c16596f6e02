"""Attempts: what the machines did with a trial, apart from how its training ended.

`trials/<trial_key>/attempts.jsonl` has two lines for each attempt, one when its workers are there
and one when it is over. A line that says how it ended is missing where the driver died first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from harness.study.record import Record

AttemptEnd = Literal[
    "outcome",
    "worker_died",
    "hung",
    "node_lost",
    "out_of_memory",
    "machine",
    "error",
    "stopped",
]
"""How an attempt ended. `outcome`: the training came to an end. `worker_died`, `hung`, `node_lost`:
a member of the gang was killed, stood still, or its host is gone. `out_of_memory`: of a host or a
device. `machine`: another failure of a host or the network (disk full, data missing, connection
lost). `error`: an exception of the code. `stopped`: a person or the end of the run stopped it."""

FAILURES: frozenset[AttemptEnd] = frozenset(
    {"worker_died", "hung", "node_lost", "out_of_memory", "machine", "error"}
)
"""Ends that count against `resources.max_failures`."""


class WorkerPlace(Record):
    """Where one worker of a gang runs."""

    rank: int
    host: str = Field(description="its name")
    address: str = Field(description="of its node in the cluster")
    node: str = Field(description="Ray's id of the node")
    pid: int
    device: str = Field(description="what it trains on, such as `cuda:0 NVIDIA H100`")
    log: str | None = Field(default=None, description="file on the host that its errors go to")


class AttemptBegan(Record):
    """The workers of an attempt are there."""

    event: Literal["began"] = "began"
    attempt: int = Field(ge=1, description="counted from 1 over the life of the trial")
    at: str = Field(description="UTC, ISO 8601")
    workers: int
    cpus_per_worker: int
    gpus_per_worker: float
    places: tuple[WorkerPlace, ...] = ()
    code_version: str | None = None
    code_sha256: str | None = None
    resumed_step: int = Field(default=0, description="of the checkpoint; 0: from the start")


class AttemptEnded(Record):
    """An attempt is over, and why."""

    event: Literal["ended"] = "ended"
    attempt: int = Field(ge=1)
    at: str = Field(description="UTC, ISO 8601")
    end: AttemptEnd
    step: int = Field(default=0, description="the last one known to be done")
    cause: str = Field(default="", description="what happened, in one sentence")
    signature: str = Field(
        default="", description="what two failures share that are the same: no paths, no numbers"
    )
    traceback: str | None = None
    log_tails: dict[int, str] = Field(
        default_factory=dict, description="the last lines of every worker's log, by rank"
    )


AttemptEvent = AttemptBegan | AttemptEnded
ATTEMPT_EVENT: TypeAdapter[AttemptEvent] = TypeAdapter(
    Annotated[AttemptBegan | AttemptEnded, Field(discriminator="event")]
)


def repeats(ended: Sequence[AttemptEnded]) -> bool:
    """Whether the last attempt failed as an earlier one did, by the code or for want of memory.

    Then it is the training that failed, and not the machine: one kill for memory may have been
    another program's fault, one exception a flipped bit.

    Args:
        ended: attempts of one trial by the same code, in order.
    """
    *earlier, last = ended
    if last.end == "out_of_memory":
        return any(attempt.end == "out_of_memory" for attempt in earlier)
    return last.end == "error" and any(
        attempt.end == "error" and attempt.signature == last.signature for attempt in earlier
    )


def endings_by(code_sha256: str, events: Sequence[AttemptEvent]) -> list[AttemptEnded]:
    """How the attempts of this code ended, in order."""
    own = {
        e.attempt for e in events if isinstance(e, AttemptBegan) and e.code_sha256 == code_sha256
    }
    return [e for e in events if isinstance(e, AttemptEnded) and e.attempt in own]
