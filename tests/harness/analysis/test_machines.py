"""Times are compared only where the hardware was the same, as the attempts tell it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from made_up_attempts import forget_attempts, on, rewrite_attempts

from harness.analysis.machines import hardware, times_compare, why_no_times
from harness.analysis.measures import MEASURES, change
from harness.analysis.speedup import speedups
from harness.analysis.study_analysis import analyse_study
from harness.analysis.study_results import StudyResults
from harness.runs.attempts import AttemptBegan
from harness.runs.folder import StudyFolder
from harness.study.plan import PlannedTrial
from harness.tracking.metrics import summary_metrics

Write = Callable[..., StudyFolder]
Change = Callable[[PlannedTrial, AttemptBegan], AttemptBegan]
TIME = next(measure for measure in MEASURES if measure.name == "training_time")
H100 = "cuda NVIDIA H100"


def results_on(folder: StudyFolder, change: Change) -> StudyResults:
    rewrite_attempts(folder, change)
    return analyse_study(folder)


def test_hardware_is_that_of_the_trials_and_not_of_the_driver(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=60)
    assert hardware(analyse_study(folder)) == "2 workers on a processor"
    results = results_on(folder, lambda row, it: on(it, workers=1, host="far", device=H100))
    assert hardware(results) == "1 worker on NVIDIA H100"
    assert why_no_times(results) is None
    forget_attempts(folder)
    assert hardware(analyse_study(folder)) == "2 workers on a processor", "as planned"


def test_an_index_of_a_device_and_a_host_make_no_other_hardware(made_up_study: Write) -> None:
    results = results_on(
        made_up_study(seeds=(0, 1, 2), every=60),
        lambda row, it: on(it, host=f"host-{row.seed}", device=f"cuda:{row.seed} NVIDIA H100"),
    )
    assert hardware(results) == "2 workers on NVIDIA H100"
    assert times_compare(results, results.confirmation)


def test_an_attempt_names_the_processor_of_every_worker(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=60)
    results = results_on(folder, lambda row, it: on(it, device=f"cpu Zen {4 + row.seed % 2}"))
    assert hardware(results) == "2 workers on Zen 4 (4 trials) and 2 workers on Zen 5 (2 trials)"
    assert why_no_times(results) is not None


def test_times_on_a_shared_gpu_are_shown_as_such_and_compare_with_nothing(
    made_up_study: Write,
) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=20)
    results = results_on(folder, lambda row, it: on(it, workers=1, device=H100, gpus=0.25))
    assert hardware(results) == "1 worker on 25% of a shared NVIDIA H100"
    assert "depend on what else ran there" in (why_no_times(results) or "")
    (found,) = speedups(results)
    assert (found.seconds, change(results, "muon", TIME)) == (None, None)
    assert found.steps is not None


def test_times_of_whole_pairs_compare_though_pairs_differ(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2, 3), every=20)
    same = analyse_study(folder)
    (usual,) = speedups(same)
    results = results_on(folder, lambda row, it: on(it, workers=2 if row.seed < 2 else 4))
    assert hardware(results) == (
        "2 workers on a processor (4 trials) and 4 workers on a processor (4 trials)"
    )
    assert why_no_times(results) is not None
    (found,) = speedups(results)
    assert (found.seconds, found.why_no_seconds) == (usual.seconds, None)
    assert change(results, "muon", TIME) == change(same, "muon", TIME)
    assert "tokens_per_s" not in summary_metrics(results, "muon")
    assert "tokens_per_s" in summary_metrics(same, "muon")


@pytest.mark.parametrize(
    "mixed",
    [
        lambda row, it: on(it, workers=4 if row.variant == "muon" else 2),
        lambda row, it: on(it, device=H100) if (row.variant, row.seed) == ("muon", 1) else it,
        lambda row, it: on(it, workers=4) if it.attempt == 2 else it,
    ],
)
def test_no_ratio_of_times_across_different_hardware(made_up_study: Write, mixed: Change) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=20, ends={("muon", 1): ("hung",)})
    results = results_on(folder, mixed)
    (found,) = speedups(results)
    assert found.steps is not None, "steps do not ask for the machine"
    assert found.seconds is None
    assert found.why_no_seconds is not None
    assert change(results, "muon", TIME) is None
    assert change(results, "muon", MEASURES[0]) is not None
    assert why_no_times(results) is not None


def test_an_attempt_that_trained_nothing_is_no_hardware_of_the_trial(made_up_study: Write) -> None:
    folder = made_up_study(seeds=(0, 1, 2), every=60, ends={("muon", 1): ("worker_died",)})

    def never_trained(row: PlannedTrial, it: AttemptBegan) -> AttemptBegan:
        if (row.variant, row.seed, it.attempt) != ("muon", 1, 1):
            return it
        return on(it, workers=4).model_copy(update={"resumed_step": 60})

    assert why_no_times(results_on(folder, never_trained)) is None
