import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import BatchHasher, BatchSampler
from harness.errors import UserError


@st.composite
def samplers(draw: st.DrawFn) -> BatchSampler:
    num_windows = draw(st.integers(1, 60))
    batch_size = draw(st.integers(1, num_windows))
    return BatchSampler(num_windows, batch_size=batch_size, seed=draw(st.integers(0, 2**63)))


@settings(max_examples=100, deadline=None)
@given(samplers())
def test_every_epoch_is_a_permutation_of_all_windows(sampler: BatchSampler) -> None:
    epochs = 3
    steps = -(-epochs * sampler.num_windows // sampler.batch_size)
    stream = np.concatenate([sampler.indices(step) for step in range(steps)])
    for epoch in range(epochs):
        drawn = stream[epoch * sampler.num_windows : (epoch + 1) * sampler.num_windows]
        assert sorted(drawn) == list(range(sampler.num_windows))


@settings(max_examples=100, deadline=None)
@given(samplers(), st.lists(st.integers(0, 1000), min_size=1, max_size=10))
def test_a_batch_depends_on_nothing_but_the_step(sampler: BatchSampler, steps: list[int]) -> None:
    for step in steps:
        fresh = BatchSampler(sampler.num_windows, batch_size=sampler.batch_size, seed=sampler.seed)
        np.testing.assert_array_equal(sampler.indices(step), fresh.indices(step))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 100), st.integers(0, 2**32))
def test_any_number_of_workers_reads_the_same_global_batch(
    workers: int, share: int, step: int, seed: int
) -> None:
    sampler = BatchSampler(50, batch_size=workers * share, seed=seed)
    slices = [sampler.rank_indices(step, rank=rank, workers=workers) for rank in range(workers)]
    assert {len(s) for s in slices} == {share}
    np.testing.assert_array_equal(np.concatenate(slices), sampler.indices(step))


def test_the_order_is_the_same_on_every_platform() -> None:
    """Written down once: a NumPy or platform that draws otherwise would change every study."""
    sampler = BatchSampler(10, batch_size=4, seed=1234)
    drawn = [sampler.indices(step).tolist() for step in range(5)]
    assert drawn == [[5, 6, 3, 9], [7, 4, 1, 2], [8, 0, 9, 2], [0, 7, 6, 1], [8, 4, 5, 3]]


def test_seeds_and_epochs_draw_different_orders() -> None:
    orders = {
        tuple(BatchSampler(50, batch_size=50, seed=seed).indices(epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_a_batch_that_is_changed_by_its_reader_does_not_change_the_next() -> None:
    sampler = BatchSampler(10, batch_size=4, seed=0)
    before = sampler.indices(0).copy()
    sampler.indices(0)[:] = -1
    np.testing.assert_array_equal(sampler.indices(0), before)


def test_too_few_windows_for_one_batch_is_an_error_with_numbers() -> None:
    with pytest.raises(UserError, match=r"has 3 windows, one batch needs 4"):
        BatchSampler(3, batch_size=4, seed=0)


def test_workers_that_do_not_divide_the_batch_are_refused() -> None:
    with pytest.raises(UserError, match=r"workers \(3\) must divide batch_size \(4\)"):
        BatchSampler(10, batch_size=4, seed=0).rank_indices(0, rank=0, workers=3)


def _hash(sampler: BatchSampler, *, data_sha256: str = "a", steps: int = 5) -> str:
    hasher = BatchHasher(data_sha256)
    for step in range(steps):
        hasher.update(sampler.indices(step))
    return hasher.hexdigest()


def test_the_hash_of_the_batches_knows_data_seed_and_length() -> None:
    sampler = BatchSampler(20, batch_size=4, seed=0)
    assert _hash(sampler) == _hash(BatchSampler(20, batch_size=4, seed=0))
    others = [
        _hash(BatchSampler(20, batch_size=4, seed=1)),
        _hash(sampler, data_sha256="b"),
        _hash(sampler, steps=6),
    ]
    assert _hash(sampler) not in others
