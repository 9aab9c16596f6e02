"""The `[data]` section of a study: which text, which tokenizer, which windows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.data.registry import SOURCES

if TYPE_CHECKING:
    SourceName = str
else:
    # Built from the registry, so that one registry line is enough to add a source.
    SourceName = Literal[tuple(SOURCES)]

TRAINED_BPE = "bpe"

# 256 bytes and the end-of-text token: a byte-level vocabulary cannot be smaller.
SMALLEST_BPE_VOCABULARY = 257

# The commit of huggingface.co/datasets/HuggingFaceTB/smollm-corpus that holds cosmopedia-v2.
PRESETS: dict[str, dict[str, str]] = {
    "cosmopedia-v2": {
        "source": "hub",
        "dataset": "HuggingFaceTB/smollm-corpus",
        "subset": "cosmopedia-v2",
        "split": "train",
        "revision": "3ba9d605774198c5868892d7a8deda78031a781f",
        "text_column": "text",
    },
}

# Their settings are fields of the section.
_WITHOUT_OPTIONS = ("stdlib", "files", "hub")

_COMMIT = re.compile(r"[0-9a-f]{40}")


class DataConfig(BaseModel):
    """Which documents a study reads and how they become windows of tokens.

    `stdlib` reads the Python standard library's own source and documentation, `files` reads
    local files, `hub` streams a dataset of the Hugging Face hub in order. Documents are split by
    the hash of their content, never windows, so a text is either training or validation text.

    Raises a pydantic `ValidationError` that names every mistake of the section at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: SourceName = Field(
        "stdlib",
        description="Where documents come from: the Python standard library, local files, a "
        "dataset of the Hugging Face hub, or a source that was added to the registry",
    )
    files: tuple[str, ...] = Field(
        (),
        description="Glob patterns of the files to read, relative to the current folder, `**` "
        "allowed; .txt, .md, .rst, .json, .jsonl or .parquet (source = 'files')",
    )
    sample_by: Literal["document", "paragraph", "line"] = Field(
        "document",
        description="What one document is in a plain text file: the whole file, a paragraph "
        "(separated by empty lines) or a line (source = 'files')",
    )
    text_column: str = Field(
        "text",
        min_length=1,
        description="Column that holds the text in jsonl, parquet and hub rows",
    )
    preset: str | None = Field(
        None, description=f"Fills the hub fields from a named dataset: {', '.join(PRESETS)}"
    )
    dataset: str | None = Field(
        None, description="Dataset on the hub, for example 'HuggingFaceTB/smollm-corpus'"
    )
    subset: str | None = Field(None, description="Configuration of the hub dataset")
    split: str = Field("train", min_length=1, description="Split of the hub dataset to stream")
    revision: str | None = Field(
        None,
        description="Commit of the hub dataset (40 hexadecimal digits): branches and tags move, "
        "a commit does not",
    )
    options: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        # Absent where it is empty, so that it changes no hash of a study that has none.
        exclude_if=lambda options: not options,
        description="Settings of a source that was added to the registry, which checks them",
    )
    max_documents: int | None = Field(
        None, ge=2, description="Read at most this many documents, in order; all when absent"
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        description="Stop after the document that reaches this many tokens, training and "
        "validation together; no limit when absent",
    )
    tokenizer: str = Field(
        TRAINED_BPE,
        min_length=1,
        description="'bpe' trains a byte-level BPE on the training documents; anything else is a "
        "pretrained tokenizer: a tokenizer.json, a folder, or a name on the hub",
    )
    tokenizer_revision: str | None = Field(
        None, description="Commit of a pretrained tokenizer that is loaded from the hub"
    )
    vocab_size: int = Field(
        4096,
        ge=SMALLEST_BPE_VOCABULARY,
        description="Tokens in the vocabulary of the BPE trained here, bytes and end-of-text "
        "included; a small corpus may yield fewer",
    )
    tokenizer_training_bytes: int = Field(
        16_000_000,
        ge=1,
        description="Bytes of training text, from the first document on, that the BPE is trained "
        "on; the whole standard library fits",
    )
    sequence_length: int = Field(
        128, ge=1, description="Tokens predicted per window; a window holds one token more"
    )
    validation_fraction: float = Field(
        0.1,
        gt=0,
        le=0.5,
        description="Share of the distinct documents (not of the tokens) held out for validation",
    )

    leaked_windows: int = Field(
        0,
        ge=0,
        # Absent where it is 0, so that it changes no hash of a study that has none.
        exclude_if=lambda count: count == 0,
        description="Windows of the training text, cut at random places, on which every evaluation "
        "measures a second loss, the leaked one: what a split of overlapping windows at random "
        "would have called validation. It is none, and decides nothing; 0: not measured",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("preset") is None:
            return values
        name = values["preset"]
        if name not in PRESETS:
            raise ValueError(f"preset is {name!r}: choose one of {', '.join(PRESETS)}")
        preset = PRESETS[name]
        for key, value in preset.items():
            if values.get(key, value) != value:
                raise ValueError(
                    f"{key} is {values[key]!r}, but preset {name!r} sets it to {value!r}: remove "
                    f"one of the two"
                )
        return {**values, **preset}

    @model_validator(mode="after")
    def _fields_fit_the_source(self) -> DataConfig:
        problems = [*self._files_problems(), *self._hub_problems()]
        if self.options and self.source in _WITHOUT_OPTIONS:
            problems.append(f"options is set but source {self.source!r} has none: remove it")
        if self.tokenizer == TRAINED_BPE and self.tokenizer_revision is not None:
            problems.append("tokenizer_revision is set, but tokenizer = 'bpe' is trained here")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _files_problems(self) -> list[str]:
        if self.source == "files" and not self.files:
            return ["source is 'files' but files is empty: give glob patterns, files = ['*.jsonl']"]
        if self.source != "files" and self.files:
            return [f"files is set but source is {self.source!r}: write source = 'files'"]
        return []

    def _hub_problems(self) -> list[str]:
        if self.source != "hub":
            given = [n for n in ("dataset", "subset", "revision") if getattr(self, n) is not None]
            return [
                f"{n} is set but source is {self.source!r}: write source = 'hub'" for n in given
            ]
        problems = []
        if self.dataset is None:
            problems.append(
                "source is 'hub' but dataset is missing: name one, or write "
                f"preset = '{next(iter(PRESETS))}'"
            )
        if self.revision is None or not _COMMIT.fullmatch(self.revision):
            problems.append(
                f"revision is {self.revision!r}: a hub dataset is pinned to a commit of 40 "
                "hexadecimal digits (see the dataset's history on the hub)"
            )
        if self.max_documents is None and self.max_tokens is None:
            problems.append(
                "source is 'hub' without a limit: set max_tokens or max_documents, a hub dataset "
                "may hold billions of tokens"
            )
        return problems
