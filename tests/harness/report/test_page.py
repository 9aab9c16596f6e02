"""The page: whole, self-contained, the same for the same files, and honest about gaps."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from harness.analysis.study_analysis import analyse_study
from harness.report.figures import FIGURES
from harness.report.html import write_html
from harness.report.markdown import write_markdown
from harness.report.terminal.study import render_study
from harness.report.write import gather, write_report
from harness.runs.files import write_json
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.training.records import Arithmetic

Write = Callable[..., StudyFolder]


class References(HTMLParser):
    """Every address that a browser would load, and the nesting of the tags."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = dict(attrs)
        self.loaded += [value for name in ("src", "srcset", "data") if (value := names.get(name))]
        if tag == "link":
            self.loaded.append(names.get("href") or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"


def parsed(html: str) -> References:
    references = References()
    references.feed(html)
    references.close()
    return references


def text_of(folder: StudyFolder) -> str:
    """The page without its figures, which take most of the time."""
    return write_html(gather(analyse_study(folder), draw=lambda view: {}))


def markdown_of(folder: StudyFolder) -> str:
    return write_markdown(gather(analyse_study(folder), draw=lambda view: {}))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_page_needs_nothing_but_itself(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=60)
    found = parsed(write_report(analyse_study(folder)).read_text(encoding="utf-8"))
    assert found.open == [], "every tag is closed"
    drawn = list(folder.report_folder.glob("*.png"))
    assert len(found.loaded) == len(drawn) > 5
    assert all(address.startswith("data:image/svg+xml;base64,") for address in found.loaded)
    assert "script" not in found.tags
    assert "url(" not in text_of(folder)


def test_the_same_files_give_the_same_report_and_others_another(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=40)
    write_report(analyse_study(folder))
    first = contents(folder.report_folder)
    write_report(analyse_study(folder))
    assert contents(folder.report_folder) == first
    figures = set(first) - {"index.html", "report.md", "results.csv", "results.tex"}
    assert figures < {f"{name}.png" for name in FIGURES}
    assert len(figures) > 5
    assert "](forest.png)" in (folder.report_folder / "report.md").read_text(encoding="utf-8")
    folder.trial(load_plan(folder).trials[0].key).outcome_path.unlink()
    write_report(analyse_study(folder))
    assert not (folder.report_folder / "forest.png").exists(), "nothing supports it any more"


def test_the_verdict_comes_first(eventful_study: StudyFolder) -> None:
    text = text_of(eventful_study)
    sentence = "muon is better, by at least the margin, than adamw"
    assert text.index(sentence) < text.index("Variants, best first<") < text.index(">Evidence</h2>")


def test_the_markdown_says_the_same(eventful_study: StudyFolder) -> None:
    html = text_of(eventful_study)
    markdown = markdown_of(eventful_study)
    for heading in re.findall(r"<h[23]>(.*?)</h", html):
        assert heading.replace("&#39;", "'") in markdown
    assert "- **better by the margin**: muon is better, by at least the margin" in markdown
    widths = {line.count(" | ") for line in markdown.splitlines() if line.startswith("| rank")}
    assert len(widths) == 1


def test_every_lost_trial_stands_there_with_its_reason(eventful_study: StudyFolder) -> None:
    text = text_of(eventful_study)
    assert "worker 1 died: &lt;signal 9&gt; | out of luck" in text
    assert "the loss diverged at step 60" in text
    markdown = markdown_of(eventful_study)
    assert r"worker 1 died: &lt;signal 9&gt; \| out of luck" in markdown


def test_text_from_files_cannot_become_markup(made_up_study: Write) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    folder = made_up_study(failed={("muon", 1): attack}, question=attack)
    found = parsed(text_of(folder))
    assert "script" not in found.tags
    assert "x" not in found.loaded
    assert "<script>" not in markdown_of(folder)


def test_no_mean_of_survivors_is_shown(eventful_study: StudyFolder) -> None:
    text = text_of(eventful_study)
    row = next(line for line in text.splitlines() if ">muon-hot<" in line and "median" in line)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    assert cells[3].startswith("median")
    assert cells[4:7] == ["–"] * 3, "no difference, no interval and no change"
    assert cells[9:12] == ["–"] * 3, "no perplexity, accuracy and time of survivors"
    assert cells[-1] == "4 of 5, 1 diverged"


def test_hashes_of_plan_and_data_are_shown(eventful_study: StudyFolder) -> None:
    text, plan = text_of(eventful_study), load_plan(eventful_study)
    headlines = "".join(re.findall(r"<dd>(.*?)</dd>", text))
    for value in (plan.sha256, plan.data_sha256):
        assert value in text
        assert value[:12] in headlines
        assert value not in headlines, "a whole hash is no headline"


def test_the_certificate_of_pairing_shows_a_difference(made_up_study: Write) -> None:
    folder = made_up_study()
    trial = folder.trial(load_plan(folder).trials[0].key)
    outcome = trial.outcome()
    assert outcome is not None
    trial.finish(outcome.model_copy(update={"initial_parameters_sha256": "0" * 64}))
    text = text_of(folder)
    assert ">different<" in text
    assert "the initial parameters differ for seed 0" in text


def test_the_page_says_in_what_every_variant_was_computed(made_up_study: Write) -> None:
    folder = made_up_study()
    known = Arithmetic(
        precision="bf16",
        ns_dtype="bf16",
        ns_forms={"64x256": "gram, restart after 2", "64x64": "standard"},
        device_type="cpu",
        device="a processor",
        torch="2.13.0",
    )
    row = next(row for row in load_plan(folder).trials if row.variant == "muon")
    outcome = folder.trial(row.key).outcome()
    assert outcome is not None
    update = {"arithmetic": known, "code_version": "a1b2c3d", "code_sha256": "f" * 16}
    folder.trial(row.key).finish(outcome.model_copy(update=update))
    text = text_of(folder)
    for words in ("cpu: a processor", "a1b2c3d", "gram, restart after 2: 64x256; standard: 64x64"):
        assert words in text
    assert "by something that is not recorded" in text, "the baseline recorded nothing"


def test_an_interim_report_says_that_it_is_not_the_result(made_up_study: Write) -> None:
    text = text_of(made_up_study(unfinished=frozenset({("muon", 4)})))
    assert "Not finished: 9 of 10 planned trials" in text


def test_without_three_seeds_the_page_says_why_there_is_no_verdict(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1))
    text = text_of(folder)
    assert "No verdict. 2 of 2 seeds" in text


def test_results_that_cannot_be_analysed_still_have_a_page(made_up_study: Write) -> None:
    crashed = {("adamw", seed): "out of luck" for seed in range(5)}
    margin = {"margin_speedup_percent": 5, "horizons": [60, 85, 170]}
    folder = made_up_study(failed=crashed, analysis=margin)
    assert "No verdict. analysis.margin_speedup_percent" in text_of(folder)


def test_a_study_of_which_nothing_was_trained_has_a_page(made_up_study: Write) -> None:
    folder = made_up_study()
    for path in (folder.path / "trials").iterdir():
        for file in path.iterdir():
            file.unlink()
    assert "0 of 5 seeds" in text_of(folder)
    assert parsed(write_report(analyse_study(folder)).read_text(encoding="utf-8")).loaded == []


def test_a_missing_environment_is_said(made_up_study: Write) -> None:
    folder = made_up_study()
    folder.environment_path.unlink()
    assert "The environment was not recorded." in text_of(folder)


def test_nested_values_of_the_environment_are_dotted_names(made_up_study: Write) -> None:
    folder = made_up_study()
    write_json(folder.environment_path, {"torch": {"version": "2.13.0"}, "gpus": ["one", "two"]})
    text = text_of(folder)
    assert ">torch.version<" in text
    assert ">one, two<" in text


def test_equal_variants_are_pointed_out(made_up_study: Write) -> None:
    same = {"kind": "adamw", "lr": 0.004}
    text = text_of(made_up_study(variants={"adamw": same, "again": same}))
    assert "adamw and again are the same configuration" in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_terminal_shows_every_column(eventful_study: StudyFolder, width: int) -> None:
    results = analyse_study(eventful_study)
    console = Console(width=width)
    with console.capture() as capture:
        console.print(render_study(results))
    text = capture.get()
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text, "nothing is cut off"
    assert "better, by at least the margin, than adamw" in " ".join(text.split())
    assert "4 of 5" in text
    assert "muon-slow seed 1: failed" in text


def test_the_terminal_says_why_there_is_no_verdict(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1))
    console = Console(width=80)
    with console.capture() as capture:
        console.print(render_study(analyse_study(folder)))
    assert "No verdict." in capture.get()


def test_a_target_has_its_own_sentences_and_table(made_up_study: Write) -> None:
    text = text_of(made_up_study(analysis={"target": 3.5}))
    assert "muon is below 3.5" in text
    assert "Below the target of 3.5?" in text


def test_an_inconclusive_verdict_says_how_many_seeds_would_settle_it(made_up_study: Write) -> None:
    folder = made_up_study(effects={"muon": -0.002})
    text = text_of(folder)
    assert re.search(r"not distinguishable .*A fresh study of about \d+ seeds would", text)


def test_looks_show_where_each_comparison_stands(made_up_study: Write) -> None:
    unfinished = frozenset((variant, seed) for variant in ("adamw", "muon") for seed in (3, 4))
    folder = made_up_study(effects={"muon": 0.0}, unfinished=unfinished, analysis={"looks": [3, 5]})
    text = text_of(folder)
    assert ">1 of 2<" in text
    assert ">at 5 seeds<" in text
    assert "The looks were fixed in advance" in text
