"""Measures how much validation text a split leaves in the training text, for three splits.

The tokens are those that `optbench data` builds from the Python standard library. A model that is
nothing but a look-up table of the training text then shows what the leak is worth. Run
`python docs/figures/leakage.py`; it takes seconds, after the tokens are built once.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.data import DataConfig, TokenDataset, prepare
from harness.data.overlap import OVERLAP_N, hash_ngrams

# The look-up table answers with what followed the same 16 tokens in the training text.
CONTEXT = 16

Mask = NDArray[np.bool_]
Tokens = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which positions of one stream of tokens can be read in training, and in validation."""

    name: str
    train: Mask
    validation: Mask


@dataclass(frozen=True, kw_only=True)
class Leak:
    """Shares of the validation text, by position."""

    seen: float  # 32-grams that also stand in the training text
    looked_up: float  # tokens that the look-up table predicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-tokens", type=int, default=1_500_000, help="as in the quickstart")
    parser.add_argument("--max-documents", type=int)
    parser.add_argument("--vocab-size", type=int, default=2048)
    config = DataConfig(**vars(parser.parse_args()))
    dataset = prepare(config, progress=print)
    print(f"\n| split | validation {OVERLAP_N}-grams seen in training | tokens looked up |")
    print("| --- | --- | --- |")
    tokens = np.concatenate([stream(dataset, "train"), stream(dataset, "validation")])
    hashes = {n: hash_ngrams(tokens, n=n) for n in (OVERLAP_N, CONTEXT)}
    for split in splits(dataset, length=len(tokens)):
        found = measure(split, tokens, hashes)
        print(f"| {split.name} | {100 * found.seen:.1f} % | {100 * found.looked_up:.1f} % |")


def splits(dataset: TokenDataset, *, length: int, seed: int = 0) -> Iterator[Split]:
    """Windows at every position, windows side by side, and documents; a tenth is validation."""
    window = dataset.sequence_length + 1
    rng = np.random.default_rng(seed)
    yield random_windows("overlapping windows, at random", length, window, 1, rng)
    yield random_windows("separate windows, at random", length, window, window, rng)
    held_out = np.arange(length) >= dataset.num_train_windows * window
    yield Split(name="documents", train=~held_out, validation=held_out)


def stream(dataset: TokenDataset, side: str) -> Tokens:
    """The windows of one side, which stand one after the other, as the one stream they are."""
    if side == "train":
        return dataset.train_windows(np.arange(dataset.num_train_windows)).ravel()
    return dataset.validation_windows(np.arange(dataset.num_validation_windows)).ravel()


def random_windows(
    name: str, length: int, window: int, stride: int, rng: np.random.Generator
) -> Split:
    """Each window goes to validation with probability 0.1; a position may be in both."""
    first = np.arange(0, length - window + 1, stride)
    held_out = rng.random(len(first)) < 0.1
    return Split(
        name=name,
        train=covered(first[~held_out], window, length),
        validation=covered(first[held_out], window, length),
    )


def covered(first: Tokens, window: int, length: int) -> Mask:
    """Positions that lie in at least one of the windows."""
    change = np.zeros(length + 1, dtype=np.int64)
    change[first] += 1  # each window begins at a place of its own
    change[first + window] -= 1
    return np.cumsum(change[:-1]) > 0


def measure(split: Split, tokens: Tokens, hashes: Mapping[int, Hashes]) -> Leak:
    """What stands on both sides of a split; `hashes` of the n-grams at every position, by n."""
    read = np.sort(hashes[OVERLAP_N][starts(split.train, OVERLAP_N)])
    held_out = hashes[OVERLAP_N][starts(split.validation, OVERLAP_N)]
    seen = read[places(held_out, read)] == held_out

    # The same for contexts, each with the token that follows it.
    learnt = starts(split.train, CONTEXT + 1)
    learnt = learnt[np.argsort(hashes[CONTEXT][learnt], kind="stable")]
    known = hashes[CONTEXT][learnt]
    asked = starts(split.validation, CONTEXT + 1)
    place = places(hashes[CONTEXT][asked], known)
    right = (known[place] == hashes[CONTEXT][asked]) & (
        tokens[learnt[place] + CONTEXT] == tokens[asked + CONTEXT]
    )
    return Leak(seen=float(seen.mean()), looked_up=float(right.mean()))


def starts(readable: Mask, n: int) -> Tokens:
    """Where n readable tokens in a row begin."""
    total = np.concatenate([[0], np.cumsum(readable)])
    return np.flatnonzero(total[n:] - total[:-n] == n)


def places(wanted: Hashes, ascending: Hashes) -> Tokens:
    """Where each value is in the other array, if it is there: its first place."""
    return np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)


if __name__ == "__main__":
    main()
