"""What stands in the fenced blocks of the pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "docker" / "README.md", *(ROOT / "docs").rglob("*.md")])
SHELLS = ("sh", "bash", "console")
PROGRAMS = ("optbench", "make", "python", "torchrun", "ray", "mlflow", "docker", "kubectl")
TABLE_PAGE = "docs/how-to/statistics-of-your-own-table.md"
DATA_PAGE = "docs/how-to/use-your-own-data.md"


@dataclass(frozen=True)
class FencedBlock:
    """A fenced block of a page, with the text since the block before it."""

    page: str
    line: int
    language: str
    before: str
    text: str


def fenced_blocks(page: Path) -> Iterator[FencedBlock]:
    """Every fenced block of a Markdown file, in order."""
    before: list[str] = []
    block: list[str] | None = None
    language, start = "", 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.startswith("```"):
            (before if block is None else block).append(line)
        elif block is None:
            block, language, start = [], line.removeprefix("```").strip(), number
        else:
            name = str(page.relative_to(ROOT))
            text = "\n".join(block) + "\n"
            yield FencedBlock(name, start, language, "\n".join(before), text)
            before, block = [], None
    assert block is None, f"{page}: a fence that is not closed"


@dataclass(frozen=True)
class Command:
    """One command line, continuation lines joined, without comment, and the pages that have it."""

    text: str
    pages: tuple[str, ...]


def shell_commands() -> list[Command]:
    """Of all pages, each text once."""
    pages_of: dict[str, list[str]] = {}
    for page in PAGES:
        for block in fenced_blocks(page):
            program = "".join(block.text.split(maxsplit=1)[:1])
            if block.language in SHELLS or (not block.language and program in PROGRAMS):
                for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
                    if text := re.sub(r"(^|\s+)#\s.*", "", line).strip():
                        pages_of.setdefault(text, []).append(block.page)
    return [Command(text, tuple(pages)) for text, pages in pages_of.items()]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "command" in metafunc.fixturenames:
        commands = shell_commands()
        metafunc.parametrize("command", commands, ids=[command.text for command in commands])


@pytest.fixture(scope="session")
def blocks_of() -> Callable[[str], list[FencedBlock]]:
    """The fenced blocks of a page, named by its path in the repository."""
    return lambda page: list(fenced_blocks(ROOT / page))


@pytest.fixture(scope="session")
def named_file() -> Callable[[list[FencedBlock], str], str]:
    """The block that the text before it calls by the name of a file."""

    def find(blocks: list[FencedBlock], name: str) -> str:
        (text,) = [b.text for b in blocks if re.search(rf"`{re.escape(name)}`[^`]*$", b.before)]
        return text

    return find


@pytest.fixture(scope="session")
def desk(
    study_text: str, suite_text: str, tmp_path_factory: pytest.TempPathFactory, blocks_of: Any
) -> Path:
    """A reader's folder, with all that the pages speak of, small: studies, a table, texts, runs."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "studies").mkdir()
    (folder / "corpus").mkdir()
    study = study_text.replace('name = "tiny"', 'name = "quickstart"')
    (folder / "studies" / "quickstart.toml").write_text(study)
    (folder / "studies" / "suite-quickstart.toml").write_text(suite_text)
    (table,) = [b for b in blocks_of(TABLE_PAGE) if b.language == "csv"]
    (folder / "results.csv").write_text(table.text)
    texts = [f"Text {number} of some documents about the number {number}." for number in range(99)]
    lines = [json.dumps({"text": text * 9}) for text in texts]
    (folder / "corpus" / "texts.jsonl").write_text("\n".join(lines))
    own_data = next(b for b in blocks_of(DATA_PAGE) if b.language == "toml")
    (folder / "my-study.toml").write_text(with_section(study, own_data.text))
    train(folder / "studies" / "quickstart.toml", folder / "runs")
    return folder


@pytest.fixture
def at_the_desk(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test stands in the reader's folder."""
    monkeypatch.chdir(desk)
    return desk


def with_section(study: str, section: str) -> str:
    """The study with one of its sections replaced."""
    name = re.escape(section.splitlines()[0])
    return re.sub(rf"^{name}\n.*?\n\n", lambda _: f"{section}\n", study, flags=re.M | re.S)


def train(study_file: Path, runs_dir: Path) -> None:
    """What `optbench run` leaves of a study, without Ray, MLflow and figures."""
    from harness.analysis.study_analysis import analyse_study
    from harness.data import prepare
    from harness.report.results_csv import write_results_csv
    from harness.runs.folder import StudyFolder
    from harness.runs.plan_file import freeze
    from harness.study.load import load_study
    from harness.study.plan import expand, make_plan
    from harness.training.backends.protocol import WorkerContext
    from harness.training.loop import train as reports_of

    study = load_study(study_file)
    dataset = prepare(study.data)
    folder = StudyFolder(runs_dir / study.name)
    freeze(folder, make_plan(study, dataset.manifest.sha256), source=study_file)
    for key, spec in expand(study, dataset.manifest.sha256).items():
        trial, training = folder.trial(key), reports_of(spec, WorkerContext(dataset.path))
        trial.start(spec)
        while True:
            try:
                trial.append(next(training))
            except StopIteration as end:
                trial.finish(end.value)
                break
    write_results_csv(analyse_study(folder))


@pytest.fixture(scope="session")
def commands_of_all_pages() -> list[Command]:
    return shell_commands()


@pytest.fixture(scope="session")
def pages() -> list[Path]:
    return PAGES
