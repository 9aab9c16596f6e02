"""Measures how much validation text a split leaves in the training text, for three splits.

The tokens are those that `optbench data` builds from the Python standard library. A model that is
nothing but a look-up table of the training text then shows what the leak is worth. Run
`python docs/figures/leakage.py`; it takes seconds, after the tokens are built once.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.data import DataConfig, TokenDataset, prepare
from harness.data.overlap import OVERLAP_N, hash_ngrams

# The look-up table answers with what followed the same 16 tokens in the training text.
CONTEXT = 16

Mask = NDArray[np.bool_]
Tokens = NDArray[np.int64]


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
    parser.add_argument("--vocab-size", type=int, default=2048)
    arguments = parser.parse_args()
    config = DataConfig(max_tokens=arguments.max_tokens, vocab_size=arguments.vocab_size)
    dataset = prepare(config, progress=print)
    print(f"\n| split | validation {OVERLAP_N}-grams seen in training | tokens looked up |")
    print("| --- | --- | --- |")
    for split, tokens in splits(dataset):
        found = measure(split, tokens)
        print(f"| {split.name} | {100 * found.seen:.1f} % | {100 * found.looked_up:.1f} % |")


def splits(dataset: TokenDataset, *, seed: int = 0) -> list[tuple[Split, Tokens]]:
    """Windows at every position, windows side by side, and documents; a tenth is validation."""
    train, validation = stream(dataset, "train"), stream(dataset, "validation")
    tokens = np.concatenate([train, validation])
    window = dataset.sequence_length + 1
    rng = np.random.default_rng(seed)
    by_document = np.zeros(len(tokens), dtype=bool)
    by_document[len(train) :] = True
    return [
        (random_windows("overlapping windows, at random", len(tokens), window, 1, rng), tokens),
        (random_windows("separate windows, at random", len(tokens), window, window, rng), tokens),
        (Split(name="documents", train=~by_document, validation=by_document), tokens),
    ]


def stream(dataset: TokenDataset, side: str) -> Tokens:
    """The windows of one side, which stand one after the other, as the one stream they are."""
    if side == "train":
        return dataset.train_windows(np.arange(dataset.num_train_windows)).ravel()
    return dataset.validation_windows(np.arange(dataset.num_validation_windows)).ravel()


def random_windows(
    name: str, length: int, window: int, stride: int, rng: np.random.Generator
) -> Split:
    """Each window goes to validation with probability 0.1; a position may be in both."""
    starts = np.arange(0, length - window + 1, stride)
    held_out = rng.random(len(starts)) < 0.1
    return Split(
        name=name,
        train=covered(starts[~held_out], window, length),
        validation=covered(starts[held_out], window, length),
    )


def covered(starts: Tokens, window: int, length: int) -> Mask:
    """Positions that lie in at least one of the windows."""
    change = np.zeros(length + 1, dtype=np.int64)
    np.add.at(change, starts, 1)
    np.add.at(change, starts + window, -1)
    return np.cumsum(change[:-1]) > 0


def measure(split: Split, tokens: Tokens) -> Leak:
    """What stands on both sides of a split."""
    _, read = grams(tokens, split.train, OVERLAP_N)
    _, held_out = grams(tokens, split.validation, OVERLAP_N)
    seen = np.isin(held_out, read)
    starts, contexts = grams(tokens, split.train, CONTEXT, more=1)
    known, first = np.unique(contexts, return_index=True)
    answers = tokens[starts[first] + CONTEXT]
    asked_at, asked = grams(tokens, split.validation, CONTEXT, more=1)
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    right = (known[place] == asked) & (answers[place] == tokens[asked_at + CONTEXT])
    return Leak(seen=float(seen.mean()), looked_up=float(right.mean()))


def grams(
    tokens: Tokens, readable: Mask, n: int, *, more: int = 0
) -> tuple[Tokens, NDArray[np.uint64]]:
    """Starts and hashes of the n-grams that are readable, with `more` tokens after them."""
    total = np.concatenate([[0], np.cumsum(readable)])
    starts = np.flatnonzero(total[n + more :] - total[: -n - more] == n + more)
    return starts, hash_ngrams(tokens, n=n)[starts]


if __name__ == "__main__":
    main()
