from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from harness.data import DataConfig, TokenDataset
from harness.data.tokenizer import END_OF_TEXT, TextTokenizer, load_pretrained, train_bpe
from harness.errors import UserError

Texts = Callable[..., list[str]]


@pytest.fixture(scope="module")
def trained(make_texts: Texts) -> TextTokenizer:
    return train_bpe(make_texts(50), vocab_size=300)


@settings(max_examples=50, deadline=None)
@given(text=st.text())
def test_any_text_comes_back_from_its_tokens(trained: TextTokenizer, text: str) -> None:
    [tokens] = trained.encode([text])
    assert trained.tokenizer.decode(tokens[:-1].tolist(), skip_special_tokens=False) == text


def test_the_end_of_text_token_ends_every_document_and_nothing_else(
    trained: TextTokenizer,
) -> None:
    [tokens] = trained.encode([f"a document that spells {END_OF_TEXT} in its text"])
    assert (tokens == trained.end_of_text_id).nonzero()[0].tolist() == [len(tokens) - 1]


def test_training_twice_gives_one_tokenizer(trained: TextTokenizer, make_texts: Texts) -> None:
    assert train_bpe(make_texts(50), vocab_size=300).sha256 == trained.sha256
    assert train_bpe(make_texts(51), vocab_size=300).sha256 != trained.sha256


def test_the_vocabulary_holds_no_more_than_asked_for(trained: TextTokenizer) -> None:
    assert trained.vocab_size == 300


def test_a_pretrained_tokenizer_is_read_from_a_file(
    trained: TextTokenizer, tmp_path: Path, make_texts: Texts
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(trained.json)
    loaded = load_pretrained(DataConfig(tokenizer=str(path)))
    assert loaded.sha256 == trained.sha256
    assert loaded.end_of_text_id == trained.end_of_text_id


def test_a_pretrained_tokenizer_is_read_from_a_folder_with_its_own_end_of_text(
    trained: TextTokenizer, tmp_path: Path
) -> None:
    wrapped = PreTrainedTokenizerFast(tokenizer_object=trained.tokenizer, eos_token="<stop>")
    wrapped.save_pretrained(tmp_path)
    loaded = load_pretrained(DataConfig(tokenizer=str(tmp_path)))
    assert loaded.tokenizer.id_to_token(loaded.end_of_text_id) == "<stop>"
    assert loaded.vocab_size == trained.vocab_size + 1


def _word_tokenizer(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def test_a_tokenizer_without_an_end_of_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    _word_tokenizer({"?": 0}).save(str(path))
    with pytest.raises(UserError, match="no end-of-text token"):
        load_pretrained(DataConfig(tokenizer=str(path)))


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_tokenizer_that_cannot_be_loaded_is_one_clear_error(
    content: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match="cannot load the tokenizer"):
        load_pretrained(DataConfig(tokenizer=str(path)))


def test_a_large_vocabulary_is_stored_in_four_bytes_a_token(
    tmp_path: Path, make_texts: Texts, build_texts: Callable[..., TokenDataset]
) -> None:
    path = tmp_path / "tokenizer.json"
    words = sorted({word for text in make_texts(50) for word in text.split()})
    large = {word: 70_000 + i for i, word in enumerate(words)}
    _word_tokenizer({"?": 0, "</s>": 1, **large}).save(str(path))
    dataset = build_texts(make_texts(50), tokenizer=str(path))
    assert dataset.manifest.dtype == "<u4"
    assert dataset.vocab_size == 70_000 + len(words)
    assert dataset.train_windows([0]).max() >= 70_000
