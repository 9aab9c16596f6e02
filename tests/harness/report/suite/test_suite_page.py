"""The page of a suite: the leaderboard first, every lost run seen, every number in a file."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_suite import made_up_suite
from made_up_suite_folder import CONTESTANTS, TASKS, write_suite

from harness.analysis.suite.from_table import score_file
from harness.analysis.suite.results import SuiteAnalysis
from harness.analysis.suite.suite_analysis import SuiteResults, analyse_suite
from harness.report.elements import Table
from harness.report.html import render_page
from harness.report.markdown import render_markdown
from harness.report.suite import tables
from harness.report.suite.answer import answer_sentence, warnings
from harness.report.suite.cost import spent
from harness.report.suite.files import leaderboard_csv, leaderboard_tex, results_csv
from harness.report.suite.material import SuiteMaterial
from harness.report.suite.methods import methods_paragraphs
from harness.report.suite.sections import sections
from harness.report.suite.write import gather, write_pages, write_suite_report
from harness.runs.plan_changes import Amendment


class Page(HTMLParser):
    """The links of a page, what it would load, and the nesting of its tags."""

    VOID = frozenset({"meta", "img", "br", "hr", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> SuiteResults:
    return analyse_suite(write_suite(tmp_path_factory.mktemp("runs")))


def text_of(analysis: SuiteAnalysis) -> str:
    material = SuiteMaterial(analysis=analysis)
    return render_markdown(analysis.name, sections(material))


def test_the_page_of_real_folders_needs_nothing_but_itself_and_leads_to_its_tasks(
    results: SuiteResults,
) -> None:
    page = Page(write_suite_report(results).read_text(encoding="utf-8"))
    assert page.open == [], "every tag is closed"
    drawn = list(results.folder.report_folder.glob("*.png"))
    assert len(page.images) == len(drawn) >= 5
    for image in page.images:
        assert (image["src"] or "").startswith("data:image/svg+xml;base64,")
        assert len(image["alt"] or "") > 60, "every picture is told in words"
    away = [link for link in page.links if not link.startswith("#")]
    assert away == [f"../tasks/{task}/report/index.html" for task in TASKS]
    for link, task in zip(away, TASKS, strict=True):
        target = (results.folder.report_folder / link).resolve()
        assert target == results.folder.task(task).report_folder / "index.html"


def test_the_leaderboard_comes_first_and_every_task_has_a_section(results: SuiteResults) -> None:
    titles = [section.title for section in sections(gather(results))]
    assert titles[:3] == ["Answer", "Leaderboard", "Verdicts on every task"]
    assert titles[-2:] == ["Cost", "Methods"]
    assert [t for t in titles if t.startswith("Task: ")] == [f"Task: {task}" for task in TASKS]


def test_the_same_results_give_the_same_files(results: SuiteResults, tmp_path: Path) -> None:
    report = results.folder.report_folder
    if not report.exists():
        write_suite_report(results)
    write_pages(gather(results), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in report.iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (report / path.name).read_bytes(), path.name


def test_a_diverged_and_a_failed_run_are_told_where_they_matter(results: SuiteResults) -> None:
    analysis = results.analysis
    assert analysis is not None
    text = text_of(analysis)
    assert "muon-hot lost runs: 5 diverged of 12, on 2 tasks (medium and large)." in text
    assert "muon-slow lost runs: 1 failed of 12, on 1 task (large)." in text
    lost = tables.lost(analysis)
    assert lost is not None
    assert [row[:3] for row in lost.rows] == [
        ("medium", "muon-hot", "1 diverged of 4"),
        ("large", "muon-hot", "4 diverged of 4"),
        ("large", "muon-slow", "1 failed of 4"),
    ]
    matrix = tables.verdict_matrix(analysis)
    row = [name for name, *_ in matrix.rows].index("muon-hot")
    assert matrix.rows[row][3].endswith("4 diverged of 4")
    assert matrix.tones[row, 2] == "lost"


def test_cells_are_coloured_by_their_verdict_and_say_it_with_a_sign() -> None:
    analysis = made_up_suite()
    matrix = tables.verdict_matrix(analysis)
    signs = {"better": "▼", "worse": "▲"}
    seen = set()
    for (row, column), tone in matrix.tones.items():
        if tone in signs:
            assert matrix.rows[row][column].startswith(signs[tone])
            seen.add(tone)
    assert seen == {"better", "worse"}
    page = render_page("suite", sections(SuiteMaterial(analysis=analysis)), kind="suite")
    assert '<td class="left tone better">▼' in page
    assert '<td class="left tone worse">▲' in page


def test_the_answer_names_who_leads_and_a_leading_baseline_is_called_one() -> None:
    assert answer_sentence(made_up_suite()).startswith("muon is first over 6 tasks: profile area 1")
    analysis = made_up_suite()
    rows = [
        replace(row, place=row.place + 1) for row in analysis.leaderboard if not row.is_baseline
    ]
    base = replace(analysis.standing("adamw"), place=1)
    text = answer_sentence(replace(analysis, leaderboard=(base, *rows)))
    assert text.startswith("adamw, the baseline, is first over 6 tasks: profile area")
    assert text.endswith("The next one: muon: made up.")


def test_a_task_that_is_not_decided_is_named_and_counts_nowhere() -> None:
    text = text_of(made_up_suite(open_task=True))
    assert "**large-long is not decided: 3 of 5 seeds are finished: run the suite again.**" in text
    assert "- tasks with a result: 5 of 6" in text


def test_without_a_target_ranks_order_and_no_empty_column_is_shown() -> None:
    analysis = made_up_suite(costs=False)
    shown = {section.anchor: section for section in sections(SuiteMaterial(analysis=analysis))}
    assert "profiles" not in shown
    assert "scaling" not in shown
    board = shown["leaderboard"].blocks[0]
    assert isinstance(board, Table)
    titles = [column.title for column in board.columns]
    assert "average rank" in titles
    assert "profile area" not in titles
    assert answer_sentence(analysis).startswith("muon is first over 6 tasks: average rank 1.00")


def test_a_task_without_costs_is_no_part_of_the_score_and_the_answer_says_so(
    tmp_path: Path,
) -> None:
    """Where the baseline loses every run there is no loss to reach."""
    table = "task,variant,seed,value,outcome,steps_to_target\n" + "".join(
        f"{task},{name},{seed},{3.0 + cost / 1000 + seed / 100},completed,{cost}\n"
        for task in ("a", "b")
        for name, cost in (("adamw", 100), ("muon", 50))
        for seed in range(3)
    )
    (tmp_path / "t.csv").write_text(table)
    analysis = score_file(tmp_path / "t.csv", baseline="adamw", pairing="paired", resamples=100)
    assert answer_sentence(analysis).startswith("muon is first over 2 tasks: profile area 1.00. m")
    tasks = (replace(analysis.tasks[0], target_in_words=""), analysis.tasks[1])
    partly = replace(analysis, tasks=tasks)
    text = "muon is first over 2 tasks: profile area 1.00 over the 1 task with costs. muon is"
    assert answer_sentence(partly).startswith(text)
    shown = tables.leaderboard(partly)
    place = [column.title for column in shown.columns].index("target reached")
    assert shown.rows[0][place].endswith(" of 1")
    titles = [c.title for c in tables.task_table(partly, partly.tasks[0]).columns]
    assert "steps to the target" not in titles
    unreached = tuple(replace(result, cost=None, ratio=None) for result in analysis.results)
    nobody = tables.task_table(replace(analysis, results=unreached), analysis.tasks[0])
    assert all("not reached" in row for row in nobody.rows)


def test_an_extrapolation_is_told_with_how_far_it_goes() -> None:
    table = tables.speedups(made_up_suite())
    assert table is not None
    cells = [cell for row in table.rows for cell in row if "×" in cell]
    assert len(cells) == 2 * 5
    assert all(re.search(r"\[.*\] at 4× the largest, (128M|64M)$", cell) for cell in cells)
    assert "no measurement" in table.note


def test_why_nothing_is_fitted_is_said_once_and_not_in_every_row() -> None:
    """Two tasks carry no line: of a contestant's remark as of a setting's."""
    analysis = made_up_suite()
    unfitted = replace(
        analysis,
        **{
            name: tuple(
                replace(item, fit=None, why_not="2 sizes are too few")
                for item in getattr(analysis, name)
            )
            for name in ("speedups", "hyperparameters")
        },
    )
    shown = {section.anchor: section for section in sections(SuiteMaterial(analysis=unfitted))}
    for anchor in ("scaling", "hyperparameters"):
        assert str(shown[anchor].blocks).count("2 sizes are too few") == 1, anchor
    titles = [block.title for block in shown["scaling"].blocks if isinstance(block, Table)]
    assert titles == ["Speed-up of every contestant on every task"]


def test_a_value_at_the_edge_of_its_space_has_a_star() -> None:
    table = tables.hyperparameters(made_up_suite())
    assert table is not None
    by_name = {row[0]: row for row in table.rows}
    assert by_name["muon"][7].endswith("*")
    assert not any(cell.endswith("*") for cell in by_name["adamw"])


def test_the_csv_files_hold_the_numbers_with_all_their_digits(results: SuiteResults) -> None:
    analysis = results.analysis
    assert analysis is not None
    board = list(csv.DictReader(leaderboard_csv(analysis).splitlines()))
    assert [row["contestant"] for row in board] == [s.variant for s in analysis.leaderboard]
    for row, standing in zip(board, analysis.leaderboard, strict=True):
        assert standing.score is not None
        assert float(row["score"]) == standing.score.value
        assert row["lost"] == str(standing.lost)
    rows = list(csv.DictReader(results_csv(analysis).splitlines()))
    assert len(rows) == len(TASKS) * len(CONTESTANTS)
    found = next(r for r in rows if (r["task"], r["variant"]) == ("small", "muon"))
    interval = analysis.result("small", "muon").interval
    assert interval is not None
    assert float(found["difference_low"]) == interval.low


def test_the_latex_table_has_a_row_a_contestant() -> None:
    tex = leaderboard_tex(made_up_suite())
    assert tex.count(r" \\") == 1 + 6
    assert r"1 & muon & 1.00 [0.97, 1.00] &" in tex
    assert r"5 failed of 30, on 1 task" in tex
    assert "Leaderboard over 6 tasks" in tex
    assert "Leaderboard over 5 tasks" in leaderboard_tex(made_up_suite(open_task=True))


def test_the_methods_tell_what_was_not_fixed_before_the_first_run(results: SuiteResults) -> None:
    def told(material: SuiteMaterial) -> str:
        return " ".join(methods_paragraphs(material))

    material = gather(results)
    assert "the rules of the analysis were fixed before the first run. Each task" in told(material)
    amendment = Amendment(
        why="a typo",
        when="2026-01-01",
        from_sha256="a",
        to_sha256="b",
        changes=("settings.alpha",),
        outcomes=3,
    )
    assert "before the first run; the suite was changed later (1 amendment). Each" in told(
        replace(material, amendments=(amendment,))
    )
    study = replace(material.studies["small"], amendments=(amendment,))
    changed = replace(material, studies={**material.studies, "small": study, "large": study})
    assert "before the first run; the plan of small and large was changed or added to" in told(
        changed
    )
    text = "The plan of small and large was amended: a typo. Changed: settings.alpha"
    assert text in list(warnings(changed))
    assert not any("amended" in warning for warning in warnings(material))


def test_hours_are_those_of_every_run_failed_ones_included(results: SuiteResults) -> None:
    studies = results.studies.values()
    found = spent(studies, "muon-hot")
    walls = [
        trial.outcome.wall_time_s or 0.0
        for study in studies
        for trial in study.of("muon-hot")
        if trial.outcome is not None
    ]
    assert found.measured_runs == len(walls) == 12
    assert found.measured_hours == pytest.approx(sum(walls) / 3600)
    assert found.worker_hours == pytest.approx(2 * found.measured_hours), "2 workers each"
    assert found.search_runs == 0
