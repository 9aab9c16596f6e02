"""The calibration as a user sees it, small, and the winner's curse."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from harness.analysis.calibration.calibrate import Calibration, calibrate
from harness.analysis.calibration.winners_curse import winners_curse_demo
from harness.analysis.result_rows import ResultRow
from harness.errors import UserError
from harness.report.figures.calibration import save_figure
from harness.report.tables.calibration import to_markdown
from harness.report.terminal.calibration import render_calibration


@pytest.fixture(scope="module")
def small() -> Calibration:
    return calibrate(np.random.default_rng(91), studies=1000)


def rows(per_variant: int, *, sigma: float = 0.01) -> list[ResultRow]:
    rng = np.random.default_rng(92)
    return [
        ResultRow(variant=name, seed=seed, value=float(rng.normal(loss, sigma)))
        for name, loss in (("adamw", 3.4), ("muon", 3.1), ("sgd", 3.9))
        for seed in range(per_variant)
    ]


def test_every_promise_holds_on_gaussian_noise(small: Calibration) -> None:
    assert small.passed, [cell for cell in small.cells if cell.passed is False]
    checked = {(cell.check, cell.comparisons, cell.seeds) for cell in small.cells}
    for seeds in ("3", "5", "8", "10"):
        assert ("false positives", 1, seeds) in checked
        assert ("family-wise error", 4, seeds) in checked
        assert ("family-wise error", 18, seeds) in checked
        assert ("false equivalence", 18, seeds) in checked
    assert ("looks, calibrated bounds", 1, "4, 7, 10") in checked
    assert ("targets under looks", 4, "4, 7, 10") in checked
    assert ("advised seeds in a fresh study", 1, "5..100") in checked
    assert ("every run diverges, the baseline's never: called worse", 1, "5") in checked
    assert ("verdict, interval and p disagree", 6, "5") in checked


def test_the_same_generator_gives_the_same_table(small: Calibration) -> None:
    assert calibrate(np.random.default_rng(91), studies=1000) == small


def test_the_table_is_shown_in_eighty_columns(small: Calibration) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(render_calibration(small))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "Every promise holds." in text


def test_the_page_and_the_json_hold_every_cell(small: Calibration) -> None:
    page = to_markdown(small)
    assert all(f"{cell.rate:.4f}" in page for cell in small.cells)
    found = json.loads(json.dumps(small.to_json(), allow_nan=False))
    assert found["schema_version"] == 2
    assert len(found["cells"]) == len(small.cells)
    assert found["passed"] is True


def test_the_figure_is_the_same_file_every_time(small: Calibration, tmp_path: Path) -> None:
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    save_figure(small, one)
    save_figure(small, other)
    assert one.read_bytes().startswith(b"\x89PNG")
    assert one.read_bytes() == other.read_bytes()
    with pytest.raises(UserError, match="cannot write"):
        save_figure(small, tmp_path / "nowhere" / "figure.png")


def test_own_results_can_be_the_noise() -> None:
    found = calibrate(np.random.default_rng(93), rows=rows(8), studies=500)
    assert "given results" in found.noise
    assert all(0.0 <= cell.rate <= 1.0 for cell in found.cells)


def test_results_without_enough_seeds_cannot_be_the_noise() -> None:
    with pytest.raises(UserError, match="9 residuals"):
        calibrate(np.random.default_rng(94), rows=rows(3), studies=500)
    with pytest.raises(UserError, match="at least 100"):
        calibrate(np.random.default_rng(95), studies=5)
    with pytest.raises(UserError, match="alpha"):
        calibrate(np.random.default_rng(95), studies=500, alpha=5.0)


def test_the_best_of_nineteen_improves_the_baseline_and_the_harness_sees_nothing() -> None:
    demo = winners_curse_demo(np.random.default_rng(96), repetitions=4000)
    assert demo.apparent_gain > 0.0
    assert demo.share_improved_at_one_seed == pytest.approx(0.95, abs=0.015)
    assert demo.mean_gain_in_sigmas == pytest.approx(1.84, abs=0.05)
    assert demo.share_with_a_claim <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 4000)
    assert sum(demo.verdicts.values()) == 19
    assert len(demo.sentences()) == 5
