import hashlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from harness.data import DataManifest, TokenDataset
from harness.data.build import is_validation
from harness.data.dataset import TOKENIZER_FILE, TRAIN_FILE, VALIDATION_FILE
from harness.errors import UserError

Build = Callable[..., TokenDataset]
Texts = Callable[..., list[str]]


def _stored_texts(dataset: TokenDataset, name: str) -> list[str]:
    """The documents of one split, read back from its token file."""
    tokenizer = Tokenizer.from_file(str(dataset.path / TOKENIZER_FILE))
    tokens = np.fromfile(dataset.path / name, dtype=dataset.manifest.dtype)
    ends = np.flatnonzero(tokens == dataset.manifest.end_of_text_id)
    return [tokenizer.decode(part.tolist()) for part in np.split(tokens, ends + 1)[:-1]]


def _side(text: str, fraction: float = 0.3) -> bool:
    digest = hashlib.sha256(text.encode()).digest()
    return is_validation(digest, validation_fraction=fraction)


def _order_sha256(texts: list[str]) -> str:
    digests = [hashlib.sha256(text.encode()).digest() for text in texts]
    return hashlib.sha256(b"".join(digests)).hexdigest()


@settings(max_examples=30, deadline=None)
@given(extra=st.lists(st.integers(0, 39), max_size=60))
def test_duplicates_fall_on_one_side_and_every_document_is_kept(
    build_texts: Build, make_texts: Texts, extra: list[int]
) -> None:
    distinct = make_texts(40)
    texts = distinct + [distinct[i] for i in extra]
    dataset = build_texts(texts)
    train, validation = (_stored_texts(dataset, name) for name in (TRAIN_FILE, VALIDATION_FILE))
    assert set(train) & set(validation) == set()
    assert Counter(train + validation) == Counter(texts)
    assert dataset.manifest.duplicate_documents == len(extra)
    assert dataset.manifest.train.documents == len(train)
    assert dataset.manifest.validation.documents == len(validation)


def test_the_side_of_a_document_does_not_depend_on_the_others(
    build_texts: Build, make_texts: Texts
) -> None:
    texts = make_texts(60)
    alone, among = build_texts(texts[20:]), build_texts(texts[::-1])
    held_out = set(_stored_texts(alone, VALIDATION_FILE))
    assert held_out == set(_stored_texts(among, VALIDATION_FILE)) & set(texts[20:])


def test_the_held_out_share_of_documents_is_the_one_asked_for(make_texts: Texts) -> None:
    sides = [_side(text, 0.2) for text in make_texts(5000, words=2)]
    assert abs(np.mean(sides) - 0.2) < 0.02  # 3.5 standard deviations


@settings(max_examples=20, deadline=None)
@given(sequence_length=st.integers(1, 40))
def test_windows_never_overlap_and_leave_out_only_an_incomplete_last_one(
    build_texts: Build, make_texts: Texts, sequence_length: int
) -> None:
    dataset = build_texts(make_texts(30), sequence_length=sequence_length)
    for name, count, windows in (
        (TRAIN_FILE, dataset.num_train_windows, dataset.train_windows),
        (VALIDATION_FILE, dataset.num_validation_windows, dataset.validation_windows),
    ):
        tokens = np.fromfile(dataset.path / name, dtype=dataset.manifest.dtype)
        joined = windows(np.arange(count)).ravel()
        np.testing.assert_array_equal(joined, tokens[: len(joined)])
        assert len(tokens) - len(joined) <= sequence_length


def test_windows_are_copies_of_64_bit_integers(build_texts: Build, make_texts: Texts) -> None:
    dataset = build_texts(make_texts(30))
    windows = dataset.train_windows([3, 0, 3])
    assert (windows.shape, windows.dtype) == ((3, 9), np.int64)
    np.testing.assert_array_equal(windows[0], windows[2])
    windows[:] = 0
    assert dataset.train_windows([3]).any()


@pytest.mark.parametrize("index", [-1, 10_000])
def test_a_window_that_is_not_there_is_refused(
    build_texts: Build, make_texts: Texts, index: int
) -> None:
    dataset = build_texts(make_texts(30))
    with pytest.raises(IndexError, match="there are 0 to"):
        dataset.validation_windows([0, index])


def test_validation_text_never_shapes_the_tokenizer(build_texts: Build, make_texts: Texts) -> None:
    train = [text for text in make_texts(60) if not _side(text)]
    one, other = ([text for text in make_texts(60, seed=seed) if _side(text)] for seed in (1, 2))
    assert (
        build_texts(one + train).manifest.tokenizer_sha256
        == build_texts(other + train).manifest.tokenizer_sha256
        != build_texts(one + train[1:]).manifest.tokenizer_sha256
    )


def test_the_tokenizer_sees_only_the_bytes_that_it_may(
    build_texts: Build, make_texts: Texts
) -> None:
    first, *others = [text for text in make_texts(60) if not _side(text)]
    start = others[0][:10]
    changed = [start + text for text in make_texts(60, seed=7) if not _side(start + text)]
    held_out = [text for text in make_texts(60) if _side(text)]
    one, other = ([first, *held_out, *rest] for rest in (others, changed))
    limits = {"tokenizer_training_bytes": len(first.encode()) + len(start)}
    assert (
        build_texts(one, **limits).manifest.tokenizer_sha256
        == build_texts(other, **limits).manifest.tokenizer_sha256
    )
    limits = {"tokenizer_training_bytes": len(first.encode()) + 2 * len(start)}
    assert (
        build_texts(one, **limits).manifest.tokenizer_sha256
        != build_texts(other, **limits).manifest.tokenizer_sha256
    )


def test_documents_are_counted_up_to_the_limit(build_texts: Build, make_texts: Texts) -> None:
    manifest = build_texts(["", *make_texts(60), " "], max_documents=20).manifest
    assert manifest.train.documents + manifest.validation.documents == 20
    assert manifest.empty_documents == 1  # the last one was never read


def test_tokens_stop_at_the_document_that_reaches_the_limit(
    build_texts: Build, make_texts: Texts
) -> None:
    texts = make_texts(60)
    whole = build_texts(texts)
    limited = build_texts(texts, max_tokens=1500)
    total = limited.manifest.train.tokens + limited.manifest.validation.tokens
    stored = _stored_texts(limited, TRAIN_FILE) + _stored_texts(limited, VALIDATION_FILE)
    assert set(stored) == set(texts[: len(stored)])
    assert limited.manifest.documents_sha256 == _order_sha256(texts[: len(stored)])
    assert 1500 <= total < 1500 + max(whole.manifest.train.tokens // 10, 200)


def test_building_twice_gives_the_same_manifest(build_texts: Build, make_texts: Texts) -> None:
    first, second = build_texts(make_texts(60)), build_texts(make_texts(60))
    assert first.manifest == second.manifest
    assert first.manifest.sha256 == second.manifest.sha256


def test_the_identity_follows_the_windows_and_not_where_they_came_from(
    build_texts: Build, make_texts: Texts
) -> None:
    texts = make_texts(60)
    manifest = build_texts(texts).manifest
    assert manifest.model_copy(update={"source": "elsewhere"}).sha256 == manifest.sha256
    assert build_texts(texts[::-1]).manifest.sha256 != manifest.sha256
    assert build_texts(texts, sequence_length=9).manifest.sha256 != manifest.sha256


def test_the_manifest_survives_a_round_trip_through_json(
    build_texts: Build, make_texts: Texts
) -> None:
    manifest = build_texts(make_texts(60)).manifest
    assert DataManifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_overlap_is_counted_in_the_built_dataset(build_texts: Build, make_texts: Texts) -> None:
    texts = make_texts(60)
    assert build_texts(texts, vocab_size=257).manifest.overlap.share < 0.5
    licence = " Permission is hereby granted, free of charge, to any person obtaining a copy. " * 4
    with_licence = [text + licence for text in texts]
    assert build_texts(with_licence, vocab_size=257).manifest.overlap.share > 0.5


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], r"0 documents gave 0 training and 0 validation"),
        (["", "  \n"], r"0 documents gave"),
        (["a few words"], r"1 documents gave \d+ training and \d+ validation tokens"),
    ],
)
def test_an_empty_or_tiny_corpus_is_an_error_with_numbers(
    build_texts: Build, texts: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_texts(texts)


def test_leaked_windows_are_cut_from_the_training_tokens_and_the_same_for_everybody(
    build_texts: Build, make_texts: Texts
) -> None:
    dataset = build_texts(make_texts(60))
    tokens = np.fromfile(dataset.path / TRAIN_FILE, dtype=dataset.manifest.dtype)
    places = np.lib.stride_tricks.sliding_window_view(tokens, dataset.sequence_length + 1)
    windows = dataset.leaked_windows(np.arange(40))
    assert windows.shape == (40, dataset.sequence_length + 1)
    assert all((places == window).all(axis=1).any() for window in windows)
    # A worker that takes a share of them takes the same ones.
    np.testing.assert_array_equal(dataset.leaked_windows([7, 3]), windows[[7, 3]])
    starts = {int((places == window).all(axis=1).argmax()) for window in windows}
    assert len(starts) > 30
    assert any(start % (dataset.sequence_length + 1) for start in starts)
