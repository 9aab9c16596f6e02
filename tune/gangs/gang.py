"""The gang: the workers of one trial, placed together and kept warm between trials."""

from __future__ import annotations

import time
from typing import Any

import ray

from tune.gangs.diagnosis import Failure, diagnose, failure, log_tails
from tune.gangs.failures import describe
from tune.gangs.heartbeats import Heard, find_stall
from tune.gangs.network import meeting_address
from tune.gangs.seating import Seat, order_by_host, seats
from tune.gangs.worker import Answer, RemoteWorker
from tune.patience import LOOK_EVERY_S, SLOW_STAGE_S


class GangFailure(RuntimeError):
    """An attempt is over: a worker failed, died or stands still. The gang cannot be used again."""

    def __init__(self, failure: Failure, *, step: int, log_tails: dict[int, str]) -> None:
        super().__init__(failure.cause)
        self.failure, self.step, self.log_tails = failure, step, log_tails


class Gang:
    """`num_workers` actors, each in a bundle of the placement group of the calling trial."""

    def __init__(self, *, num_workers: int, cpus: int, gpus: float) -> None:
        self.shape = (num_workers, cpus, gpus)
        self.workers = [
            RemoteWorker.options(num_cpus=cpus, num_gpus=gpus).remote() for _ in range(num_workers)
        ]
        self.places: list[Answer] = []  # by rank, once they are known
        self.seats: list[Seat] = []
        self.heard: dict[int, Heard] = {}
        self._asked: dict[int, Any] = {}
        self._ahead: list[Any] | None = None

    def start(self, trial: Answer) -> Answer:
        """Begins a trial, and its first stretch; what the workers did before is stopped.

        Returns:
            `places` of the workers, the hash of their code, and `resumed_step`.

        Raises:
            GangFailure: a worker failed or died.
        """
        num_workers, cpus, gpus = self.shape
        self._ahead, self._asked, self.heard = None, {}, {}
        self.timeout_s: float = trial["heartbeat_timeout_s"]
        if not self.seats:
            self._sit_down()
        now = time.monotonic()
        self.heard = {rank: Heard(now) for rank in range(num_workers)}
        (lead,) = self._all([self.workers[0].lead.remote(trial)])
        context = {
            "driver": trial["driver"],
            "num_workers": num_workers,
            "cpus": cpus,
            "gpus": gpus,
            "master_address": meeting_address(self.places),
            "master_port": lead.pop("port"),
            "meeting_is_open": True,
            "resume_from": lead.pop("resume_from"),
            **trial["context"],
        }
        self._all(
            [
                worker.start.remote(trial["spec"], {**context, "rank": rank, **_local(seat)})
                for rank, (worker, seat) in enumerate(zip(self.workers, self.seats, strict=True))
            ]
        )
        self._ahead = self._step()
        return {**lead, "places": [{**p, "rank": r} for r, p in enumerate(self.places)]}

    def _sit_down(self) -> None:
        """Asks the workers where Ray has put them; ranks, interfaces and devices follow from it."""
        places = self._all([worker.place.remote() for worker in self.workers])
        order = order_by_host(places)
        self.workers = [self.workers[index] for index in order]
        self.places = [{**places[index], "device": "?"} for index in order]
        self.seats = seats(self.places)
        gpus = self.shape[2]
        devices = self._all(
            [w.settle.remote(seat, gpus) for w, seat in zip(self.workers, self.seats, strict=True)]
        )
        for place, device in zip(self.places, devices, strict=True):
            place["device"] = device

    def _step(self) -> list[Any]:
        return [worker.advance.remote() for worker in self.workers]

    def advance(self) -> Answer:
        """Worker 0's next report or outcome, once every worker has reached it.

        Raises:
            GangFailure: as soon as one worker fails or dies, also while others wait for it, or when
                all stand still.
        """
        references, self._ahead = self._ahead or self._step(), None
        answers: list[Answer] = self._all(references)
        return answers[0]

    def kill(self) -> None:
        for worker in self.workers:
            ray.kill(worker)

    @property
    def step(self) -> int:
        """The last one that a worker is known to have done."""
        return max((heard.step for heard in self.heard.values()), default=0)

    def _all(self, references: list[Any]) -> list[Any]:
        """All answers in order; the first failure ends the wait for the others."""
        pending, order = list(references), {ref: i for i, ref in enumerate(references)}
        answers: list[Any] = [None] * len(references)
        begun = time.monotonic()
        for heard in self.heard.values():
            heard.at = begun  # nobody listened while nothing was asked
        while pending:
            ready, pending = ray.wait(pending, num_returns=1, timeout=LOOK_EVERY_S)
            for reference in ready:
                answers[order[reference]] = self._answer(order[reference], reference)
            if not ready and self.heard:
                self._listen()
            elif not ready and time.monotonic() - begun > SLOW_STAGE_S:
                rank = order[pending[0]]
                cause = f"worker {rank} has not started within {SLOW_STAGE_S:.0f} s"
                raise self._failed(failure("hung", cause, rank))
        return answers

    def _answer(self, rank: int, reference: Any) -> Any:
        try:
            answer = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            told = describe(error.cause)
            cause = f"worker {rank}: {told['cause']}"
            raise self._failed(Failure(rank=rank, **{**told, "cause": cause})) from None
        except ray.exceptions.RayError as error:
            raise self._failed(None, error) from None
        if isinstance(answer, dict) and "failure" in answer:
            told = answer["failure"]
            cause = f"worker {rank}: {told['cause']}"
            raise self._failed(Failure(rank=rank, **{**told, "cause": cause}))
        return answer

    def _listen(self) -> None:
        """Takes the heartbeats that have come and asks for new ones."""
        for rank in self.heard:
            if rank not in self._asked:
                self._asked[rank] = self.workers[rank].beat.remote()
        references = list(self._asked.values())
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0.5)
        for rank, reference in list(self._asked.items()):
            if reference in ready:
                del self._asked[rank]
                self.heard[rank] = Heard(time.monotonic(), self._answer(rank, reference))
        stall = find_stall(self.heard, time.monotonic(), timeout_s=self.timeout_s)
        if stall is not None:
            raise self._failed(failure("hung", stall.cause, stall.rank))

    def _failed(self, heard: Failure | None, error: Exception | None = None) -> GangFailure:
        """Asks every member what happened."""
        workers = dict(enumerate(self.workers))
        places = dict(enumerate(self.places))
        if len(places) < len(workers):  # a worker died before it could say where it is
            cause = f"a worker could not start: {str(error).strip().splitlines()[0]}"
            found, tails = heard or failure("worker_died", cause, 0), {}
        else:
            found = diagnose(heard, workers=workers, places=places)
            tails = log_tails(workers, places)
        return GangFailure(found, step=self.step, log_tails=tails)


def _local(seat: Seat) -> Answer:
    return {"local_rank": seat.local_rank, "local_workers": seat.local_workers}
