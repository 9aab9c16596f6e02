"""The stratified bootstrap: what it keeps, and that it is SciPy's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.analysis.stats.stratified import Stratum, expanded_interval, observed, resample


def stratum(*, paired: bool, sizes: tuple[int, int] = (4, 4), level: float = 0.0) -> Stratum:
    """Each loss names its contestant, task and seed; each cost is the loss plus a half."""
    losses = {
        name: 1000.0 * (1 + index) + level + np.arange(size, dtype=float)
        for index, (name, size) in enumerate(zip("ab", sizes, strict=True))
    }
    costs = {name: values + 0.5 for name, values in losses.items()}
    return Stratum(losses=losses, costs=costs, paired=paired)


@settings(max_examples=30, deadline=None)
@given(st.booleans(), st.integers(2, 6), st.integers(0, 9))
def test_a_resample_keeps_strata_sizes_and_runs(paired: bool, n: int, seed: int) -> None:
    own = stratum(paired=paired, sizes=(n, n), level=100.0)
    drawn = resample(own, np.random.default_rng(seed), resamples=20)
    assert drawn.costs is not None
    for name, values in drawn.losses.items():
        assert values.shape == (20, n)
        assert set(np.unique(values)) <= set(own.losses[name])
        assert (drawn.costs[name] == values + 0.5).all()
    if paired:
        assert (drawn.losses["b"] - drawn.losses["a"] == 1000.0).all()


def test_unpaired_contestants_are_drawn_apart() -> None:
    drawn = resample(stratum(paired=False, sizes=(4, 6)), np.random.default_rng(0), resamples=50)
    assert drawn.losses["b"].shape == (50, 6)
    same = drawn.losses["b"][:, :4] - drawn.losses["a"]
    assert len(np.unique(same)) > 1


def test_the_draws_are_those_of_scipy_with_one_sample_a_task() -> None:
    rng = np.random.default_rng(1)
    tasks = [rng.normal(size=5), 3.0 + rng.normal(size=8)]
    strata = [Stratum(losses={"a": own}, costs=None, paired=True) for own in tasks]
    ours = sum(resample(s, rng, resamples=20_000).losses["a"].mean(axis=1) for s in strata) / 2.0
    theirs = stats.bootstrap(
        tasks,
        lambda x, y, axis: (x.mean(axis=axis) + y.mean(axis=axis)) / 2.0,
        n_resamples=20_000,
        vectorized=True,
        paired=False,
        method="percentile",
        rng=rng,
    )
    low, high = theirs.confidence_interval
    assert np.quantile(ours, [0.025, 0.975]) == pytest.approx([low, high], abs=0.02)
    assert ours.std() == pytest.approx(theirs.standard_error, rel=0.03)


def test_of_one_task_and_the_mean_it_is_the_t_interval() -> None:
    rng = np.random.default_rng(2)
    n = 6
    values = stats.norm.ppf((np.arange(n) + 0.5) / n)  # symmetric
    own = Stratum(losses={"a": values}, costs=None, paired=True)
    means = resample(own, rng, resamples=200_000).losses["a"].mean(axis=1)
    found = expanded_interval(means, level=0.95, seeds=(n,))
    half = stats.t.isf(0.025, n - 1) * values.std(ddof=1) / np.sqrt(n)
    assert found is not None
    assert [found.low, found.high] == pytest.approx([-half, half], rel=0.05)


def test_nothing_that_varies_has_no_interval_and_infinities_are_open_ends() -> None:
    assert expanded_interval(np.ones(100), level=0.95, seeds=(5,)) is None
    assert expanded_interval(np.arange(100.0), level=0.95, seeds=(5, 1)) is None
    found = expanded_interval(np.array([1.0] * 60 + [np.inf] * 40), level=0.95, seeds=(5,))
    assert found is not None
    assert (found.low, found.high) == (1.0, np.inf)


def test_the_runs_as_they_are_are_one_resample() -> None:
    own = stratum(paired=True)
    assert observed(own).losses["a"].tolist() == [own.losses["a"].tolist()]


def test_pairs_need_the_same_seeds() -> None:
    with pytest.raises(ValueError, match="different numbers"):
        resample(stratum(paired=True, sizes=(3, 4)), np.random.default_rng(0), resamples=2)
