"""Read, split, tokenise and count: documents become the files of one data folder.

One pass over the documents, in order, with bounded memory: only the head of the stream, which the
tokenizer is trained on, is held.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.config import TRAINED_BPE, DataConfig
from harness.data.dataset import (
    MANIFEST_FILE,
    TOKENIZER_FILE,
    TRAIN_FILE,
    VALIDATION_FILE,
    open_dataset,
)
from harness.data.manifest import DataManifest, SplitManifest
from harness.data.overlap import count_overlap
from harness.data.sources import Source
from harness.data.tokenizer import TextTokenizer, load_pretrained, train_bpe
from harness.errors import UserError

Progress = Callable[[str], None]

_ENCODE_BYTES = 4_000_000  # text handed to the tokenizer at a time: enough for all cores
_REPORT_TOKENS = 10_000_000  # between two lines of progress


class Document(NamedTuple):
    text: str  # empty when it holds nothing but white space
    size: int  # UTF-8 bytes
    sha256: bytes
    is_validation: bool


def is_validation(content_sha256: bytes, *, validation_fraction: float) -> bool:
    """The side of a document, from the hash of its exact bytes alone.

    The hash is uniform, so about `validation_fraction` of the distinct documents are held out, and
    equal documents always fall on one side.
    """
    return int.from_bytes(content_sha256[:8], "big") < validation_fraction * 2**64


def build(config: DataConfig, source: Source, *, directory: Path, progress: Progress) -> None:
    """Write the data folder of `config` into `directory`, which must be empty, and verify it.

    Raises `UserError` when the source cannot be read or holds too little text.
    """
    tokenizer, documents = _with_tokenizer(_read(source, config), config, progress)
    (directory / TOKENIZER_FILE).write_text(tokenizer.json, encoding="utf-8", newline="")

    progress(f"tokenising {source.name} into {tokenizer.vocab_size} tokens")
    dtype: Literal["<u2", "<u4"] = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
    train = _TokenWriter(directory / TRAIN_FILE, dtype)
    validation = _TokenWriter(directory / VALIDATION_FILE, dtype)
    with train, validation:
        census = _write(documents, tokenizer, train, validation, config=config, progress=progress)
    window = config.sequence_length + 1
    if train.tokens < window or validation.tokens < window:
        raise _too_little(config, source, train, validation)

    progress("counting validation text that also stands in the training text")
    overlap = count_overlap(
        train.read(), validation.read(), end_of_text_id=tokenizer.end_of_text_id
    )
    manifest = DataManifest(
        source=source.name,
        revision=source.revision,
        documents_sha256=census.order_sha256.hexdigest(),
        duplicate_documents=census.duplicates,
        empty_documents=census.empty,
        tokenizer=tokenizer.origin,
        tokenizer_sha256=tokenizer.sha256,
        vocab_size=tokenizer.vocab_size,
        end_of_text_id=tokenizer.end_of_text_id,
        dtype=dtype,
        sequence_length=config.sequence_length,
        train=train.manifest(window=window),
        validation=validation.manifest(window=window),
        overlap=overlap,
        config=config,
    )
    (directory / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    open_dataset(directory).verify()


def _read(source: Source, config: DataConfig) -> Iterator[Document]:
    count = 0
    for text in source.documents():
        content = text.encode() if text.strip() else b""
        digest = hashlib.sha256(content).digest()
        side = is_validation(digest, validation_fraction=config.validation_fraction)
        yield Document(text if content else "", len(content), digest, side)
        count += bool(content)
        if count == config.max_documents:
            return


class _Census:
    """What the documents that are written were like, in order."""

    def __init__(self) -> None:
        self.empty = 0
        self.duplicates = 0
        self.order_sha256 = hashlib.sha256()
        self._seen: set[bytes] = set()

    def add(self, document: Document) -> None:
        self.duplicates += document.sha256 in self._seen
        self._seen.add(document.sha256)
        self.order_sha256.update(document.sha256)


def _with_tokenizer(
    documents: Iterator[Document], config: DataConfig, progress: Progress
) -> tuple[TextTokenizer, Iterator[Document]]:
    """The tokenizer, and all documents: those it was trained on again before the rest."""
    if config.tokenizer != TRAINED_BPE:
        return load_pretrained(config), documents
    progress("reading the documents that the tokenizer is trained on")
    head = list(_head(documents, config.tokenizer_training_bytes))
    sample = _training_sample(head, config.tokenizer_training_bytes)
    progress(f"training a byte-level BPE on {sum(map(len, sample)) / 1e6:.1f} M characters")
    return train_bpe(sample, vocab_size=config.vocab_size), chain(head, documents)


def _head(documents: Iterator[Document], training_bytes: int) -> Iterator[Document]:
    """The first documents, until they hold `training_bytes` of training text."""
    for document in documents:
        yield document
        if not document.is_validation:
            training_bytes -= document.size
        if training_bytes <= 0:
            return


def _training_sample(head: Iterable[Document], training_bytes: int) -> list[str]:
    """Training text only, the last document cut: validation text never shapes the tokenizer."""
    sample = []
    for document in head:
        if document.text and not document.is_validation:
            kept = document.text.encode()[:training_bytes].decode("utf-8", errors="ignore")
            training_bytes -= document.size
            sample.append(kept)
    return sample


def _write(
    documents: Iterator[Document],
    tokenizer: TextTokenizer,
    train: _TokenWriter,
    validation: _TokenWriter,
    *,
    config: DataConfig,
    progress: Progress,
) -> _Census:
    census = _Census()
    total = 0
    for group in _groups(documents):
        encoded = tokenizer.encode([document.text for document in group])
        for document, tokens in zip(group, encoded, strict=True):
            if not document.text:
                census.empty += 1
                continue
            census.add(document)
            (validation if document.is_validation else train).append(document, tokens)
            before, total = total, total + len(tokens)
            if before // _REPORT_TOKENS < total // _REPORT_TOKENS:
                progress(f"{total / 1e6:.0f} M tokens")
            if config.max_tokens is not None and total >= config.max_tokens:
                return census
    return census


def _groups(documents: Iterator[Document]) -> Iterator[list[Document]]:
    group: list[Document] = []
    size = 0
    for document in documents:
        group.append(document)
        size += document.size
        if size >= _ENCODE_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


class _TokenWriter:
    """Appends the tokens of one split to its file, hashing and counting."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.documents = 0
        self.tokens = 0
        self._path = path
        self._dtype = np.dtype(dtype)
        self._text_bytes = 0
        self._sha256 = hashlib.sha256()

    def __enter__(self) -> _TokenWriter:
        self._file = open(self._path, "wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, document: Document, tokens: NDArray[np.int64]) -> None:
        raw = tokens.astype(self._dtype).tobytes()
        self._file.write(raw)
        self._sha256.update(raw)
        self.documents += 1
        self._text_bytes += document.size
        self.tokens += len(tokens)

    def read(self) -> NDArray[np.unsignedinteger]:
        return np.memmap(self._path, dtype=self._dtype, mode="r")

    def manifest(self, *, window: int) -> SplitManifest:
        return SplitManifest(
            documents=self.documents,
            text_bytes=self._text_bytes,
            tokens=self.tokens,
            windows=self.tokens // window,
            sha256=self._sha256.hexdigest(),
        )


def _too_little(
    config: DataConfig, source: Source, train: _TokenWriter, validation: _TokenWriter
) -> UserError:
    documents = train.documents + validation.documents
    return UserError(
        f"too little text in {source.name}: {documents} documents gave {train.tokens} training and "
        f"{validation.tokens} validation tokens, both need at least {config.sequence_length + 1} "
        "(sequence_length + 1): use more or smaller documents, a shorter sequence_length, or "
        f"another validation_fraction (now {config.validation_fraction:g} of the documents)"
    )
