"""The Python and the study files of the pages, and the numbers that scripts print into them."""

from __future__ import annotations

import doctest
import runpy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.study.load import load_study
from harness.study.study_file import Study
from harness.study.suite_file import suite_of
from optimizers import MuonSpec

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs/tutorials").glob("*.md"))
PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
MUON_PAGE = "docs/tutorials/muon-hyperparameters.md"
# Their studies name what the page adds; test_newcomer.py trains with them.
ADDING = ("add-an-optimizer.md", "add-a-model.md", "add-a-data-source.md")

Blocks = Callable[[str], list[Any]]


@pytest.mark.parametrize("page", TUTORIALS)
def test_python_with_prompts_prints_what_the_page_says(page: str, blocks_of: Blocks) -> None:
    names: dict[str, Any] = {}  # a later block goes on where an earlier one ended
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    failures: list[str] = []
    for block in blocks_of(page):
        if block.language == "python" and block.text.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(block.text, names, page, page, block.line)
            runner.run(test, out=failures.append, clear_globs=False)
            names |= test.globs
    assert not failures, "".join(failures)


@pytest.mark.parametrize("page", TUTORIALS)
def test_python_without_prompts_runs_on_what_the_command_before_it_wrote(
    page: str, blocks_of: Blocks, at_the_desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.data import prepare
    from harness.study.study_file import find_variant
    from harness.study.trial import trial_spec
    from harness.training.backends.protocol import WorkerContext
    from harness.training.loop import train

    scripts = [b.text for b in blocks_of(page) if b.language == "python" and ">>>" not in b.text]
    if not scripts:
        return
    if not (at_the_desk / "trial.jsonl").exists():
        study = load_study(Path("studies/quickstart.toml"))
        dataset = prepare(study.data)
        spec = trial_spec(study, find_variant(study, "adamw"), 0, dataset.manifest.sha256)
        reports = [r.model_dump_json() for r in train(spec, WorkerContext(dataset.path))]
        (at_the_desk / "trial.jsonl").write_text("\n".join(reports))
    for script in scripts:
        exec(script, {})
    assert "s of training" in capsys.readouterr().out


@pytest.mark.parametrize("page", [p for p in PAGES if not p.endswith(ADDING)])
def test_every_study_and_every_part_of_one_is_valid(
    page: str, blocks_of: Blocks, study_text: str
) -> None:
    small = tomllib.loads(study_text)
    for block in blocks_of(page):
        if block.language != "toml":
            continue
        values = tomllib.loads(block.text)
        if not any(isinstance(value, dict) for value in values.values()):
            values = {"data": values}  # keys that the page has described as those of [data]
        if "analysis" not in values and "variants" in values:
            values["analysis"] = {"baseline": values["variants"][0]["name"]}
        if "tasks" in values:
            suite, mistakes = suite_of(values)
            assert suite is not None, mistakes
            continue
        Study.model_validate(values if "name" in values else small | values)


def test_the_page_of_hyperparameters_names_every_one(blocks_of: Blocks) -> None:
    text = (ROOT / MUON_PAGE).read_text()
    names = set(MuonSpec.model_fields) - {"kind"}
    assert not [name for name in names if f"`{name}`" not in text]


def test_the_table_of_singular_values_is_what_the_script_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ROOT / "docs/figures/newton_schulz.py"
    png = tmp_path / "figure.png"
    monkeypatch.setattr("sys.argv", [str(script), "--png", str(png)])
    runpy.run_path(str(script), run_name="__main__")
    table = "".join(line for line in capsys.readouterr().out.splitlines(True) if line[0] == "|")
    assert table in (ROOT / "docs/tutorials/introduction-to-muon.md").read_text()
    assert png.stat().st_size > 10_000
