"""Byte-level BPE trained on the training documents, or a pretrained tokenizer.

Only the build imports this module: `tokenizers` and `transformers` stay out of the workers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from harness.data.config import DataConfig
from harness.errors import UserError

END_OF_TEXT = "<|endoftext|>"

# What widely used tokenizers call the token between documents; for a bare tokenizer.json only,
# which does not say which of its tokens that is.
_END_OF_TEXT_NAMES = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>")


@dataclass(frozen=True, kw_only=True)
class TextTokenizer:
    """A tokenizer and the id of the token that ends every document."""

    tokenizer: Tokenizer
    end_of_text_id: int
    origin: str

    @property
    def vocab_size(self) -> int:
        """One more than the largest id: pretrained vocabularies may have holes."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def json(self) -> str:
        return self.tokenizer.to_str()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.json.encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        """The tokens of every text, the end-of-text token last; on all cores.

        A text that spells the end-of-text token is encoded as the characters that it is.
        """
        encodings = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array([*e.ids, self.end_of_text_id], dtype=np.int64) for e in encodings]


def train_bpe(texts: Iterable[str], *, vocab_size: int) -> TextTokenizer:
    """Byte-level BPE (Radford et al. 2019, GPT-2) of at most `vocab_size` tokens.

    Deterministic: merges are ordered by count, then by the ids of the pair. Any text can be
    encoded, since all 256 bytes are in the vocabulary. Id 0 is the end-of-text token.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _ready(tokenizer, end_of_text=END_OF_TEXT, origin="byte-level BPE trained here")


def load_pretrained(config: DataConfig) -> TextTokenizer:
    """The tokenizer that `config.tokenizer` names: a tokenizer.json, a folder or a hub name.

    Raises `UserError` when it cannot be loaded or has no end-of-text token.
    """
    name = config.tokenizer
    try:
        if Path(name).is_file():
            tokenizer = Tokenizer.from_file(name)
            known = tokenizer.get_vocab(with_added_tokens=True)
            end_of_text = next((t for t in _END_OF_TEXT_NAMES if t in known), None)
        else:
            tokenizer, end_of_text = _load_with_transformers(name, config.tokenizer_revision)
    except Exception as error:  # as many kinds as loaders: I/O, hub, JSON, missing backends
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"cannot load the tokenizer {name!r} ({reason}): give a tokenizer.json, a folder or "
            "a name on the hub, or tokenizer = 'bpe' to train one here"
        ) from error
    if end_of_text is None:
        raise UserError(
            f"the tokenizer {name!r} has no end-of-text token (looked for its eos_token, for "
            f"{', '.join(_END_OF_TEXT_NAMES)}): documents could not be told apart"
        )
    return _ready(tokenizer, end_of_text=end_of_text, origin=f"pretrained: {name}")


def _load_with_transformers(name: str, revision: str | None) -> tuple[Tokenizer, str | None]:
    from transformers import AutoTokenizer

    pretrained = AutoTokenizer.from_pretrained(name, revision=revision or "main", use_fast=True)
    return pretrained.backend_tokenizer, pretrained.eos_token


def _ready(tokenizer: Tokenizer, *, end_of_text: str, origin: str) -> TextTokenizer:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # a document that spells a special token is only text
    end_of_text_id = tokenizer.token_to_id(end_of_text)
    assert end_of_text_id is not None, f"{end_of_text} is not in the vocabulary"
    return TextTokenizer(tokenizer=tokenizer, end_of_text_id=end_of_text_id, origin=origin)
