"""From what is typed on the command line to the folder of a study, or of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.runs.folder import StudyFolder
    from harness.runs.suite_folder import SuiteFolder

NamedStudy = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="a study file, the name of a study, or SUITE/TASK for a task of one"
    ),
]
NamedStudyOrSuite = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="the file or the name of a study or a suite, or SUITE/TASK for a task of one",
    ),
]


def study_folder(runs_dir: Path, name: str) -> StudyFolder:
    from harness.runs.folder import StudyFolder

    return StudyFolder(runs_dir / name)


def named(name: str, runs_dir: Path) -> StudyFolder | SuiteFolder:
    """Of a study or a suite: of its file, or of its name.

    Raises:
        UserError: the file has mistakes, or the suite has no such task.
    """
    from harness.runs.suite_folder import SuiteFolder
    from harness.runs.suite_plan import load_suite_plan
    from harness.study.suite_file import load_study_or_suite

    if name.endswith(".toml"):
        name = load_study_or_suite(Path(name)).name
    if (suite := SuiteFolder(runs_dir / name)).is_there:
        return suite
    above, _, task = name.rpartition("/")
    if above and (suite := SuiteFolder(runs_dir / above)).is_there:
        tasks = [planned.name for planned in load_suite_plan(suite, whole=False).tasks]
        if task not in tasks:
            raise UserError(f"no task {task!r} in the suite {above}: choose one of {tasks}")
        return suite.task(task)
    return study_folder(runs_dir, name)


def named_folder(study: str, runs_dir: Path) -> StudyFolder:
    """Of a study or of a task: of a study file, of a study's name, or of SUITE/TASK.

    Raises:
        UserError: it is a suite, which holds several studies.
    """
    from harness.runs.folder import StudyFolder

    folder = named(study, runs_dir)
    if isinstance(folder, StudyFolder):
        return folder
    name = folder.path.name
    tasks = sorted(path.name for path in (folder.path / "tasks").glob("*/"))
    raise UserError(
        f"{name} is a suite: name one of its tasks: {', '.join(f'{name}/{t}' for t in tasks)}"
    )
