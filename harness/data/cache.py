"""Build a data folder once, whoever asks first; everyone else opens it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.config import TRAINED_BPE, DataConfig
from harness.data.dataset import MANIFEST_FILE, TokenDataset, open_dataset
from harness.data.manifest import FORMAT_VERSION
from harness.data.new_folder import new_folder
from harness.data.sources import Source, file_entries, list_fingerprint, open_source
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.data.build import Progress

CACHE_VARIABLE = "OPTBENCH_CACHE"


def default_cache_dir() -> Path:
    """`$OPTBENCH_CACHE`, or the user's cache folder for optbench: of this host, and absolute."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("optbench")


def prepare(
    config: DataConfig, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> TokenDataset:
    """Open the windows of `config`, building them first when the cache has none.

    Safe to call from several processes at once: one builds, into a folder with a temporary name
    that is renamed when it is complete, and the others wait. A cached folder is never written to.
    Opening one imports neither `datasets` nor `tokenizers`.

    Arguments:
        cache_dir: default `default_cache_dir()`.
        progress: called with one line at every phase of a build.

    Raises `UserError` when the source cannot be read, holds too little text for one training and
    one validation window, or the cache folder cannot be written.
    """
    report = progress or (lambda line: None)
    source = open_source(config)
    root = (cache_dir or default_cache_dir()) / "data"
    final = root / f"{config.source}-{_cache_key(config, source)[:20]}"
    if not (final / MANIFEST_FILE).exists():
        _build_once(config, source, final=final, progress=report)
    return open_dataset(final)


def _cache_key(config: DataConfig, source: Source) -> str:
    """Equal exactly when a build would give the same files."""
    pretrained = Path(config.tokenizer)
    if config.tokenizer == TRAINED_BPE or not pretrained.exists():
        tokenizer_files: list[tuple[str, int, int]] = []
    else:
        files = [pretrained, *(pretrained.iterdir() if pretrained.is_dir() else ())]
        tokenizer_files = file_entries(sorted(f for f in files if f.is_file()))
    identity = {
        "format_version": FORMAT_VERSION,
        "tokenizers": version("tokenizers"),  # may train or split differently when it moves
        "tokenizer_files": list_fingerprint(tokenizer_files),
        "source": source.fingerprint,
        "config": config.model_dump(mode="json", exclude={"preset", "leaked_windows"}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _build_once(config: DataConfig, source: Source, *, final: Path, progress: Progress) -> None:
    from harness.data.build import build

    try:
        with new_folder(
            final, is_there=(final / MANIFEST_FILE).exists, waiting=_say_once(progress)
        ) as temporary:
            if temporary is not None:
                build(
                    config.model_copy(update={"leaked_windows": 0}),
                    source,
                    directory=temporary,
                    progress=progress,
                )
    except OSError as error:
        raise UserError(
            f"cannot build the data in {final.parent} ({error}): make room there, or set "
            f"{CACHE_VARIABLE} to another folder"
        ) from error


def _say_once(progress: Progress) -> Callable[[], None]:
    said: list[str] = []

    def waiting() -> None:
        if not said:
            said.append("another process is building this data; waiting for it")
            progress(said[0])

    return waiting
