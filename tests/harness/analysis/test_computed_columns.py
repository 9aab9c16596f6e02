"""A table of results says in what its runs were computed, or is read without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.analysis.from_csv import compare_file, read_results
from harness.analysis.stats.arithmetic import Computed
from harness.report.results_csv import write_results_csv
from harness.runs.folder import StudyFolder
from harness.runs.snapshot import load_snapshot
from harness.training.records import Arithmetic

HASHED = "variant,seed,value,initial_sha256,batches_sha256"
SEEDS = range(5)


def table(path: Path, columns: str, cells: Callable[[str, int], str]) -> Path:
    """Five seeds of two variants whose hashes agree, with further columns."""
    rows = [
        f"{variant},{seed},{mean + 0.01 * (seed % 3) + 0.001 * seed},i{seed},b{seed},"
        + cells(variant, seed)
        for variant, mean in (("adamw", 3.4), ("muon", 3.1))
        for seed in SEEDS
    ]
    path.write_text("\n".join([f"{HASHED},{columns}", *rows]) + "\n", encoding="utf-8")
    return path


def reason(path: Path) -> tuple[bool, str]:
    (comparison,) = compare_file(path, baseline="adamw").comparisons
    return comparison.paired, comparison.pairing_reason


def test_a_seed_of_another_device_is_not_paired(tmp_path: Path) -> None:
    def device(variant: str, seed: int) -> str:
        return "cuda" if (variant, seed) == ("muon", 3) else "cpu"

    paired, why = reason(table(tmp_path / "results.csv", "device_type", device))
    assert not paired
    assert why == "unpaired: seed 3 was trained on cuda, its baseline on cpu"


def test_a_version_alone_is_compared_where_no_hash_names_the_code(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    paired, why = reason(
        table(path, "code_version", lambda variant, seed: f"1.{variant == 'muon'}")
    )
    assert not paired
    assert "by code 1.True, its baseline by code 1.False" in why
    both = "code_version,code_sha256"
    paired, why = reason(table(path, both, lambda variant, seed: f"1.{variant == 'muon'},abc"))
    assert paired, why


@pytest.mark.parametrize("column", ["device", "version", "torch", "precise"])
def test_a_column_of_ones_own_that_sounds_alike_is_no_mistake(tmp_path: Path, column: str) -> None:
    paired, why = reason(table(tmp_path / "results.csv", column, lambda *_: "x"))
    assert paired
    assert why.endswith("are not recorded")


def test_what_cannot_be_seen_is_refused_here_too(tmp_path: Path) -> None:
    path = table(tmp_path / "results.csv", "code_version", lambda *_: "a\x1b[2Jb")
    with pytest.raises(ValueError, match=r"code_version .* cannot be seen"):
        read_results(path)


def test_the_table_of_a_study_is_read_back_with_its_arithmetic(
    made_up_study: Callable[..., StudyFolder],
) -> None:
    folder = made_up_study()
    known = Arithmetic(
        precision="fp32", ns_dtype="bf16", device_type="cpu", device="a processor", torch="2.13.0"
    )
    for trial in load_snapshot(folder).trials:
        update = {"arithmetic": known, "code_version": "a1b2c3d+dirty", "code_sha256": "f" * 16}
        assert trial.outcome is not None
        folder.trial(trial.key).finish(trial.outcome.model_copy(update=update))
    path = write_results_csv(load_snapshot(folder))
    assert {row.computed for row in read_results(path)} == {
        Computed(
            precision="fp32",
            device_type="cpu",
            torch="2.13.0",
            code="f" * 16,
            version="a1b2c3d+dirty",
            ns_dtype="bf16",
        )
    }
    assert reason(path)[1].endswith("and so do precision, device and code")
