"""What the machines did, and trials that are missing: on the page, in the terminal, in methods."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from made_up_attempts import forget_attempts, on, rewrite_attempts

from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import StudyResults
from harness.report import tables
from harness.report.html import write_html
from harness.report.methods import methods_paragraphs
from harness.report.terminal.console import PlainConsole
from harness.report.terminal.status import render_status, status_values
from harness.report.terminal.study import render_study
from harness.report.write import gather
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import load_plan
from harness.runs.snapshot import load_snapshot

Write = Callable[..., StudyFolder]
TROUBLED = {"seeds": (0, 1, 2), "every": 60, "ends": {("muon", 1): ("worker_died", "hung")}}


def page(results: StudyResults) -> str:
    return write_html(gather(results, draw=lambda view: {}))


def terminal(results: StudyResults) -> str:
    file = io.StringIO()
    PlainConsole(file=file, width=100).print(render_study(results))
    return " ".join(file.getvalue().split())


def missing(*cells: tuple[str, int]) -> frozenset[tuple[str, int]]:
    return frozenset(cells)


def test_a_calm_study_says_where_it_ran_and_no_more(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=60)
    results = analyse_study(folder)
    assert dict(tables.machine_facts(results)) == {
        "host": "machine",
        "trained with": "2 workers on a processor",
        "attempts": "6, none failed",
    }
    text = page(results)
    assert "trained with" in text
    assert "What the machines did" not in text
    assert "Attempts that failed" not in text
    assert "ended by the machine" not in terminal(results)
    forget_attempts(folder)
    old = page(analyse_study(folder))
    assert "Times hold for 2 workers on a processor" in old
    assert "trained with" not in old


def test_every_trial_with_a_failure_has_a_row(made_up_study: Write) -> None:
    results = analyse_study(made_up_study(**TROUBLED))
    found, machines = tables.failed_attempts(results), tables.machines(results)
    assert found is not None
    assert found.rows == (
        (
            "muon seed 1",
            "3",
            "worker died 1, hung 1",
            "machine",
            "40, 40",
            "80.0 s",
            "completed",
            "worker 0 does not answer, machine (10.0.0.1)",
        ),
    )
    assert machines is not None
    assert machines.rows == (("machine", "2 × cpu", "6", "8", "2"),)
    assert "What the machines did" in page(results)
    line = "2 attempts were ended by the machine and resumed: worker died 1, hung 1."
    assert line in terminal(results)


def test_other_hardware_is_said_beside_the_times(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=60)
    rewrite_attempts(folder, lambda row, it: on(it, workers=4) if row.seed == 1 else it)
    results = analyse_study(folder)
    words = "2 workers on a processor (4 trials) and 4 workers on a processor (2 trials)"
    text = page(results)
    assert text.count(f"Not all trials had the same hardware ({words})") == 4, (
        "results, changes, measures, speed"
    )
    assert "times do not compare" in text, "no variant is called the fastest"
    assert "What the machines did" in text
    assert "Not all trials had the same hardware" in terminal(results)


def test_methods_tell_which_runs_were_resumed_and_how_exactly(made_up_study: Write) -> None:
    folder = made_up_study(**TROUBLED)
    text = " ".join(methods_paragraphs(analyse_study(folder)))
    assert "1 of 6 runs were interrupted and went on from a checkpoint" in text
    assert "bit for bit with the same number of workers" in text
    assert "rounding" not in text
    rewrite_attempts(folder, lambda row, it: on(it, workers=4) if it.attempt == 3 else it)
    text = " ".join(methods_paragraphs(analyse_study(folder)))
    assert "changed in muon seed 1: there the numbers are the same to rounding only" in text
    calm = made_up_study(seeds=(0, 1, 2), every=60, name="calm")
    assert "checkpoint" not in " ".join(methods_paragraphs(analyse_study(calm)))


def test_missing_trials_are_named_with_what_ended_them(made_up_study: Write) -> None:
    folder = made_up_study(
        every=60,
        unfinished=missing(("muon", 3), ("muon", 4)),
        ends={("muon", 3): ("hung", "node_lost")},
    )
    results = analyse_study(folder)
    for text in (re.sub("<[^>]*>", "", page(results)), terminal(results)):
        assert "2 trials missing: muon (seeds 3 and 4)." in text
        assert "A missing trial is counted against no variant." in text
        assert "muon seed 3: attempt 2, node lost at step 60: the node of worker 1 is lost" in text
        assert "1 was never tried." in text
    failed = tables.failed_attempts(results)
    assert failed is not None
    assert failed.rows[0][-2] == "missing"


def test_of_many_missing_trials_the_first_are_named(made_up_study: Write) -> None:
    cells = missing(*(("muon", seed) for seed in range(3, 8)))
    text = page(analyse_study(made_up_study(seeds=tuple(range(8)), every=60, unfinished=cells)))
    assert "5 trials missing: muon (seeds 3, 4, 5 and 2 more)." in text


@pytest.mark.parametrize("lost", [range(3, 5), range(2, 5), range(5)])
def test_missing_trials_make_no_variant_worse_or_last(made_up_study: Write, lost: range) -> None:
    """The truth is that muon is better; the seeds of which it misses some are the lucky ones."""
    folder = made_up_study(
        every=60,
        unfinished=missing(*(("muon", seed) for seed in lost)),
        ends={("muon", seed): ("node_lost",) * 3 for seed in lost},
    )
    results = analyse_study(folder)
    full = tables.results(results)
    rows = {row[1]: row for row in full.rows}
    comparison = results.comparison("muon")
    if len(lost) == 2:
        assert comparison is not None
        assert (comparison.verdict, comparison.n) == ("better", 3)
        assert comparison.divergence_p == 1.0, "missing is not diverged"
    else:
        assert comparison is None
    if len(lost) == 5:
        assert {row[0] for row in full.rows} == {"–"}
        assert results.ranked() == results.variants, "the order of the study file"
        assert full.title == "Variants, in the order of the study"
        assert "lowest mean loss" not in page(results)
    else:
        assert results.ranked() == ("muon", "adamw")
        assert rows["muon"][0] == "1"


@pytest.mark.parametrize(
    ("planned", "lost", "looks"), [(5, (1, 2, 4), ()), (8, (4, 5, 6, 7), (4, 8))]
)
def test_seeds_that_one_variant_misses_lend_the_other_no_luck(
    made_up_study: Write, planned: int, lost: tuple[int, ...], looks: tuple[int, ...]
) -> None:
    """On each seed muon is better, and yet adamw has the lower mean of all its own seeds."""
    folder = made_up_study(
        seeds=tuple(range(planned)),
        every=60,
        effects={"muon": -0.01},
        unfinished=missing(*(("muon", seed) for seed in lost)),
        analysis={"looks": looks},
    )
    results = analyse_study(folder)
    assert (results.analysis is not None) == bool(looks)
    own, base = results.losses("muon"), results.losses("adamw")
    assert results.ranked_seeds == tuple(own)
    assert all(own[seed] < base[seed] for seed in own)
    assert sum(base.values()) / len(base) < sum(own.values()) / len(own)
    assert results.ranked() == ("muon", "adamw")


def test_the_status_tells_attempts_and_where_a_trial_runs(made_up_study: Write) -> None:
    folder = made_up_study(**TROUBLED, unfinished=missing(("muon", 0)))
    row = next(r for r in load_plan(folder).trials if (r.variant, r.seed) == ("muon", 0))
    running = folder.trial(row.key)
    lines = running.attempts_path.read_text().splitlines()
    running.attempts_path.write_text(lines[0] + "\n")
    rewrite_attempts(folder, lambda r, it: on(it, host="[far]") if r == row else it)
    with folder.locked():
        status = status_values(load_snapshot(folder))
    trials = status["trials"]
    assert (trials["muon seed 1"]["attempts"], trials["muon seed 1"]["host"]) == (3, None)
    assert (trials["muon seed 0"]["attempts"], trials["muon seed 0"]["host"]) == (1, "[far]")
    file = io.StringIO()
    PlainConsole(file=file, width=120).print(render_status(status))
    assert "[far]" in file.getvalue()
    dead = status_values(load_snapshot(folder))["trials"]["muon seed 0"]
    assert (dead["state"], dead["host"]) == ("interrupted", None), "nothing runs there any more"
