"""The course of a search over made-up outcomes: budgets, widening, choice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis.search.results import SearchResult
from harness.analysis.search.summary import summarise_search
from harness.analysis.shrinkage import AS_PUBLISHED, not_tuned
from harness.analysis.study_results import load_results
from harness.runs.folder import StudyFolder
from harness.runs.plan_file import freeze, load_plan
from harness.runs.search_log import Chosen, SearchLog, Suggested, Widened, chosen_points
from harness.runs.snapshot import load_snapshot
from harness.study.load import load_study
from harness.study.plan import make_plan, with_chosen
from harness.study.search_space import Point
from harness.study.study_file import Study
from harness.training.records import Outcome
from tune.search.rounds import Round, next_round

DATA = "0" * 64
Loss = Callable[[str, Point], float | None]


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    return StudyFolder(tmp_path / "runs" / "tiny")


def started(path: Path, folder: StudyFolder, *overrides: str) -> Study:
    study = load_study(path, overrides)
    freeze(folder, make_plan(study, DATA), source=path)
    return study


def finish(folder: StudyFolder, current: Round, loss: Loss, *, points: dict[str, Point]) -> None:
    """Pretends that every configuration of the round was trained; all of a variant are alike."""
    journal = SearchLog(folder.path)
    before = sum(isinstance(e, Suggested) for e in journal.events()) // len(current.spaces)
    for number in range(current.trials):
        for variant in current.spaces:
            index = before + number
            key = hashlib.sha256(f"{variant}-{index}".encode()).hexdigest()[:16]
            journal.append(
                Suggested(
                    variant=variant,
                    round=current.index,
                    index=index,
                    point=points[variant],
                    keys={100: key},
                )
            )
            value = loss(variant, points[variant])
            word = "diverged" if value is None else "completed"
            folder.trial(key).finish(
                Outcome(outcome=word, validation_loss=value, step=6, tokens=1000, wall_time_s=36.0)
            )


INSIDE = {
    "adamw": {"lr": 0.005, "weight_decay": 0.0},
    "muon": {"lr": 0.02, "aux_lr": 0.005},
}
AT_THE_EDGE = {**INSIDE, "muon": {"lr": 0.2, "aux_lr": 0.005}}


def run_rounds(study: Study, folder: StudyFolder, points: dict[str, Point]) -> list[Round]:
    rounds = []
    while (current := next_round(study, folder)) is not None:
        rounds.append(current)
        finish(folder, current, lambda variant, point: 2.0, points=points)
    return rounds


def tuning_of(folder: StudyFolder) -> SearchResult:
    tuning = summarise_search(load_snapshot(folder))
    assert tuning is not None
    return tuning


def test_a_search_inside_its_space_is_one_round_and_its_best_is_confirmed_on_fresh_seeds(
    searched_file: Path, folder: StudyFolder
) -> None:
    study = started(searched_file, folder)
    (only,) = run_rounds(study, folder, INSIDE)
    assert only.trials == 8
    tuning = tuning_of(folder)
    assert all(variant.tuned for variant in tuning.variants.values())
    chosen = with_chosen(study, chosen_points(SearchLog(folder.path).events()))
    assert {v.name: v.optimizer.lr for v in chosen.variants} == {"adamw": 0.005, "muon": 0.02}
    rows = [row for row in load_plan(folder).trials if row.phase == "confirmation"]
    assert [(row.variant, row.seed) for row in rows] == [
        (variant, seed) for seed in (0, 1, 2) for variant in ("adamw", "muon")
    ]


def test_the_plan_hash_does_not_change_while_the_search_finds_trials(
    searched_file: Path, folder: StudyFolder
) -> None:
    study = started(searched_file, folder)
    frozen = load_plan(folder).sha256
    run_rounds(study, folder, INSIDE)
    assert load_plan(folder).sha256 == frozen
    freeze(folder, make_plan(study, DATA), source=searched_file)


def test_a_best_at_the_edge_marks_the_variant_as_not_tuned(
    searched_file: Path, folder: StudyFolder
) -> None:
    run_rounds(started(searched_file, folder), folder, AT_THE_EDGE)
    variants = tuning_of(folder).variants
    assert variants["adamw"].tuned
    assert not variants["muon"].tuned
    assert variants["muon"].edges == ("lr = 0.2 (the best) is at the high edge of [0.002, 0.2]",)


def test_extending_widens_the_space_of_one_and_gives_every_variant_the_same_trials(
    searched_file: Path, folder: StudyFolder
) -> None:
    study = started(searched_file, folder, "tuning.extend=true")
    first, second = run_rounds(study, folder, AT_THE_EDGE)
    assert (first.trials, second.trials) == (8, 4)
    assert second.spaces["adamw"] == first.spaces["adamw"]
    assert second.spaces["muon"]["lr"].high == pytest.approx(2.0)  # type: ignore[union-attr]
    assert second.spaces["muon"]["lr"].low == 0.002  # type: ignore[union-attr]
    variants = tuning_of(folder).variants
    assert variants["muon"].tuned, "0.2 lies inside [0.002, 2]"
    assert {v.ledger.configurations for v in variants.values()} == {12}
    assert {v.ledger.tokens for v in variants.values()} == {12_000}


def test_widening_ends_at_the_budget_and_then_the_variant_is_not_tuned(
    searched_file: Path, folder: StudyFolder
) -> None:
    study = started(searched_file, folder, "tuning.extend=true", "tuning.max_extensions=1")
    first = next_round(study, folder)
    assert first is not None
    finish(folder, first, lambda variant, point: 2.0, points=AT_THE_EDGE)
    second = next_round(study, folder)
    assert second is not None
    points = {**INSIDE, "muon": {"lr": 2.0, "aux_lr": 0.005}}
    finish(folder, second, lambda variant, point: 1.5, points=points)
    assert next_round(study, folder) is None
    assert not tuning_of(folder).variants["muon"].tuned
    assert sum(isinstance(e, Widened) for e in SearchLog(folder.path).events()) == 1


def test_a_border_that_the_optimizer_refuses_is_not_widened(
    searched_file: Path, folder: StudyFolder
) -> None:
    text = searched_file.read_text().replace(
        'space.aux_lr = { kind = "loguniform", low = 0.0005, high = 0.05 }',
        'space.momentum = { kind = "uniform", low = 0.5, high = 0.99 }',
    )
    searched_file.write_text(text)
    study = started(searched_file, folder, "tuning.extend=true")
    points = {**INSIDE, "muon": {"lr": 0.02, "momentum": 0.99}}
    assert len(run_rounds(study, folder, points)) == 1
    assert not tuning_of(folder).variants["muon"].tuned


def test_a_variant_that_never_completed_is_confirmed_with_its_own_settings_and_says_so(
    searched_file: Path, folder: StudyFolder
) -> None:
    study = started(searched_file, folder)
    current = next_round(study, folder)
    assert current is not None
    finish(folder, current, lambda name, _: None if name == "muon" else 2.0, points=INSIDE)
    assert next_round(study, folder) is None
    muon = tuning_of(folder).variants["muon"]
    assert (muon.ledger.diverged, muon.ledger.tokens) == (8, 8000)
    assert muon.ledger.hours == pytest.approx(0.08)
    assert not muon.tuned
    assert "no configuration completed" in muon.edges[0]
    chosen = [e for e in SearchLog(folder.path).events() if isinstance(e, Chosen)]
    assert {e.variant: e.index for e in chosen} == {"adamw": 0, "muon": None}
    assert (
        with_chosen(study, chosen_points(SearchLog(folder.path).events())).variants[1].optimizer.lr
        == 0.02
    )


def test_a_line_that_a_crash_cut_is_dropped_before_the_next_one(folder: StudyFolder) -> None:
    folder.path.mkdir(parents=True)
    journal = SearchLog(folder.path)
    first = Chosen(variant="muon", index=1, point={"lr": 0.1})
    journal.append(first)
    with journal.path.open("a") as file:
        file.write('{"event":"chosen","vari')
    assert journal.events() == [first]
    second = first.model_copy(update={"variant": "adamw"})
    journal.append(second)
    assert journal.events() == [first, second]


def test_a_variant_that_is_not_to_be_tuned_takes_no_part_in_the_search_and_says_so(
    searched_file: Path, folder: StudyFolder
) -> None:
    published = '[[variants]]\nname = "published"\ntuned = false\n'
    published += 'optimizer = { kind = "adamw", lr = 0.05 }\n\n[analysis]'
    searched_file.write_text(searched_file.read_text().replace("[analysis]", published))
    study = started(searched_file, folder)
    (only,) = run_rounds(study, folder, INSIDE)
    assert set(only.spaces) == {"adamw", "muon"}
    rows = [row for row in load_plan(folder).trials if row.phase == "confirmation"]
    assert {row.variant for row in rows} == {"adamw", "muon", "published"}
    chosen = with_chosen(study, chosen_points(SearchLog(folder.path).events()))
    assert {v.name: v.optimizer.lr for v in chosen.variants}["published"] == 0.05
    results = load_results(folder)
    assert not_tuned(results, "published") == AS_PUBLISHED
    assert not_tuned(results, "adamw") is None
