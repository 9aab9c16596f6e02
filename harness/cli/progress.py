"""What a person sees while trials run: a live view in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.report.numbers import duration
from harness.training.records import Outcome, Report

if TYPE_CHECKING:
    from tune.job import Job

REFRESH_PER_SECOND = 4
SHOWN_LEADERS = 4


@dataclass
class Running:
    """A trial that is being trained."""

    job: Job
    report: Report | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def total_steps(self) -> int:
        return self.job.spec.training.steps

    @property
    def fraction(self) -> float:
        return self.report.step / self.total_steps if self.report else 0.0


class Progress:
    """Follows trials; use it as a context manager and as an observer.

    Args:
        total: trials in all, those included that were done before.
    """

    def __init__(
        self,
        *,
        total: int,
        already_done: int,
        console: Console,
    ) -> None:
        self.total, self.already_done = total, already_done
        self.console = console
        self.begun = time.monotonic()
        self.best: dict[str, float] = {}  # lowest final loss so far, by variant
        self.first_start: float | None = None
        self.doing = "starting"  # until a trial runs
        self.running: dict[str, Running] = {}
        self.outcomes: Counter[str] = Counter()
        self.live = (
            Live(self, console=console, refresh_per_second=REFRESH_PER_SECOND, transient=True)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Progress:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, doing: str) -> None:
        """What goes on before the first trial runs, for somebody who waits."""
        self.doing = doing
        if self.live is None:
            self.console.print(f"{doing} ({self._so_far()} so far)", soft_wrap=True)

    def notice(self, what: str) -> None:
        """What keeps trials from running, or changes how many do."""
        self.console.print(Text(what, style="yellow"), soft_wrap=True)

    @contextmanager
    def kept_when_interrupted(self) -> Iterator[None]:
        """Says on Ctrl-C that what has ended is kept, and how to go on."""
        try:
            yield
        except KeyboardInterrupt:
            self.console.print(
                Text.assemble(
                    ("interrupted", "yellow"),
                    f": {self.done} of {self.total} trials are finished and kept; "
                    "run the same command again to go on",
                ),
                soft_wrap=True,
            )
            raise

    def trial_started(self, job: Job) -> None:
        self.doing = "training"
        self.first_start = self.first_start or time.monotonic()
        self.running[job.id] = Running(job)

    def trial_reported(self, key: str, report: Report) -> None:
        self.running[key].report = report

    def attempt_failed(self, key: str, cause: str) -> None:
        trial = self.running[key]
        self.console.print(Text(f"{trial.job.name}: {cause}", style="yellow"), soft_wrap=True)

    def trial_given_up(self, key: str, cause: str) -> None:
        trial = self.running.pop(key, None)
        if trial is None:
            return  # it never ran; the end of the run names it
        text = f"{trial.job.name}: no outcome in this run: {cause}"
        self.console.print(Text(text, style="yellow"), soft_wrap=True)

    def trial_ended(self, key: str, outcome: Outcome) -> None:
        trial = self.running.pop(key)
        self.outcomes[outcome.outcome] += 1
        if outcome.outcome == "completed" and outcome.validation_loss is not None:
            for variant in trial.job.variants if trial.job.comparable else ():
                best = self.best.get(variant, outcome.validation_loss)
                self.best[variant] = min(best, outcome.validation_loss)
        loss = "-" if outcome.validation_loss is None else f"{outcome.validation_loss:.4f}"
        line = (
            f"[{self.done}/{self.total}] {trial.job.name}: {outcome.outcome}, "
            f"validation loss {loss}, {duration(time.monotonic() - trial.since, rough=True)}"
        )
        if outcome.outcome not in ("completed", "stopped"):
            line += f": {(outcome.reason or '').splitlines()[0] if outcome.reason else ''}"
        if self.live is None and (left := self.seconds_left()) is not None:
            line += f"; about {duration(left, rough=True)} left"
        style = None if outcome.outcome == "completed" else "yellow"
        self.console.print(Text(line, style=style or ""), soft_wrap=True)

    @property
    def done(self) -> int:
        return self.already_done + self.outcomes.total()

    def seconds_left(self) -> float | None:
        """From the share of the steps that is done and the time it took; None before any step."""
        finished = self.outcomes.total() + sum(trial.fraction for trial in self.running.values())
        if not finished or self.first_start is None:
            return None
        elapsed = time.monotonic() - self.first_start
        return elapsed * (self.total - self.already_done - finished) / finished

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("running", "step", "train loss", "validation loss", "tokens/s", ""):
            table.add_column(column, justify="left" if column == "running" else "right")
        for trial in list(self.running.values()):
            report = trial.report
            table.add_row(
                trial.job.name,
                f"{report.step if report else 0}/{trial.total_steps}",
                _number(report.train_loss if report else None),
                _number(report.validation_loss if report else None),
                f"{report.tokens_per_s:,.0f}" if report and report.tokens_per_s else "-",
                ProgressBar(total=1.0, completed=trial.fraction, width=16),
            )
        left = self.seconds_left()
        bad = {word: n for word, n in self.outcomes.items() if word != "completed"}
        summary = f"{self.done} of {self.total} trials done, {len(self.running)} running"
        summary += "".join(f", {n} {word}" for word, n in bad.items())
        summary += f" · {self._so_far()} so far · "
        summary += self.doing if left is None else f"about {duration(left, rough=True)} left"
        yield Group(table, *self._best_lines(), Text(summary, style="bold"))

    def _so_far(self) -> str:
        return duration(time.monotonic() - self.begun, rough=True)

    def _best_lines(self) -> list[Text]:
        """The lowest final losses so far; a ranking by them is not a verdict."""
        if not self.best:
            return []
        leaders = sorted(self.best.items(), key=lambda item: item[1])[:SHOWN_LEADERS]
        text = "lowest so far: " + ", ".join(f"{name} {loss:.4f}" for name, loss in leaders)
        return [Text(text, style="dim")]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
