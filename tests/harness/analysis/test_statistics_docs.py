"""The pages about the statistics say what the code says."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.calibration.winners_curse import winners_curse_demo
from harness.analysis.from_csv import OPTIONAL_COLUMNS, REQUIRED_COLUMNS
from harness.analysis.results import Comparison, Look, TargetResult, VariantSummary
from harness.analysis.stats.effects import EffectSizes
from harness.analysis.stats.equivalence import EquivalenceTest
from harness.study.settings import AnalysisSettings
from harness.training.records import OUTCOMES

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    "record", [VariantSummary, Comparison, Look, TargetResult, EffectSizes, EquivalenceTest]
)
def test_every_field_of_the_json_is_documented(record) -> None:
    page = (DOCS / "reference" / "compare-json.md").read_text(encoding="utf-8")
    assert [field.name for field in fields(record) if f"`{field.name}`" not in page] == []


def test_every_column_outcome_and_setting_is_documented() -> None:
    page = (DOCS / "reference" / "compare-json.md").read_text(encoding="utf-8")
    names = [*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *OUTCOMES, *AnalysisSettings.model_fields]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_the_story_of_the_winners_curse_is_what_its_command_prints() -> None:
    page = (DOCS / "tutorials" / "interpreting-ablations.md").read_text(encoding="utf-8")
    for sentence in winners_curse_demo(np.random.default_rng(0)).sentences():
        assert sentence in page
