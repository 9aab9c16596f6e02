"""results.tex: a table that LaTeX reads, whatever the variants are called."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.analysis.study_analysis import analyse_study
from harness.report.latex import escaped, results_tex
from harness.report.write import write_report
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & c%", r"a\_b \& c\%"),
        ("$x^2$ #1 {y}", r"\$x\textasciicircum{}2\$ \#1 \{y\}"),
        (r"C:\dir ~", r"C:\textbackslash{}dir \textasciitilde{}"),
        ("−0.05 < 1", "$-$0.05 $<$ 1"),
    ],
)
def test_no_character_of_a_name_is_a_command(text: str, expected: str) -> None:
    assert escaped(text) == expected


def test_every_variant_is_a_row_of_six_cells(made_up_study: Write) -> None:
    folder = made_up_study(
        variants={
            "adamw_1": {"kind": "adamw", "lr": 0.004},
            "muon_fast": {"kind": "muon", "lr": 0.02, "aux_lr": 0.004},
            "muon_hot": {"kind": "muon", "lr": 0.2, "aux_lr": 0.004},
        },
        effects={"muon_fast": -0.05},
        diverged={("muon_hot", 1): 60},
    )
    text = results_tex(analyse_study(folder))
    rows = [line.strip() for line in text.splitlines() if line.endswith(r" \\")]
    assert [row.count(" & ") for row in rows] == [5] * 4
    assert rows[0].startswith(r"variant & loss & loss $-$ adamw\_1 & interval & p & verdict")
    best, *_ = (row for row in rows if row.startswith(r"muon\_fast"))
    assert " & $-$0.0" in best
    assert best.endswith(r"& better \\")
    lost, *_ = (row for row in rows if row.startswith(r"muon\_hot"))
    assert r"(4 of 5, 1 diverged)" in lost
    assert "& -- & -- &" in lost, "no difference and no interval of survivors"
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\usepackage{booktabs}"):
        assert text.count(rule) == 1
    assert "Intervals of the difference hold at 95 \\%, all 2 together" in text


def test_it_lies_beside_the_page_which_says_so(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=60)
    page = write_report(analyse_study(folder))
    assert (page.parent / "results.tex").read_text().startswith("% needs")
    assert "results.tex" in page.read_text()
