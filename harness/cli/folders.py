"""From what is typed on the command line to the folder of a study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.runs.folder import StudyFolder

NamedStudy = Annotated[
    str, typer.Argument(metavar="STUDY", help="a study file, or the name of a study")
]


def study_folder(runs_dir: Path, name: str) -> StudyFolder:
    from harness.runs.folder import StudyFolder

    return StudyFolder(runs_dir / name)


def named_folder(study: str, runs_dir: Path) -> StudyFolder:
    """Of a study file, or of a study's name."""
    from harness.study.load import load_study

    name = load_study(Path(study)).name if study.endswith(".toml") else study
    return study_folder(runs_dir, name)
