"""Ranks over tasks against the printed numbers of Demsar (2006)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.stats.ranks import (
    critical_difference,
    friedman,
    not_separated,
    task_ranks,
)

# Table 5 (a), k = 2..10.
Q_05 = [1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164]
Q_10 = [1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920]
# Table 6: areas under the ROC curve (higher is better) of C4.5 and three variants on 14 data sets.
AUC = [
    [0.763, 0.768, 0.771, 0.798],
    [0.599, 0.591, 0.590, 0.569],
    [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657],
    [0.882, 0.888, 0.886, 0.898],
    [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685],
    [0.583, 0.583, 0.563, 0.625],
    [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000],
    [0.940, 0.962, 0.965, 0.962],
    [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975],  # printed 0.975 both, ranked 2 and 3: digits were cut off
    [0.957, 0.978, 0.946, 0.970],
]
values = st.integers(2, 5).flatmap(
    lambda tasks: st.lists(
        st.lists(st.integers(-9, 9), min_size=tasks, max_size=tasks), min_size=3, max_size=5
    )
)


@pytest.mark.parametrize(("alpha", "printed"), [(0.05, Q_05), (0.10, Q_10)])
def test_the_quantiles_of_nemenyi_agree_with_the_printed_table(alpha, printed) -> None:
    for contestants, q in enumerate(printed, start=2):
        tasks = 7
        scale = np.sqrt(contestants * (contestants + 1) / (6.0 * tasks))
        found = critical_difference(contestants, tasks, alpha=alpha) / scale
        assert found == pytest.approx(q, abs=0.0011)  # the table cuts its digits off


def test_the_worked_example_of_demsar() -> None:
    losses = -np.array(AUC).T
    means = task_ranks(losses).mean(axis=1)
    assert means == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    # His 9.28 is without the correction for ties, which makes it larger.
    plain = 12 * 14 / (4 * 5) * ((means**2).sum() - 4 * 25 / 4)
    assert plain == pytest.approx(9.28, abs=0.005)
    assert friedman(losses).statistic > plain
    assert critical_difference(4, 14, alpha=0.05) == pytest.approx(1.25, abs=0.005)
    difference = critical_difference(4, 14, alpha=0.10)
    assert difference == pytest.approx(1.12, abs=0.005)
    assert not_separated(list(means), difference=difference) == ((3, 1, 2), (2, 0))


@settings(max_examples=50, deadline=None)
@given(values)
def test_ranks_ask_for_order_only(table) -> None:
    losses = np.array(table, dtype=float)
    curved = np.sign(losses) * np.abs(losses) ** 3 + np.arange(losses.shape[1])
    assert (task_ranks(curved) == task_ranks(losses)).all()
    assert task_ranks(losses).sum(axis=0) == pytest.approx(len(table) * (len(table) + 1) / 2)
    assert friedman(curved) == friedman(losses)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(2, 20).map(lambda n: n / 4), min_size=2, max_size=8), st.floats(0.1, 3))
def test_groups_are_maximal_and_hold_whatever_is_closer_than_the_critical_difference(
    means, difference
) -> None:
    groups = not_separated(means, difference=difference)
    for group in groups:
        own = [means[index] for index in group]
        assert max(own) - min(own) < difference
        assert not any(set(group) < set(other) for other in groups)
    for i in range(len(means)):
        for j in range(i):
            together = any({i, j} <= set(group) for group in groups)
            assert together == (abs(means[i] - means[j]) < difference)


def test_a_lost_contestant_ranks_last_and_equals_are_no_difference() -> None:
    assert task_ranks([[1.0], [np.inf], [2.0]])[:, 0].tolist() == [1.0, 3.0, 2.0]
    assert friedman([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]).p == 1.0


def test_too_few_are_refused() -> None:
    with pytest.raises(ValueError, match="3 or more on 2 or more"):
        friedman([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="without gaps"):
        task_ranks([[float("nan")]])
    with pytest.raises(ValueError, match="contestants"):
        critical_difference(1, 3)
