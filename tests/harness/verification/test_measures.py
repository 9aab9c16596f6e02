"""How far two trainings are apart: nothing that is no number is ever left out."""

from __future__ import annotations

import math

import torch

from harness.verification.measures import different_entries, travelled_difference


def test_an_element_that_is_no_number_is_not_the_one_that_is_left_out() -> None:
    start, goal = {"w": torch.zeros(100)}, {"w": torch.ones(100)}
    found = {"w": torch.ones(100)}
    found["w"][7] = 1.5
    assert travelled_difference(found, goal, start) == (0.0, "")
    found["w"][7] = math.nan
    assert travelled_difference(found, goal, start) == (math.inf, "w")


def test_in_a_state_nan_is_nan_and_not_zero() -> None:
    before = {"state": {"w": torch.tensor([math.nan, math.inf, 0.0])}}
    assert different_entries(before, before) == []
    for other in (0.0, 3.4028234663852886e38):
        after = {"state": {"w": before["state"]["w"].clone()}}
        after["state"]["w"][0 if other == 0.0 else 1] = other
        assert different_entries(after, before) == ["state.w"]
