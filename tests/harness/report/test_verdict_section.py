"""The verdicts: one by one while they are few, in groups when they are many, with warnings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from harness.analysis.growth import ADDED_SEEDS
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import StudyResults
from harness.report import tables
from harness.report.elements import Details, FigureImage, Paragraph, VerdictCard
from harness.report.html import write_html
from harness.report.verdict_section import MANY, verdict_section
from harness.report.write import gather
from harness.runs.files import write_json
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]
FOREST = FigureImage(name="forest", title="All", caption="", png=b"", svg=b"", width=1)


def many_variants(count: int) -> dict[str, Any]:
    """So many challengers, of which the first is better, the last worse, and the others alike."""
    names = [f"adamw-{index}" for index in range(count)]
    variants = {"adamw": {"kind": "adamw", "lr": 0.004}}
    variants |= {name: {"kind": "adamw", "lr": 0.001 * i} for i, name in enumerate(names, start=5)}
    return {
        "variants": variants,
        "effects": {names[0]: -0.05, names[-1]: 0.05},
        "analysis": {"margin_nats": 0.03},
        "every": 60,
        "seeds": tuple(range(8)),
    }


def test_many_verdicts_are_a_line_a_figure_and_folded_groups(made_up_study: Write) -> None:
    results = analyse_study(made_up_study(**many_variants(MANY + 1)))
    question, line, forest, *rest = verdict_section(results, [FOREST])
    assert isinstance(question, Paragraph)
    assert line == Paragraph(
        text=f"Against adamw: 1 better by the margin, {MANY - 1} equivalent, 1 worse by the "
        "margin.",
        tone="summary",
    )
    assert forest is FOREST
    groups = [block for block in rest if isinstance(block, Details)]
    assert [group.title for group in groups] == [
        "better by the margin: 1",
        f"equivalent: {MANY - 1}",
        "worse by the margin: 1",
    ]
    cards = [card for group in groups for card in group.blocks]
    assert len(cards) == MANY + 1
    assert not any(isinstance(block, VerdictCard) for block in rest), "all are folded"


def test_few_verdicts_are_read_at_once(made_up_study: Write) -> None:
    results = analyse_study(made_up_study(**many_variants(3)))
    blocks = list(verdict_section(results, [FOREST]))
    assert FOREST not in blocks, "it stands among the results"
    assert sum(isinstance(block, VerdictCard) for block in blocks) == 3


@pytest.mark.parametrize("count", [3, MANY + 1])
def test_the_forest_stands_on_the_page_once(made_up_study: Write, count: int) -> None:
    results = analyse_study(made_up_study(**many_variants(count)))
    page = write_html(gather(results, draw=lambda view: {"forest": FOREST}))
    assert page.count("<img ") == 1
    assert (page.index("<img ") < page.index(">Results</h2>")) == (count > MANY)


def amended(folder: StudyFolder, *changes: str) -> StudyResults:
    amendment = {
        "why": "more power",
        "when": "2025-07-04T12:00:00+00:00",
        "from_sha256": "0" * 64,
        "to_sha256": "1" * 64,
        "changes": changes,
    }
    write_json(folder.amendments_path, [amendment])
    return analyse_study(folder)


@pytest.mark.parametrize(
    ("changes", "looks", "warned"),
    [
        (("seeds.confirmation ((0, 1, 2) -> (0, 1, 2, 3, 4))",), (), True),
        (("training.steps (100 -> 120)",), (), False),
        (("seeds.confirmation ((0, 1, 2) -> (0, 1, 2, 3, 4))",), (3, 5), False),
        (("analysis.looks (() -> (3, 5))", "seeds.confirmation.0 (1 -> 2)"), (3, 5), True),
    ],
)
def test_seeds_added_because_of_results_are_warned_of(
    made_up_study: Write, changes: tuple[str, ...], looks: tuple[int, ...], warned: bool
) -> None:
    folder = made_up_study(analysis={"looks": looks}, every=60)
    blocks = list(verdict_section(amended(folder, *changes), ()))
    texts = [block.text for block in blocks if isinstance(block, Paragraph)]
    assert any("The plan was amended on 2025-07-04" in text for text in texts)
    assert (ADDED_SEEDS in texts) == warned


def test_one_interval_and_one_p_wherever_a_verdict_is_told(eventful_study: StudyFolder) -> None:
    results = analyse_study(eventful_study)
    full, tests = tables.results(results), tables.statistics_table(results)
    assert tests is not None
    for table in (full, tests):
        assert [column.title for column in table.columns].count("interval") == 1
    at = [column.title for column in full.columns].index("interval")
    in_tests = [column.title for column in tests.columns].index("interval")
    row = next(row for row in full.rows if row[1] == "muon")
    interval = row[at]
    assert interval == next(row[in_tests] for row in tests.rows if row[0] == "muon")
    page = write_html(gather(results, draw=lambda view: {}))
    sentence = re.search(r"<p>(muon is better.*?)</p>", page)
    assert sentence is not None
    assert interval in sentence.group(1)
    comparison = results.comparison("muon")
    assert comparison is not None
    assert comparison.decisive_p == comparison.margin_p
    assert row[at + 2] == "0.00021, fragile"
    assert "p = 0.00021" in sentence.group(1)
    assert not re.search(r"Holm|Thick|Thin", page)


def test_counters_have_names_and_the_page_a_real_minus(eventful_study: StudyFolder) -> None:
    page = write_html(gather(analyse_study(eventful_study), draw=lambda view: {}))
    assert ">Newton-Schulz calls<" in page
    assert "newton_schulz" not in page
    body = re.sub(r"<pre.*?</pre>|<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    assert re.findall(r"(?<![\w.+-])-\d[^\s,]*", body) == []
    assert "−0.0" in body
