"""The folder of a suite: its frozen plan, and a study's folder for each of its tasks.

```
runs/<suite>/
  suite.toml suite.json  owner.json (while a driver runs)
  amendments.json  (where the plan was changed)
  tasks/<task>/    a study's folder, see `harness.runs.folder`
  analysis.json  report/
```
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from harness.runs.folder import SUITE_PLAN, TASKS, StudyFolder, TrialFolder
from harness.runs.reading import exists
from harness.study.record import Record
from harness.study.suite_settings import SuiteSettings
from harness.study.trial import canonical_sha256


class PlannedTask(Record):
    """A task as it is frozen: which plan, and where it lies on the axes of scaling."""

    name: str
    question: str = ""
    plan_sha256: str = Field(description="of the plan of the task's study")
    active_parameters: int = Field(description="of its model, those that one token uses")
    tokens: int = Field(description="that one run of its study trains on")
    size: str | None = Field(default=None, description="name of its size; None: its parameters")
    length: str | None = Field(default=None, description="name of its length; None: its tokens")


class SuitePlan(Record):
    """suite.json: the tasks and how they are judged together, fixed before the first trial."""

    suite_version: int = 1
    name: str
    question: str = ""
    settings: SuiteSettings
    baseline: str
    variants: tuple[str, ...] = Field(description="the contestants, the baseline among them")
    tasks: tuple[PlannedTask, ...]

    @property
    def sha256(self) -> str:
        return canonical_sha256(self)

    @property
    def challengers(self) -> tuple[str, ...]:
        return tuple(name for name in self.variants if name != self.baseline)


@dataclass(frozen=True)
class SuiteFolder:
    """`runs/<suite>/`."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path).resolve())

    @property
    def plan_path(self) -> Path:
        return self.path / SUITE_PLAN

    @property
    def analysis_path(self) -> Path:
        return self.path / "analysis.json"

    @property
    def report_folder(self) -> Path:
        return self.path / "report"

    @property
    def is_there(self) -> bool:
        return exists(self.plan_path)

    def task(self, name: str) -> StudyFolder:
        """The folder of the task's study."""
        return StudyFolder(self.path / TASKS / name)

    def tasks(self) -> list[StudyFolder]:
        """Of every task that lies here."""
        return [StudyFolder(path) for path in sorted((self.path / TASKS).glob("*/"))]

    def trial(self, name: str) -> TrialFolder:
        """Of `TASK/TRIAL_KEY`, as a trial is called where several tasks are trained together."""
        task, _, key = name.rpartition("/")
        return self.task(task).trial(key)

    @contextmanager
    def locked(self, tasks: tuple[str, ...]) -> Iterator[None]:
        """Holds the folder, and those of its tasks, for one driver.

        Raises:
            UserError: another process runs the suite or one of its tasks.
        """
        with ExitStack() as held:
            held.enter_context(StudyFolder(self.path).locked())
            for task in tasks:
                held.enter_context(self.task(task).locked())
            yield
