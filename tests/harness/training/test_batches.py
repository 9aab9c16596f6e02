"""What a worker is fed: one step ahead, and checked against the plan. Gangs: tests/distributed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.data import BatchSampler, TokenDataset, open_dataset, prepare
from harness.study.load import load_study
from harness.study.trial import TrialSpec, trial_spec
from harness.training.backends.opening import open_backend
from harness.training.backends.protocol import Backend, WorkerContext
from harness.training.batches import BatchError, BatchFeed, window_digests


@pytest.fixture
def spec(study_file: Path) -> TrialSpec:
    study = load_study(study_file)
    return trial_spec(study, study.variants[0], 0, prepare(study.data).manifest.sha256)


@pytest.fixture
def dataset(study_file: Path) -> TokenDataset:
    return open_dataset(prepare(load_study(study_file).data).path)


def make_feed(dataset: TokenDataset, backend: Backend) -> BatchFeed:
    sampler = BatchSampler(dataset.num_train_windows, batch_size=8, seed=3)
    return BatchFeed(dataset, sampler, backend, accumulation_steps=2)


def test_a_step_made_ahead_is_that_step_and_any_other_is_made_anew(
    spec: TrialSpec, dataset: TokenDataset
) -> None:
    with open_backend(spec, WorkerContext(dataset.path)) as backend:
        plain, ahead = make_feed(dataset, backend), make_feed(dataset, backend)
        ahead.prefetch(1)
        for step in (1, 2, 0):
            for left, right in zip(plain.take(step), ahead.take(step), strict=True):
                assert torch.equal(left.inputs_BT, right.inputs_BT)
                assert torch.equal(left.targets_BT, right.targets_BT)
                assert torch.equal(left.inputs_BT[:, 1:], left.targets_BT[:, :-1])
            ahead.prefetch(5)
        plain.check()
        ahead.check()


def test_other_windows_than_those_of_the_plan_are_refused_and_their_steps_named(
    spec: TrialSpec, dataset: TokenDataset
) -> None:
    with open_backend(spec, WorkerContext(dataset.path)) as backend:
        feed = make_feed(dataset, backend)
        feed.take(0)
        feed.check()
        feed.prefetch(1)
        assert feed._ahead is not None
        feed._ahead = 2, feed._ahead[1]  # a step behind
        feed.take(2)
        with pytest.raises(BatchError, match="fed in steps 3 to 3 are not those"):
            feed.check()


@given(data=st.data())
def test_the_digest_of_a_window_knows_its_tokens_and_their_order(data: st.DataObject) -> None:
    window = data.draw(st.lists(st.integers(0, 50_000), min_size=2, max_size=40))
    other = data.draw(st.permutations(window) | st.lists(st.integers(0, 50_000)))
    if len(other) == len(window):
        same = window_digests(np.array([window])) == window_digests(np.array([other]))
        assert bool(same[0]) == (window == other)
