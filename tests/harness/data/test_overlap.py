import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.data import overlap
from harness.data.overlap import count_overlap

END = 0


def _by_brute_force(train: list[int], validation: list[int], n: int) -> tuple[int, int]:
    def ngrams(tokens: list[int]) -> list[tuple[int, ...]]:
        return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]

    in_training = set(ngrams(train))
    within = [ngram for ngram in ngrams(validation) if END not in ngram]
    return len(within), sum(ngram in in_training for ngram in within)


def _tokens(values: list[int]) -> NDArray[np.unsignedinteger]:
    return np.array(values, dtype="<u2")


# Four different tokens: short n-grams occur again and again, also across document ends.
streams = st.lists(st.integers(0, 3), max_size=120)


@settings(max_examples=150, deadline=None)
@given(streams, streams, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 7, 1 << 22]))
def test_the_count_is_that_of_brute_force(
    train: list[int], validation: list[int], n: int, chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlap, "_CHUNK", chunk)
        counted = count_overlap(_tokens(train), _tokens(validation), end_of_text_id=END, n=n)
    assert (counted.ngrams, counted.seen) == _by_brute_force(train, validation, n)


def test_a_licence_of_fifty_tokens_in_both_is_nineteen_shared_32_grams() -> None:
    draw = np.random.default_rng(0)
    licence = list(range(1, 51))
    train, validation = (
        [*draw.integers(1000, 60_000, size=500).tolist(), END, *licence, END] for _ in range(2)
    )
    counted = count_overlap(_tokens(train), _tokens(validation), end_of_text_id=END)
    assert (counted.n, counted.seen) == (32, 50 - 32 + 1)
    assert (counted.ngrams, counted.seen) == _by_brute_force(train, validation, 32)
    assert counted.share == counted.seen / counted.ngrams


def test_documents_shorter_than_an_ngram_share_nothing() -> None:
    tokens = _tokens([1, 2, 3, END] * 40)
    counted = count_overlap(tokens, tokens, end_of_text_id=END)
    assert (counted.ngrams, counted.seen, counted.share) == (0, 0, 0.0)


def test_the_order_of_the_tokens_counts() -> None:
    forward = _tokens(list(range(1, 33)))
    counted = count_overlap(forward[::-1].copy(), forward, end_of_text_id=END)
    assert (counted.ngrams, counted.seen) == (1, 0)


def test_a_million_ngrams_that_differ_have_hashes_that_differ() -> None:
    tokens = np.random.default_rng(1).integers(1, 5, size=1_000_000).astype("<u2")
    hashes = overlap.hash_ngrams(tokens, n=32)  # 4**32 possible n-grams: all differ
    assert len(np.unique(hashes)) == len(hashes)
