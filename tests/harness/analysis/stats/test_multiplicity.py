"""Holm against its reference numbers and its laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.multiplicity import bonferroni, holm

p_values = st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20)
law = settings(max_examples=100, deadline=None)


def test_holm_agrees_with_the_reference_numbers() -> None:
    adjusted = holm([0.319, 0.201, 0.4, 0.374, 0.113])
    assert adjusted == pytest.approx([0.957, 0.804, 0.957, 0.957, 0.565])
    assert holm([0.01, 0.011]) == pytest.approx([0.02, 0.02])


def test_holm_rejects_exactly_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        p = rng.uniform(size=6) ** 3
        rejected = np.zeros(6, dtype=bool)
        for step, index in enumerate(np.argsort(p)):
            if p[index] * (6 - step) >= 0.05:
                break
            rejected[index] = True
        assert (holm(p) < 0.05).tolist() == rejected.tolist()


@law
@given(p_values)
def test_holm_is_never_below_the_raw_p_nor_above_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert np.all(adjusted >= np.asarray(p))
    assert np.all(adjusted <= bonferroni(p))
    assert np.all(adjusted <= 1.0)


@law
@given(p_values)
def test_holm_keeps_the_order_of_the_raw_p(p: list[float]) -> None:
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(holm(p)[order]) >= 0.0)


@law
@given(p_values, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order_of_the_variants(p: list[float], random) -> None:
    order = list(range(len(p)))
    random.shuffle(order)
    assert holm([p[i] for i in order]) == pytest.approx(holm(p)[order], rel=1e-12)


def test_holm_adjusts_each_family_along_the_last_axis() -> None:
    families = np.array([[0.01, 0.04], [0.5, 0.02]])
    assert holm(families) == pytest.approx(np.array([holm(f) for f in families]))


def test_holm_of_no_comparison_is_empty() -> None:
    assert holm([]).size == 0


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [float("nan")]])
def test_holm_refuses_what_is_no_probability(bad: list[float]) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        holm(bad)
