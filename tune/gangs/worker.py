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

from tune.delivery.receiving import at_this_host, folder_here
from tune.gangs.failures import describe
from tune.gangs.network import open_meeting, use_interface_of
from tune.gangs.niceness import as_the_node
from tune.gangs.seating import Seat

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
        self._meeting: Any = None  # of the trial, if this is worker 0
        gc.freeze()

    # In the thread that trains.

    def place(self) -> Answer:
        """Where this worker is, and the ids of the GPUs that Ray gave it."""
        context = ray.get_runtime_context()
        return {
            "host": socket.gethostname(),
            "address": ray.util.get_node_ip_address(),
            "node": context.get_node_id(),
            "gpus": context.get_accelerator_ids().get("GPU", []),
            "pid": os.getpid(),
            "log": log_file(),
            "oom_kills": oom_kills(),
        }

    def settle(self, seat: Seat, gpus: float) -> str:
        """Takes its seat in the gang, before anything has asked for a GPU.

        Args:
            gpus: its share of one GPU.

        Returns:
            the name of what it trains on.
        """
        use_interface_of(seat.interface_of)
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(seat.devices)
        return _device(seat, gpus)

    def lead(self, trial: Answer) -> Answer:
        """What worker 0 decides for all: where they meet, and from which checkpoint they go on."""
        from harness.study.code_version import code_sha256, code_version
        from harness.training.pulse import Pulse

        self._pulse = Pulse()  # that of the last trial may be old
        self._meeting = None  # the last one closes before another opens
        self._meeting = open_meeting(trial["ports"])
        code = {"code_version": code_version(), "code_sha256": code_sha256()}
        found = _newest_checkpoint(trial, self._pulse)
        return {"port": self._meeting.port, **code, **found}

    def start(self, spec: Answer, context: Answer) -> None:
        """Makes the generator; nothing is trained before the first `advance`."""
        from harness.study.trial import TrialSpec
        from harness.training.backends.protocol import WorkerContext
        from harness.training.loop import train
        from harness.training.pulse import Pulse

        self.stop()
        self._pulse = Pulse()
        context = at_this_host(spec, context, self._pulse)
        self._training = train(
            TrialSpec.model_validate(spec), WorkerContext(**context, pulse=self._pulse)
        )

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


def _device(seat: Seat, gpus: float) -> str:
    from optimizers.hardware import device_name, hardware_words

    if not gpus:
        return f"cpu {device_name('cpu')} ({', '.join(hardware_words('cpu')) or 'no bf16'})"
    import torch

    if not torch.cuda.is_available():
        return "no GPU seen"
    if gpus < 1:
        torch.cuda.set_per_process_memory_fraction(gpus)  # the rest is its neighbours'
    name = torch.cuda.get_device_name(seat.local_rank)
    return f"cuda:{seat.devices[seat.local_rank]} {name}"


def _newest_checkpoint(trial: Answer, pulse: Any) -> Answer:
    """`resume_from` and `resumed_step`; a trial that has no valid checkpoint starts at step 0."""
    checkpoints = trial["context"]["checkpoints"]
    if checkpoints is None:
        return {"resume_from": None, "resumed_step": 0}
    from harness.study.code_version import code_sha256
    from harness.study.trial import TrialSpec
    from harness.training.checkpoint import newest_valid

    spec = TrialSpec.model_validate(trial["spec"])
    device = "cuda" if trial["resources"]["gpus_per_worker"] else "cpu"
    folder = folder_here(trial["driver"], checkpoints, lambda: pulse.beat(pulse.doing))
    # Reports that the driver had not written when it died would be missing before a later one; that
    # of the checkpoint itself comes again.
    reported, every = trial["reported_step"], spec.training.evaluation_every
    at_most = reported - reported % every + every
    found = newest_valid(folder, spec, code_sha256(), device_type=device, at_most=at_most)
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
