"""Anybody's CSV: reading it, refusing it, and what the terminal shows."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.analysis.from_csv import check_holes, compare_file, read_results
from harness.analysis.wording import written
from harness.errors import UserError
from harness.report.terminal.analysis import render_analysis
from harness.study.settings import AnalysisSettings

HEADER = "variant,seed,value"
GOOD = [f"adamw,{seed},{3.4 + 0.01 * (seed % 3)}" for seed in range(5)] + [
    f"muon,{seed},{3.1 + 0.011 * (seed % 3) + 0.001 * seed}" for seed in range(5)
]


@pytest.fixture
def csv_file(tmp_path: Path):
    def write(*lines: str, header: str = HEADER) -> Path:
        path = tmp_path / "results.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return path

    return write


def shown(analysis, *, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render_analysis(analysis))
    return console.file.getvalue()


def test_a_plain_table_is_read(csv_file) -> None:
    rows = read_results(csv_file(*GOOD))
    assert len(rows) == 10
    assert (rows[0].variant, rows[0].seed, rows[0].value) == ("adamw", 0, 3.4)
    assert rows[0].initial_sha256 is None


def test_outcomes_hashes_and_steps_are_read_and_other_columns_ignored(csv_file) -> None:
    header = "seed,variant,tokens,value,outcome,initial_sha256,batches_sha256,diverged_at_step"
    rows = read_results(
        csv_file("0,muon,9,,diverged,aa,bb,120", "1, muon ,9,3.5,,aa,bb,", header=header)
    )
    assert (rows[0].outcome, rows[0].value, rows[0].diverged_at_step) == ("diverged", None, 120)
    assert (rows[1].variant, rows[1].outcome, rows[1].value) == ("muon", "completed", 3.5)
    assert (rows[0].initial_sha256, rows[0].batches_sha256) == ("aa", "bb")


def test_the_last_loss_of_a_diverged_run_is_no_result(csv_file) -> None:
    rows = read_results(csv_file("muon,0,9.7,diverged", header=f"{HEADER},outcome"))
    assert rows[0].value is None


def test_the_sentence_names_the_unit_of_the_table(csv_file) -> None:
    bare = compare_file(csv_file(*GOOD), baseline="adamw").comparisons[0]
    named = csv_file(*(f"{line},bits" for line in GOOD), header=f"{HEADER},unit")
    assert "nats" not in bare.sentence
    assert " bits [" in compare_file(named, baseline="adamw").comparisons[0].sentence


def test_only_rows_of_the_confirmation_are_read(csv_file) -> None:
    other = ("muon,0,3.1,tuning", "muon,7,3.4,horizon", "muon,7,3.3,horizon")
    rows = read_results(csv_file(*other, "muon,7,3.2,confirmation", header=f"{HEADER},phase"))
    assert [row.seed for row in rows] == [7]


def test_a_file_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(b"\xef\xbb\xbfvariant,seed,value\r\nadamw,0,3.5\r\n")
    assert read_results(path)[0].value == 3.5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("muon,0,", "line 2: the value is empty"),
        ("muon,0", "line 2: the value is empty"),
        ("muon,0,3.5.1", "line 2: value '3.5.1' is not a number"),
        ("muon,0,nan", "line 2: value 'nan' is not finite"),
        ("muon,0,inf", "line 2: value 'inf' is not finite"),
        ("muon,,3.5", "line 2: seed is empty"),
        ("muon,1.5,3.5", "line 2: seed '1.5' is not a whole number"),
        (",0,3.5", "line 2: the variant is empty"),
        ("muon,0,3.5,completed,1,9", "line 2: more cells than columns"),
        ("muon,0,3,5", "check the commas (numbers have a point)"),
        ("muon,0,1e300", "line 2: value '1e300' is beyond 1e+100, too large to be squared"),
        ("muon,0,-2e100", "line 2: value '-2e100' is beyond 1e+100"),
        ("muon,0,1e-200", "line 2: value '1e-200' is nearer to 0 than 1e-100"),
        ("muon,1e9,3.5", "line 2: seed '1e9' is not a whole number"),
        (f"muon,{'9' * 30},3.5", "is beyond 1e+15: use smaller numbers"),
        (f"muon,0,{'x' * 5000}", f"value '{'x' * 40}...' is not a number"),
        ("mu\x1b[31mon,0,3.5", r"line 2: variant 'mu\x1b[31mon' holds characters that cannot"),
        ("mu\u200bon,0,3.5", r"line 2: variant 'mu\u200bon' holds characters that cannot be seen"),
        ("muon;0;3.5", "line 2: separated by semicolons (';'): write commas"),
    ],
)
def test_a_hole_or_a_word_for_a_number_is_named_with_its_line(csv_file, line, message) -> None:
    with pytest.raises(UserError) as caught:
        read_results(csv_file(line))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("step", "message"), [("-1", "must be 0 or more"), ("9" * 400, r"is beyond 1e\+15")]
)
def test_a_step_that_cannot_be_is_refused(csv_file, step: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_results(
            csv_file(f"muon,0,,diverged,{step}", header=f"{HEADER},outcome,diverged_at_step")
        )


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("variant;seed;value", "semicolons (';')"),
        ("variant\tseed\tvalue", r"tabs ('\t')"),
        ("Variant | Seed | Value", "bars ('|')"),
        ("variant seed value", "spaces (' ')"),
        ('"variant";"seed";"loss"', "semicolons (';')"),
        ("variant;seed;value;a,b", "semicolons (';')"),
    ],
)
def test_another_separator_is_named_as_the_cause(csv_file, header: str, name: str) -> None:
    row = header.lower().replace("variant", "muon").replace("seed", "0").replace("value", "3,5")
    with pytest.raises(UserError) as caught:
        compare_file(csv_file(row, header=header), baseline="muon")
    assert f"the columns are separated by {name}: write commas" in str(caught.value)


def test_a_header_cannot_move_the_cursor(csv_file) -> None:
    with pytest.raises(UserError) as caught:
        read_results(csv_file("1,2", header="\x1b[2Jname,loss"))
    assert "\x1b" not in str(caught.value)


def test_an_unknown_outcome_suggests_the_nearest(csv_file) -> None:
    with pytest.raises(UserError, match=r"line 2: outcome 'divereged'.*did you mean 'diverged'"):
        read_results(csv_file("muon,0,,divereged", header=f"{HEADER},outcome"))
    with pytest.raises(UserError, match="choose one of completed, stopped"):
        read_results(csv_file("muon,0,,xyz", header=f"{HEADER},outcome"))


def test_an_unknown_phase_is_refused(csv_file) -> None:
    with pytest.raises(UserError, match="phase 'warmup' is not known"):
        read_results(csv_file("muon,0,3.1,warmup", header=f"{HEADER},phase"))


def test_two_rows_for_one_run_are_named_with_both_lines(csv_file) -> None:
    with pytest.raises(UserError, match=r"line 4: variant 'muon', seed 1 is already in line 2"):
        read_results(csv_file("muon,1,3.5", "muon,2,3.5", "muon,1,3.6"))


def test_all_mistakes_come_together_and_many_are_cut(csv_file) -> None:
    with pytest.raises(UserError) as caught:
        read_results(csv_file("muon,a,3.5", "muon,2,b", "muon,3,"))
    assert len(str(caught.value).splitlines()) == 4
    with pytest.raises(UserError, match="and 10 more"):
        read_results(csv_file(*[f"muon,{seed}," for seed in range(30)]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("variant,seed,loss", "there is no column 'value': found variant, seed, loss"),
        ("Variant,seed,value", "there is no column 'variant': rename 'Variant'"),
        ("variant,sed,value", "there is no column 'seed': rename 'sed'"),
        ("variant,seed,value,value", "value appear more than once"),
        ("variant,seed,value,outcomes", "did you mean 'outcome'?"),
    ],
)
def test_a_wrong_header_suggests_the_nearest_name(csv_file, header, message) -> None:
    with pytest.raises(UserError) as caught:
        read_results(csv_file("muon,0,3.5", header=header))
    assert message in str(caught.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path, csv_file) -> None:
    with pytest.raises(UserError, match="No such file"):
        read_results(tmp_path / "nothing.csv")
    with pytest.raises(UserError, match="cannot read"):
        read_results(tmp_path)
    with pytest.raises(UserError, match="no results"):
        read_results(csv_file())
    empty = tmp_path / "empty.csv"
    empty.write_text("")
    with pytest.raises(UserError, match="is empty"):
        read_results(empty)
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not UTF-8"):
        read_results(binary)


def test_a_missing_run_is_a_hole_unless_the_runs_are_unpaired(csv_file) -> None:
    path = csv_file(*GOOD[:8], GOOD[9])
    with pytest.raises(UserError, match=r"'muon' has no row for seed\(s\) 3, which 'adamw' has"):
        compare_file(path, baseline="adamw")
    with pytest.raises(UserError, match="no row for seed"):
        compare_file(path, baseline="adamw", pairing="paired")
    assert compare_file(path, baseline="adamw", pairing="unpaired").comparisons[0].n == 4


def test_of_many_holes_the_first_are_named(csv_file) -> None:
    lines = [f"{name},{seed},{3.4 + seed}" for name in ("a", "b") for seed in range(40)]
    with pytest.raises(
        UserError, match=r"'b' has no row for seed\(s\) 4, .*, 11 and 28 more, which"
    ):
        compare_file(csv_file(*lines[:44]), baseline="a")


def test_a_missing_run_of_the_baseline_is_a_hole_too(csv_file) -> None:
    with pytest.raises(UserError, match=r"'adamw' has no row for seed\(s\) 0, which 'muon' has"):
        compare_file(csv_file(*GOOD[1:]), baseline="adamw")


def test_wholly_different_seeds_are_independent_runs(csv_file) -> None:
    other = [line.replace("muon,", "muon,1") for line in GOOD[5:]]
    (comparison,) = compare_file(csv_file(*GOOD[:5], *other), baseline="adamw").comparisons
    assert comparison.test == "Welch t"


def test_a_variant_that_a_look_stopped_early_is_no_hole(csv_file) -> None:
    rows = read_results(csv_file(*GOOD[:9]))
    check_holes(rows, AnalysisSettings(baseline="adamw", looks=(4, 5)))
    later = read_results(csv_file(*GOOD[:5], *GOOD[6:]))
    with pytest.raises(UserError, match="holes"):
        check_holes(later, AnalysisSettings(baseline="adamw", looks=(4, 5)))


def test_the_options_are_checked_like_a_study(csv_file) -> None:
    path = csv_file(*GOOD)
    with pytest.raises(UserError, match="alpha"):
        compare_file(path, baseline="adamw", alpha=3.0)
    with pytest.raises(UserError, match="ascending"):
        compare_file(path, baseline="adamw", looks=(7, 4))
    with pytest.raises(UserError, match="margin_nats"):
        compare_file(path, baseline="adamw", margin=-1.0)
    with pytest.raises(UserError, match="choose one of adamw, muon"):
        compare_file(path)
    with pytest.raises(UserError, match="choose one of adamw, muon"):
        compare_file(path, baseline="sgd")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1e-300}, r"--alpha \(1e-300\) must be at least 1e-09"),
        ({"margin": 1e200}, r"--margin \(1e\+200\) is beyond 1e\+100"),
        ({"margin": math.inf}, r"--margin \(inf\) must be finite"),
        ({"target": -1e300}, r"--target \(-1e\+300\) is beyond"),
        ({"target": 1e-320}, "nearer to 0 than 1e-100"),
    ],
)
def test_an_option_that_double_precision_cannot_hold_is_refused(csv_file, options, message) -> None:
    with pytest.raises(UserError, match=message):
        compare_file(csv_file(*GOOD), baseline="adamw", **options)


number = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(3.0, 4.0),
    st.floats(9e99, 1e100),
    st.floats(-1e-99, 1e-99),
    st.sampled_from([0.0, 1e100, -1e100, 1e-100, 1e-12, 3.4]),
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.lists(number, min_size=8, max_size=8),
    paired=st.booleans(),
    margin=st.sampled_from([None, 1e-100, 0.01, 1e100]),
    target=st.sampled_from([None, -1e100, 0.0, 3.28]),
    alpha=st.sampled_from([1e-9, 0.05, 0.49]),
)
@example(values=[1e100, -1e100] * 4, paired=True, margin=1e100, target=-1e100, alpha=1e-9)
@example(values=[1e-100, 0.0] * 4, paired=False, margin=1e-100, target=0.0, alpha=0.05)
@example(
    values=[1e100, -1e100, 1e100, 3.0, 0.0, 1e-100, 0.0, 0.0],
    paired=False,
    margin=None,
    target=None,
    alpha=0.05,
)
def test_any_numbers_end_in_an_analysis_or_in_one_clear_error(
    csv_file, values, paired: bool, margin, target, alpha: float
) -> None:
    lines = [f"{'ab'[i // 4]},{i % 4},{value!r}" for i, value in enumerate(values)]
    try:
        analysis = compare_file(
            csv_file(*lines),
            baseline="a",
            pairing="paired" if paired else "unpaired",
            margin=margin,
            target=target,
            alpha=alpha,
        )
    except UserError:
        assert not all(v == 0.0 or 1e-100 <= abs(v) <= 1e100 for v in values)
        return
    json.dumps(analysis.to_json(), allow_nan=False)
    assert max(map(len, shown(analysis).splitlines())) <= 80


def test_one_variant_needs_a_target(csv_file) -> None:
    with pytest.raises(UserError, match="only one variant"):
        compare_file(csv_file(*GOOD[:5]))
    analysis = compare_file(csv_file(*GOOD[5:]), target=3.28)
    assert analysis.targets[0].below
    assert "muon is below 3.28" in shown(analysis)


def test_the_terminal_shows_verdicts_outcomes_and_reasons_in_eighty_columns(csv_file) -> None:
    header = f"{HEADER},outcome"
    lines = [f"{line},completed" for line in GOOD[:-1]] + ["muon,4,,diverged"]
    lines += [f"lion,{seed},{3.3 + 0.01 * seed},completed" for seed in range(5)]
    analysis = compare_file(csv_file(*lines, header=header), baseline="adamw", margin=0.01)
    text = shown(analysis)
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "inconclusive",
        "better",
        "1 diverged",
        "fragile",
        "no hash of the initial parameters",
        "ranks, diverged last",
        "smallest exact p that 5 seeds can give",
        "do the rates of divergence differ?",
        "TOST p",
        "within 0.01",
    ):
        assert part in " ".join(text.split()), part


def test_a_name_is_never_markup(csv_file) -> None:
    names = ["[red]adamw[/red]", "[/]", ":smile:", "[link=http://a.b]c[/link]", r"back\[slash]"]
    lines = [
        f"{name},{seed},{3.4 + 0.01 * seed + i}"
        for i, name in enumerate(names)
        for seed in range(4)
    ]
    text = shown(compare_file(csv_file(*lines), baseline=names[0], target=3.0), width=200)
    for name in names[1:]:
        rows = [line for line in text.splitlines() if line.strip().startswith(name)]
        assert len(rows) == 3, name  # variants, comparisons, effect sizes
        assert f"{name} is worse than [red]adamw[/red]" in text


NAMES = ["adamw", "muon with momentum and a name that goes on and on " + "x" * 60]


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    ("offset", "noise"),
    [(3.4, 0.01), (123456789.0, 1e-3), (-2e60, 1e58), (0.0, 1e-40), (1.0, 1e-12), (5e4, 3e3)],
)
def test_no_number_of_a_table_is_cut(csv_file, offset: float, noise: float, width: int) -> None:
    rng = np.random.default_rng(81)
    lines = [
        f"{name},{seed},{offset + noise * rng.normal()!r}" for name in NAMES for seed in range(5)
    ]
    analysis = compare_file(csv_file(*lines), baseline="adamw", margin=noise)
    text = shown(analysis, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = text.replace(";", " ").replace("[", " ").replace("]", " ").replace(",", " ").split()
    for summary in analysis.variants:
        assert summary.interval is not None
        half = (summary.interval.high - summary.interval.low) / 2.0
        for value, scale in (
            (summary.mean, summary.sd),
            (summary.sd, summary.sd),
            (summary.median, summary.sd),
            (summary.interval.low, half),
            (summary.interval.high, half),
        ):
            assert written(value, noise=scale) in words


def test_the_terminal_shows_plain_text_to_a_file(csv_file) -> None:
    assert "\x1b" not in shown(compare_file(csv_file(*GOOD), baseline="adamw"))


def test_the_looks_are_shown(csv_file) -> None:
    text = " ".join(shown(compare_file(csv_file(*GOOD), baseline="adamw", looks=(3, 5))).split())
    assert "look 1 of 2" in text or "look 2 of 2" in text
    assert "against the bound" in text
