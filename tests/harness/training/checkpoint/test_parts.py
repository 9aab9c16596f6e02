"""Ranges of tensors to files and back, whoever held what."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from harness.training.checkpoint.parts import LabelledRange, LogicalTensors, write_part
from optimizers.state import share_writing

Ranges = list[tuple[int, int]]


@st.composite
def held(draw: st.DrawFn, numel: int, workers: int) -> list[Ranges]:
    """Which ranges of a tensor each worker keeps: all of it, or some cuts of it in any order."""
    if draw(st.booleans()):
        return [[(0, numel)] for _ in range(workers)]
    inner = draw(st.lists(st.integers(0, numel), max_size=5))
    cuts = sorted({0, numel, *inner})
    ranges: list[Ranges] = [[] for _ in range(workers)]
    for piece in itertools.pairwise(cuts):
        ranges[draw(st.integers(0, workers - 1))].append(piece)
    return ranges


@st.composite
def tensors_and_layout(draw: st.DrawFn) -> tuple[dict[str, Tensor], dict[str, list[Ranges]], int]:
    workers = draw(st.integers(1, 4))
    dtypes = (torch.float32, torch.bfloat16, torch.float64)
    tensors, layout = {}, {}
    for index in range(draw(st.integers(1, 5))):
        numel = draw(st.integers(1, 40))
        tensors[f"w{index}"] = torch.randn(numel).to(draw(st.sampled_from(dtypes)))
        layout[f"w{index}"] = draw(held(numel, workers))
    return tensors, layout, workers


@settings(max_examples=60, deadline=None)
@given(tensors_and_layout(), st.data())
def test_every_range_comes_back_whoever_wrote_it(
    made: tuple[dict[str, Tensor], dict[str, list[Ranges]], int], data: st.DataObject
) -> None:
    tensors, layout, workers = made
    answers = share_writing({(n, None): ranges for n, ranges in layout.items()}, workers=workers)
    counted = {
        name: torch.zeros(len(tensor), dtype=torch.int64) for name, tensor in tensors.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{worker}.safetensors" for worker in range(workers)]
        for worker, path in enumerate(files):
            mine = [
                LabelledRange(f"weights/{name}", start, stop, tensors[name][start:stop])
                for (name, _), ranges in answers.items()
                for start, stop in ranges[worker]
            ]
            size, _ = write_part(path, mine)
            assert size == path.stat().st_size
            for each in mine:
                counted[each.label.removeprefix("weights/")][each.start : each.stop] += 1
        assert all(bool((times == 1).all()) for times in counted.values())
        read = LogicalTensors(files)
        for name, tensor in tensors.items():
            assert torch.equal(read.read(f"weights/{name}"), tensor)
            start = data.draw(st.integers(0, len(tensor)))
            stop = data.draw(st.integers(start, len(tensor)))
            if start < stop:
                assert torch.equal(read.read(f"weights/{name}", (start, stop)), tensor[start:stop])


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 8))
def test_what_all_hold_is_written_by_all_of_them(sizes: list[int], workers: int) -> None:
    tensors = {(f"w{i}", None): [[(0, size)]] * workers for i, size in enumerate(sizes)}
    answers = share_writing(tensors, workers=workers)
    loads = [0] * workers
    for ranges in answers.values():
        for worker, held_here in enumerate(ranges):
            loads[worker] += sum(stop - start for start, stop in held_here)
    assert sum(loads) == sum(sizes)
    assert max(loads) <= sum(sizes) / workers + max(sizes)


def test_the_file_is_one_that_safetensors_itself_reads(tmp_path: Path) -> None:
    """Also views, odd lengths and dtypes of other widths."""
    whole = torch.arange(24.0).view(4, 6)
    odd = torch.arange(5, dtype=torch.uint8)
    half = torch.arange(3).to(torch.bfloat16)
    ranges = [
        LabelledRange("odd", 0, 5, odd),
        LabelledRange("half", 7, 10, half),
        LabelledRange("column", 0, 4, whole[:, 1]),
    ]
    write_part(tmp_path / "part.safetensors", ranges)
    read = load_file(tmp_path / "part.safetensors")
    assert set(read) == {"odd/0-5", "half/7-10", "column/0-4"}
    assert torch.equal(read["odd/0-5"], odd)
    assert torch.equal(read["half/7-10"], half)
    assert torch.equal(read["column/0-4"], whole[:, 1])


def test_a_range_that_nobody_wrote_is_an_error(tmp_path: Path) -> None:
    ranges = [LabelledRange("w", 0, 2, torch.ones(2)), LabelledRange("w", 3, 5, torch.ones(2))]
    write_part(tmp_path / "part.safetensors", ranges)
    tensors = LogicalTensors([tmp_path / "part.safetensors"])
    with pytest.raises(KeyError, match="w has no element 2 of 5"):
        tensors.read("w")
