"""How much of the validation text also stands in the training text: shared n-grams of tokens.

Exact duplicates cannot straddle the split. Licence headers, copied functions and lightly edited
texts can, and a model that has memorised them looks better than it is: the share is reported.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.data.manifest import OverlapManifest

Tokens = NDArray[np.unsignedinteger]

OVERLAP_N = 32  # tokens; about a hundred characters, more than idiom shares by chance
_CHUNK = 1 << 22  # hashes at a time: 32 MiB an array, whatever the size of the corpus


def count_overlap(
    train: Tokens, validation: Tokens, *, end_of_text_id: int, n: int = OVERLAP_N
) -> OverlapManifest:
    """Count the validation n-grams, by position, that occur anywhere in the training tokens.

    N-grams that contain the end-of-text token are left out: they belong to no document.
    N-grams are compared by a 64-bit hash; the chance that even one of them is counted wrongly is
    below `len(train) * len(validation) / 2**64` (2e-8 for 3 million by 300,000 tokens).

    Arguments:
        train, validation: token ids, shape (tokens,).
        n: length in tokens, a power of two.
    """
    hashes = [
        hashed[within]
        for hashed, within in _hashed_ngrams(validation, n=n, end_of_text_id=end_of_text_id)
    ]
    distinct, counts = np.unique(
        np.concatenate(hashes) if hashes else np.empty(0, np.uint64), return_counts=True
    )
    found = np.zeros(len(distinct), dtype=bool)
    if len(distinct):
        for hashed, _ in _hashed_ngrams(train, n=n, end_of_text_id=end_of_text_id):
            hashed.sort()  # neighbours then look up neighbours: much kinder to the caches
            position = np.minimum(np.searchsorted(distinct, hashed), len(distinct) - 1)
            found[position[distinct[position] == hashed]] = True
    return OverlapManifest(n=n, ngrams=int(counts.sum()), seen=int(counts[found].sum()))


def _hashed_ngrams(
    tokens: Tokens, *, n: int, end_of_text_id: int
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.bool_]]]:
    """For every position: the hash of its n-gram, and whether it lies within one document."""
    assert n.bit_count() == 1, f"n ({n}) must be a power of two"
    for start in range(0, len(tokens) - n + 1, _CHUNK):
        chunk = np.asarray(tokens[start : start + _CHUNK + n - 1])
        ends = np.concatenate([[0], np.cumsum(chunk == end_of_text_id)])
        yield hash_ngrams(chunk, n=n), ends[n:] == ends[:-n]


def hash_ngrams(tokens: Tokens, *, n: int) -> NDArray[np.uint64]:
    """Hash every n-gram by doubling: h_2k[i] = mix(h_k[i] * c + h_k[i + k]), so log2(n) passes."""
    hashed = _mix(tokens.astype(np.uint64))
    length = 1
    while length < n:
        # The multiplier only has to be odd and large, so that order matters; this is 2**64 / phi.
        hashed = _mix(hashed[:-length] * np.uint64(0x9E3779B97F4A7C15) + hashed[length:])
        length *= 2
    return hashed


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The SplitMix64 step (Steele, Lea, Flood 2014): a bijection that flips half of the bits."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
