"""What comes before the first trial of a study: its data, its dtypes, its plan's context."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from harness.errors import UserError

if TYPE_CHECKING:
    from harness.data import TokenDataset
    from harness.runs.folder import StudyFolder
    from harness.study.resolution import Resolution
    from harness.study.study_file import Study


def tell_growth(folder: StudyFolder, study: Study, console: Console) -> None:
    """What was added to the frozen plan, before it is trained."""
    from harness.analysis.growth import growth_sentences

    for line in growth_sentences(folder.additions(), study.analysis):
        console.print(Text(line, style="yellow"), soft_wrap=True)


def resolved(
    study: Study, folder: StudyFolder | None, console: Console
) -> tuple[Study, Resolution | None]:
    """The study with a dtype in the place of every `auto`, and where it comes from."""
    from harness.runs.resolve import resolve
    from harness.study.notices import notices

    found = resolve(study, folder)
    for notice in (*notices(study), *([found.notice] if found.notice is not None else [])):
        console.print(Text(f"{notice}.", style="yellow"), soft_wrap=True)
    return found.study, found.resolution


def prepare_data(study: Study, console: Console) -> TokenDataset:
    from harness.data import prepare

    dataset = prepare(study.data, progress=lambda line: console.print(f"data: {line}"))
    check_data(study, dataset)
    return dataset


def check_data(study: Study, dataset: TokenDataset) -> None:
    if dataset.num_train_windows < study.training.batch_size:
        raise UserError(
            f"training.batch_size is {study.training.batch_size} and the training text has "
            f"{dataset.num_train_windows} windows of {dataset.sequence_length} tokens: use more "
            "text, shorter windows or a smaller batch"
        )


def write_context(folder: StudyFolder, dataset: TokenDataset) -> None:
    from harness.runs.files import write_json

    write_json(folder.path / "data.json", dataset.manifest.model_dump(mode="json"))
