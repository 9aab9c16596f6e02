"""What is in a built data folder, written once next to the tokens."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt

from harness.data.config import DataConfig

# Raised whenever the same configuration would give other files: old caches are then left alone.
FORMAT_VERSION: Literal[1] = 1


class SplitManifest(BaseModel):
    """One side of the split: its documents, its tokens and the file that holds them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: PositiveInt = Field(description="Documents, exact duplicates included")
    text_bytes: PositiveInt = Field(description="UTF-8 bytes of the documents")
    tokens: PositiveInt = Field(description="Tokens, one end-of-text token a document included")
    windows: PositiveInt = Field(description="Windows of sequence_length + 1 tokens")
    sha256: str = Field(description="SHA-256 of the token file")


class OverlapManifest(BaseModel):
    """How much of the validation text a model may have seen: shared n-grams of tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: PositiveInt = Field(description="Length of the n-grams, in tokens")
    ngrams: NonNegativeInt = Field(
        description="Validation n-grams, by position, inside one document"
    )
    seen: NonNegativeInt = Field(description="Those that also occur in the training tokens")

    @property
    def share(self) -> float:
        """`seen / ngrams`, or 0 when no validation document is n tokens long."""
        return self.seen / self.ngrams if self.ngrams else 0.0


class DataManifest(BaseModel):
    """Everything that identifies a built dataset. The same input gives the same manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = Field(FORMAT_VERSION, description="Layout of the folder")
    source: str = Field(description="What was read, for people")
    revision: str = Field(description="Which version of it was read")
    documents_sha256: str = Field(
        description="SHA-256 over the SHA-256 of every document, in reading order"
    )
    duplicate_documents: NonNegativeInt = Field(
        description="Documents whose exact bytes had been read before; kept, on the same side"
    )
    empty_documents: NonNegativeInt = Field(description="Documents without text, left out")
    tokenizer: str = Field(description="How the tokenizer came to be")
    tokenizer_sha256: str = Field(description="SHA-256 of tokenizer.json")
    vocab_size: PositiveInt = Field(description="Token ids are below this")
    end_of_text_id: NonNegativeInt = Field(description="Id of the token after every document")
    dtype: Literal["<u2", "<u4"] = Field(description="NumPy type of the token files")
    sequence_length: PositiveInt = Field(description="Tokens predicted per window")
    train: SplitManifest
    validation: SplitManifest
    overlap: OverlapManifest
    config: DataConfig

    @property
    def sha256(self) -> str:
        """Identity of the windows: equal exactly when every window of both splits is equal.

        Where the text came from is left out, so that two machines that tokenised the same
        documents from different folders agree.
        """
        identity = [
            self.train.sha256,
            self.validation.sha256,
            self.dtype,
            self.tokenizer_sha256,
            self.sequence_length,
        ]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
