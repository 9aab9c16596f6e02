"""The study files and what their READMEs tell people to run."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

from harness.study.suite_file import load_study_or_suite

STUDIES = Path(__file__).parents[1] / "studies"
READMES = sorted(STUDIES.glob("*/README.md"))


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_study_file_is_valid_and_named_like_its_file(path: Path) -> None:
    study = load_study_or_suite(path)
    assert study.name == path.stem
    assert study.question.endswith("?")


def commands() -> list[str]:
    blocks = [
        block
        for readme in READMES
        for block in re.findall(r"```\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    ]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("optbench run")]


@pytest.mark.parametrize("command", commands())
def test_a_command_of_a_readme_names_a_valid_study(command: str) -> None:
    words = shlex.split(command)
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    load_study_or_suite(STUDIES.parent / words[2], overrides)


def test_what_is_published_is_the_report_without_its_figures() -> None:
    sections = runpy.run_path(str(STUDIES / "publish.py"))["sections"]
    report = "\n\n".join(
        [
            "# x\n\n## Verdict\n\n- **better**: a",
            "## Results\n\n### Variants, best first\n\n| a |",
            "![Every seed](seed_strip.png)\n\n*Every seed.* One mark a seed.",
            "## Training curves\n\nb",
        ]
    )
    published = sections(report, ("Verdict", "Variants, best first"))
    assert published == "### Verdict\n\n- **better**: a\n\n### Variants, best first\n\n| a |"
    with pytest.raises(SystemExit, match="Nothing"):
        sections(report, ("Nothing",))


def test_the_runs_of_a_suite_are_published_with_their_tasks(tmp_path: Path) -> None:
    write = runpy.run_path(str(STUDIES / "publish.py"))["write_runs_of_tasks"]
    reports = {"": "task,variant\nsmall,a\nlarge,a\n", "tasks/small": "variant,value\na,1\n"}
    reports["tasks/large"] = "variant,value\na,2\n"
    for place, table in reports.items():
        (tmp_path / place / "report").mkdir(parents=True)
        (tmp_path / place / "report/results.csv").write_text(table)
    write(tmp_path, tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text() == "task,variant,value\nsmall,a,1\nlarge,a,2\n"
    write(tmp_path / "tasks/small", tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists(), "a study has no tasks"
