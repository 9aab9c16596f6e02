"""The gang: the workers of one trial, placed together and kept warm between trials."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Generator
from typing import Any

import ray

Answer = dict[str, Any]


class GangFailure(RuntimeError):
    """A worker failed or died; the gang cannot be used again."""

    def __init__(self, outcome: str, reason: str, traceback: str | None = None) -> None:
        super().__init__(reason)
        self.outcome = {"outcome": outcome, "reason": reason, "traceback": traceback}


class Worker:
    """One process of a trial. It keeps its imports, and nothing else, from trial to trial."""

    def __init__(self) -> None:
        self._training: Generator[Any, None, Any] | None = None
        # The heavy imports, once, while the gang starts. What they made lives as long as the
        # worker: frozen, it is not searched by the garbage collections at the end of every trial.
        import harness.training.backends.ddp
        import harness.training.loop  # noqa: F401

        gc.freeze()

    def address(self) -> tuple[str, int]:
        """Where the other workers reach this one, with a port that is free now."""
        import socket

        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), int(probe.getsockname()[1])

    def start(self, spec: dict[str, Any], context: dict[str, Any]) -> None:
        from harness.study.trial import TrialSpec
        from harness.training.backends.protocol import WorkerContext
        from harness.training.loop import train

        self.stop()
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
            return {"failure": _describe(error)}

    def stop(self) -> None:
        if self._training is not None:
            self._training.close()
            self._training = None


RemoteWorker = ray.remote(Worker)


def _describe(error: Exception) -> Answer:
    import torch

    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        # The CPU allocator raises a plain RuntimeError.
        "can't allocate memory" in str(error)
    )
    return {
        "outcome": "out_of_memory" if out_of_memory else "failed",
        "reason": f"{type(error).__name__}: {error}",
        "traceback": traceback.format_exc(limit=-8),
    }


class Gang:
    """`num_workers` actors, each in a bundle of the placement group of the calling trial."""

    def __init__(self, *, num_workers: int, cpus: int, gpus: int) -> None:
        self.shape = (num_workers, cpus, gpus)
        self.workers = [
            RemoteWorker.options(num_cpus=cpus, num_gpus=gpus).remote() for _ in range(num_workers)
        ]

    def start(self, spec: dict[str, Any], dataset_path: str) -> None:
        """Begins a trial; what the workers did before is stopped."""
        address, port = self._get([self.workers[0].address.remote()])[0]
        self._get(
            [
                worker.start.remote(
                    spec,
                    {
                        "dataset_path": dataset_path,
                        "rank": rank,
                        "num_workers": len(self.workers),
                        "master_address": address,
                        "master_port": port,
                    },
                )
                for rank, worker in enumerate(self.workers)
            ]
        )

    def advance(self) -> Answer:
        """Worker 0's next report or outcome, once every worker has reached it.

        Raises:
            GangFailure: as soon as one worker fails, also while others wait for it.
        """
        answers: list[Answer] = self._get([worker.advance.remote() for worker in self.workers])
        return answers[0]

    def kill(self) -> None:
        for worker in self.workers:
            ray.kill(worker)

    def _get(self, references: list[Any]) -> list[Any]:
        """All answers in order; the first failure ends the wait for the others."""
        pending, order = list(references), {ref: i for i, ref in enumerate(references)}
        answers: list[Any] = [None] * len(references)
        while pending:
            ready, pending = ray.wait(pending, num_returns=1)
            index = order[ready[0]]
            try:
                answer = ray.get(ready[0])
            except ray.exceptions.RayError as error:
                cause = str(error).strip().splitlines()[0]
                raise GangFailure(
                    "out_of_memory"
                    if isinstance(error, ray.exceptions.OutOfMemoryError)
                    else "failed",
                    f"worker {index} died: {cause}",
                ) from None
            if isinstance(answer, dict) and "failure" in answer:
                failure = answer["failure"]
                raise GangFailure(
                    failure["outcome"],
                    f"worker {index}: {failure['reason']}",
                    failure["traceback"],
                )
            answers[index] = answer
        return answers
