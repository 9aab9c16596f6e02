"""The settings of a study file that have a meaning for the statistics."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.analysis.stats import arrays
from harness.study import settings
from harness.study.settings import AnalysisSettings


@pytest.mark.parametrize("bad", [[2, 4], [4, 4], [7, 4]])
def test_looks_must_ascend_from_three_seeds(bad: list[int]) -> None:
    with pytest.raises(ValidationError, match="ascending"):
        AnalysisSettings(baseline="adamw", looks=tuple(bad))


def test_no_looks_and_ascending_looks_are_allowed() -> None:
    assert AnalysisSettings(baseline="adamw").looks == ()
    assert AnalysisSettings(baseline="adamw", looks=(3, 5)).looks == (3, 5)


def test_a_study_may_not_plan_fewer_seeds_than_the_statistics_read() -> None:
    assert settings.MINIMUM_SEEDS == arrays.MINIMUM_SEEDS
