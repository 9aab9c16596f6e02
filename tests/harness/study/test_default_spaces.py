"""Every space that an optimizer brings along is one that a study accepts."""

import pytest

from harness.study.study_file import VariantConfig
from optimizers import REGISTRY

WITH_A_SPACE = [kind for kind, entry in REGISTRY.items() if entry.spec.default_space]


@pytest.mark.parametrize("kind", WITH_A_SPACE)
def test_a_default_space_is_accepted_and_holds_the_rate(kind: str) -> None:
    variant = VariantConfig.model_validate(
        {"name": kind, "optimizer": {"kind": kind, "lr": 0.001}, "space": "default"}
    )
    assert "lr" in variant.space
    for position in (0.0, 0.5, 1.0):
        settings = {name: dimension.at(position) for name, dimension in variant.space.items()}
        assert variant.with_settings(settings)


def test_our_optimizers_of_whole_matrices_have_one() -> None:
    assert {"adamw", "muon", "soap", "shampoo", "scion"} <= set(WITH_A_SPACE)
