"""Gangs of real workers, forked from this process, which imported everything once.

Reads one request as JSON from standard input and answers each check with a line of JSON. A gang
that hangs, or of which a worker raises, is ended, and a new one goes on after that check. Where
standard input closes, nobody waits for answers any more, and everything ends.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from harness.verification.places import Place
from harness.verification.results import CheckResult
from harness.verification.subjects import Subject

Task = tuple[Place, str]
PORTS = 600
"""Each opening of a backend meets at a port of its own; no gang opens more often."""

OTHERS_RAISE_TOO_S = 5.0


def run_worker(
    subject: Subject, tasks: Sequence[Task], ports: list[int], rank: int, answers: Connection
) -> None:
    """Runs all tasks; after one that raised this process is in no known state, and ends."""
    from harness.verification.bench import Bench
    from harness.verification.places import ALONE
    from harness.verification.runs import RUNS

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    meeting_ports = iter(ports)
    alone = Bench(subject, ALONE)
    bench: Bench | None = None
    for index, (place, check) in enumerate(tasks):
        answers.send(("begins", index, None))
        try:
            if bench is None or bench.place != place:
                bench = Bench(subject, place, rank=rank, ports=meeting_ports, alone=alone)
                if (refusal := _refusal(bench)) is not None:
                    answers.send(("refuses", index, refusal))
                    time.sleep(2 * OTHERS_RAISE_TOO_S)
                    return
            found = RUNS[check](bench)
            answers.send(("found", index, (found.figure, found.limit, found.detail)))
        except BaseException as error:
            traceback.print_exc()
            answers.send(("raised", index, f"{type(error).__name__}: {error}"))
            time.sleep(2 * OTHERS_RAISE_TOO_S)  # to leave now would make the others raise as well
            return


def _leave_with_parent() -> None:
    """A worker that waits for others for ever would outlive a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _refusal(bench: Any) -> str | None:
    """What the optimizer says when it is bound where it cannot run; a ValueError by contract."""
    if bench.place.workers == 1:
        return None
    try:
        with bench.open():
            return None
    except ValueError as error:
        return str(error)


class _Gang:
    """The processes of one gang and what they say."""

    def __init__(
        self,
        subject: Subject,
        tasks: Sequence[Task],
        workers: int,
        patience_s: float,
        asker: int | None = None,
    ) -> None:
        self.patience_s, self.asker = patience_s, asker
        fork = multiprocessing.get_context("fork")
        ports = free_ports(PORTS)
        pairs = [fork.Pipe(duplex=False) for _ in range(workers)]
        self.answers = [receiver for receiver, _ in pairs]
        self.processes = [
            fork.Process(target=run_worker, args=(subject, tasks, ports, rank, sender))
            for rank, (_, sender) in enumerate(pairs)
        ]
        for process in self.processes:
            process.start()
        for _, sender in pairs:
            sender.close()

    def said(self) -> Iterator[tuple[int, str, int, Any]]:
        """`(rank, word, index, content)`; ends when nobody is left, or is silent for so long.

        Whose process ended by itself has `raised` too. Its pipe says nothing of it: the others hold
        its end as well.
        """
        answers = {receiver: rank for rank, receiver in enumerate(self.answers)}
        left = {process.sentinel: rank for rank, process in enumerate(self.processes)}
        while left:
            asker = [] if self.asker is None else [self.asker]
            ready = wait([*answers, *left, *asker], timeout=self.patience_s)
            if not ready:
                return
            if self.asker in ready:
                sys.exit("who asked is gone")
            for receiver in (item for item in ready if isinstance(item, Connection)):
                try:
                    yield (answers[receiver], *receiver.recv())
                except EOFError:
                    del answers[receiver]
            if any(isinstance(item, Connection) for item in ready):
                continue  # what was said before an end comes first
            for sentinel in (item for item in ready if isinstance(item, int)):
                process = self.processes[rank := left.pop(sentinel)]
                process.join()
                if process.exitcode:
                    yield rank, "raised", 0, f"the process ended: {_exit(process.exitcode)}"

    def end(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


def _exit(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"{signal.strsignal(-code)} (signal {-code})"


def run_tasks(
    subject: Subject,
    tasks: Sequence[Task],
    *,
    workers: int,
    patience_s: float,
    asker: int | None = None,
) -> Iterator[CheckResult]:
    """All tasks of the gangs of one size.

    Args:
        asker: The end of a pipe that closes when nobody waits for the answers any more.
    """
    left = list(tasks)
    while left:
        gang = _Gang(subject, left, workers, patience_s, asker)
        try:
            done, last = 0, None
            for result in _results(gang, left, workers):
                done, last = done + 1, result
                yield result
        finally:
            gang.end()
        assert last is not None, "a gang answers its first check, or is silent about it"
        place = left[done - 1][0]
        left = left[done:]
        if last.status == "not applicable":  # it refuses this place
            for _, check in [task for task in left if task[0] == place]:
                yield CheckResult(check, place.label, "not applicable", detail=last.detail)
            left = [task for task in left if task[0] != place]


def _results(gang: _Gang, tasks: Sequence[Task], workers: int) -> Iterator[CheckResult]:
    """Results in the order of the tasks, until one that ends the gang."""
    current, patience_s = 0, gang.patience_s
    raised: dict[int, str] = {}
    refusals: set[str] = set()
    finished: dict[int, set[int]] = {}
    figures: dict[int, Any] = {}
    for rank, word, index, content in gang.said():
        place, check = tasks[index]
        if word in ("raised", "refuses"):
            raised.setdefault(rank, content if word == "raised" else f"ValueError: {content}")
            refusals.add(content if word == "refuses" else "")
            gang.patience_s = OTHERS_RAISE_TOO_S
            if len(raised) < workers:
                continue
            if len(refusals) == 1 and "" not in refusals:  # all of them, by the same words
                yield CheckResult(check, place.label, "not applicable", detail=content)
                return
            break
        if word == "found":
            finished.setdefault(index, set()).add(rank)
            if rank == 0:
                figures[index] = content
            if len(finished[index]) == workers:
                yield _judged(place, check, *figures[index])
                current = index + 1
                if current == len(tasks):
                    return
    place, check = tasks[current]
    yield _broken(place, check, raised, workers, patience_s)


def _judged(place: Place, check: str, figure: float, limit: float, detail: str) -> CheckResult:
    if figure <= limit:  # NaN is not
        return CheckResult(check, place.label, "pass", figure, limit)
    return CheckResult(check, place.label, "fail", figure, limit, detail)


def _broken(
    place: Place, check: str, raised: dict[int, str], workers: int, patience_s: float
) -> CheckResult:
    if not raised:
        detail = f"the workers hung: no answer in {patience_s:g} s, as where one waits for others"
        return CheckResult(check, place.label, "fail", detail=detail)
    said: dict[str, int] = {}
    for rank, message in raised.items():
        said.setdefault(message, rank)
    detail = "; ".join(said)
    if len(said) > 1 or len(raised) < workers:
        detail = "; ".join(f"worker {rank} of {workers}: {text}" for text, rank in said.items())
    waited = "" if len(raised) == workers else "; the others did not"
    return CheckResult(check, place.label, "error", detail=detail + waited)


def free_ports(count: int) -> list[int]:
    """Below those that the system gives away by itself: nobody takes one in the meantime."""
    ports: list[int] = []
    for port in random.sample(range(20_000, 32_000), 12_000):
        if len(ports) == count:
            break
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports.append(port)
    return ports


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # DeepSpeed prints lines of its own
    request = json.loads(sys.stdin.readline())
    sys.path[:] = request["path"]
    # Only what the user's own code says would be news; torch and DeepSpeed warn in every opening.
    warnings.simplefilter("ignore")
    subject = Subject(request["target"], request["settings"])
    tasks = [(Place(backend, workers), check) for backend, workers, check in request["tasks"]]
    import_once({place.backend for place, _ in tasks if place.workers > 1})
    for workers in sorted({place.workers for place, _ in tasks}):
        of_size = [task for task in tasks if task[0].workers == workers]
        for result in run_tasks(
            subject, of_size, workers=workers, patience_s=request["patience_s"], asker=0
        ):
            print(json.dumps(result.as_json()), file=answers, flush=True)


def import_once(backends: set[str]) -> None:
    """What every worker would import by itself otherwise, for seconds each."""
    import gc
    import importlib

    modules = ["torch._dynamo", "harness.training.backends.ddp", "harness.verification.runs"]
    if "fsdp2" in backends:
        modules.append("harness.training.backends.fsdp2")
    if any(backend.startswith("zero") for backend in backends):
        modules += [
            "deepspeed",
            "deepspeed.module_inject.auto_ep_layer",
            "deepspeed.runtime.superoffload.superoffload_stage3",
            "transformers.integrations",
            "harness.training.backends.deepspeed",
        ]
    for module in modules:
        with suppress(ModuleNotFoundError):
            importlib.import_module(module)
    gc.freeze()  # Accelerate collects garbage after every opening: not among all that was imported


if __name__ == "__main__":
    main()
