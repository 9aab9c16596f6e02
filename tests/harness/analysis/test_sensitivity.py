"""Settings side by side: what varied, and when that is a line or a grid."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.sensitivity import SensitivityGroup, TriedSettings, best, sensitivity_groups
from harness.analysis.study_results import load_results
from harness.runs.folder import StudyFolder

Write = Callable[..., StudyFolder]


def setting(loss: float | None = 3.0, **values: object) -> TriedSettings:
    losses = () if loss is None else (loss,)
    return TriedSettings(name="x", values=values, losses=losses, lost=int(loss is None))


def family(*found: TriedSettings) -> SensitivityGroup:
    return SensitivityGroup(title="muon", settings=found)


def test_variants_of_one_optimizer_are_a_family(eventful_study: StudyFolder) -> None:
    adamw, muon = sensitivity_groups(load_results(eventful_study))
    assert (adamw.title, muon.title) == ("adamw", "muon")
    assert [item.name for item in muon.settings] == ["muon", "muon-slow", "muon-hot"]
    assert muon.numeric() == {"lr": (0.005, 0.02, 0.2)}
    (line,) = muon.lines("lr")
    assert [item.name for item in line] == ["muon-slow", "muon", "muon-hot"]
    assert not adamw.lines("lr"), "two rates are no curve"


def test_a_setting_that_lost_a_seed_has_no_score(eventful_study: StudyFolder) -> None:
    _, muon = sensitivity_groups(load_results(eventful_study))
    by_name = {item.name: item for item in muon.settings}
    assert by_name["muon-hot"].score is None
    assert by_name["muon-hot"].diverged
    assert not by_name["muon-slow"].diverged, "it crashed"
    assert best(muon.settings) is by_name["muon"]


def test_a_line_joins_settings_that_differ_in_one_thing_only() -> None:
    found = family(
        *(setting(lr=lr, momentum=0.9) for lr in (1, 2, 3)),
        *(setting(lr=lr, momentum=0.95) for lr in (1, 2)),
        setting(lr=4, momentum=0.9, nesterov=False),
    )
    (line,) = found.lines("lr")
    assert [item.values["lr"] for item in line] == [1, 2, 3]


def test_a_grid_is_found_and_its_best_setting_shown_in_each_cell() -> None:
    found = family(
        *(
            setting(3.0 + 0.1 * lr + warmup, lr=lr, momentum=momentum, warmup=warmup)
            for lr in (1, 2, 3)
            for momentum in (0.9, 0.95)
            for warmup in (0, 1)
        )
    )
    assert found.axes() == ("lr", "momentum")
    cells = found.cells("lr", "momentum")
    assert len(cells) == 6
    assert all(item.values["warmup"] == 0 for item in cells.values())


def test_a_lost_setting_fills_a_cell_only_where_no_other_does() -> None:
    found = family(setting(None, lr=1, m=1), setting(3.0, lr=1, m=1), setting(None, lr=2, m=1))
    cells = found.cells("lr", "m")
    assert cells[1.0, 1.0].score == 3.0
    assert cells[2.0, 1.0].score is None


def test_settings_on_a_diagonal_are_no_grid() -> None:
    assert family(*(setting(lr=i, momentum=i) for i in range(4))).axes() is None
    assert family(*(setting(lr=i) for i in range(4))).axes() is None


def test_words_and_booleans_are_no_axes() -> None:
    found = family(
        *(
            setting(lr=lr, scale=word, nesterov=flag)
            for lr in (1, 2)
            for word in "ab"
            for flag in (True, False)
        )
    )
    assert set(found.numeric()) == {"lr"}
    assert set(found.varied()) == {"lr", "scale", "nesterov"}


@settings(max_examples=50, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1))
def test_a_grid_is_drawn_exactly_where_three_quarters_of_it_are_there(
    points: set[tuple[int, int]],
) -> None:
    found = family(*(setting(lr=x, momentum=y) for x, y in sorted(points)))
    across, up = ({point[axis] for point in points} for axis in (0, 1))
    full = min(len(across), len(up)) > 1 and 4 * len(points) >= 3 * len(across) * len(up)
    assert (found.axes() is not None) == full


def test_a_search_is_a_family_of_its_configurations(made_up_search: Write) -> None:
    adamw, muon = sensitivity_groups(load_results(made_up_search()))
    assert (adamw.searched, len(adamw.settings), len(muon.settings)) == (True, 8, 8)
    assert sum(item.chosen for item in muon.settings) == 1
    assert muon.borders["aux_lr"] == (0.001, 0.02)
