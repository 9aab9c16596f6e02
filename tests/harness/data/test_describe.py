import json
from collections.abc import Callable

from rich.console import Console

from harness.data import TokenDataset, describe
from harness.report.terminal.data import render_data


def test_the_description_is_json_with_every_count(
    build_texts: Callable[..., TokenDataset], make_texts: Callable[..., list[str]]
) -> None:
    dataset = build_texts(make_texts(60))
    described = json.loads(json.dumps(describe(dataset)))
    assert described["path"] == str(dataset.path)
    assert described["sha256"] == dataset.manifest.sha256
    assert described["train"]["windows"] == dataset.num_train_windows
    assert described["overlap"]["share"] == dataset.manifest.overlap.share
    assert described["config"]["sequence_length"] == 8


def test_the_table_shows_documents_tokens_windows_and_overlap(
    build_texts: Callable[..., TokenDataset], make_texts: Callable[..., list[str]]
) -> None:
    dataset = build_texts(make_texts(60))
    console = Console(width=200)
    with console.capture() as capture:
        console.print(render_data(dataset))
    shown = capture.get()
    manifest = dataset.manifest
    for split in (manifest.train, manifest.validation):
        for figure in (split.documents, split.tokens, split.windows):
            assert f"{figure:,}" in shown
    assert f"{manifest.overlap.share:.2%}" in shown
    assert str(dataset.path) in shown
    assert manifest.sha256 in shown
