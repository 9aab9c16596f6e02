"""One worker of a gang: an actor that trains in one thread and answers heartbeats in another."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from tune.failures import describe
from tune.niceness import as_the_node

Answer = dict[str, Any]

TAIL_BYTES = 4000


class Worker:
    """One process of a trial. It keeps its imports, and nothing else, from trial to trial."""

    def __init__(self) -> None:
        # The heavy imports, once, while the gang starts. What they made lives as long as the
        # worker: frozen, it is not searched by the garbage collections at the end of every trial.
        import harness.training.backends.ddp
        import harness.training.loop  # noqa: F401
        from harness.training.pulse import Pulse

        as_the_node()
        self._training: Generator[Any, None, Any] | None = None
        self._pulse = Pulse()
        gc.freeze()

    # In the thread that trains.

    def place(self, gpus: int) -> Answer:
        """Where this worker is, as `harness.runs.attempts.WorkerPlace` without its rank."""
        context = ray.get_runtime_context()
        return {
            "host": socket.gethostname(),
            "address": ray.util.get_node_ip_address(),
            "node": context.get_node_id(),
            "pid": os.getpid(),
            "device": _device(gpus),
            "log": log_file(),
            "oom_kills": oom_kills(),
        }

    def lead(self, trial: Answer) -> Answer:
        """What worker 0 decides for all: where they meet, and from which checkpoint they go on."""
        from harness.study.code_version import code_sha256, code_version
        from harness.training.pulse import Pulse

        self._pulse = Pulse()  # that of the last trial may be old

        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        code = {"code_version": code_version(), "code_sha256": code_sha256()}
        return {"port": port, **code, **_newest_checkpoint(trial)}

    def start(self, spec: Answer, context: Answer) -> None:
        """Makes the generator; nothing is trained before the first `advance`."""
        from harness.study.trial import TrialSpec
        from harness.training.backends.protocol import WorkerContext
        from harness.training.loop import train
        from harness.training.pulse import Pulse

        self.stop()
        self._pulse = Pulse()
        context = {**context, "dataset_path": Path(context["dataset_path"]), "pulse": self._pulse}
        self._training = train(TrialSpec.model_validate(spec), WorkerContext(**context))

    def advance(self) -> Answer:
        """The next report, the outcome, or the failure, as plain values."""
        assert self._training is not None, "start() comes before advance()"
        try:
            return {"report": next(self._training).model_dump(mode="json")}
        except StopIteration as end:
            self._training = None
            return {"outcome": end.value.model_dump(mode="json")}
        except Exception as error:
            self._training = None
            return {"failure": describe(error)}

    def stop(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None

    # In a thread of its own, also while the other one computes.

    @ray.method(concurrency_group="heartbeats")  # type: ignore[untyped-decorator]
    def beat(self) -> Answer:
        """How far it is and since when."""
        pulse = self._pulse
        return {
            "step": pulse.step,
            "doing": pulse.doing,
            "beats": pulse.beats,
            "longest_s": pulse.longest_s,
            "since_s": pulse.since_s(),
        }

    @ray.method(concurrency_group="heartbeats")  # type: ignore[untyped-decorator]
    def log_tail(self) -> str:
        return tail_of(log_file())


RemoteWorker = ray.remote(concurrency_groups={"heartbeats": 1})(Worker)


def _device(gpus: int) -> str:
    import torch

    if not gpus:
        return "cpu"
    return f"cuda {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU seen"


def _newest_checkpoint(trial: Answer) -> Answer:
    """`resume_from` and `resumed_step`; a trial that has no valid checkpoint starts at step 0."""
    checkpoints = trial["context"]["checkpoints"]
    if checkpoints is None:
        return {"resume_from": None, "resumed_step": 0}
    from harness.study.code_version import code_sha256
    from harness.study.trial import TrialSpec
    from harness.training.checkpoint import newest_valid

    spec = TrialSpec.model_validate(trial["spec"])
    device = "cuda" if trial["resources"]["gpus_per_worker"] else "cpu"
    found = newest_valid(checkpoints, spec, code_sha256(), device_type=device)
    if found is None:
        return {"resume_from": None, "resumed_step": 0}
    return {"resume_from": found.folder, "resumed_step": found.step}


def log_file() -> str | None:
    """The file of this process's standard error, which Ray keeps on the host."""
    with suppress(OSError):
        path = os.readlink("/proc/self/fd/2")
        return path if path.startswith("/") and Path(path).is_file() else None
    return None


def tail_of(path: str | None) -> str:
    """The last lines of a log; empty where there is none."""
    if path is None:
        return ""
    with suppress(OSError), Path(path).open("rb") as file:
        file.seek(max(0, Path(path).stat().st_size - TAIL_BYTES))
        return file.read().decode(errors="replace")
    return ""


def oom_kills() -> int:
    """How often the kernel of this host has killed a process for memory since it booted."""
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
