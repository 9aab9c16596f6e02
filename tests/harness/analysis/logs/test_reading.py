"""One log: which lines count, in every known form."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.logs.formats import FORMATS, TRAINER_STATE, log_format
from harness.analysis.logs.reading import Point, read_log
from harness.errors import UserError

# What each program prints around a validation loss, and the points in it.
SAMPLES = {
    "nanogpt": (
        "step 0: train loss 10.8211, val loss 10.8203\n"
        "iter 0: loss 10.8200, time 312.20ms, mfu -100.00%\n"
        "step 250: train loss 3.9050, val loss 3.9121\nsaving checkpoint to out\n",
        [(0, 10.8203), (250, 3.9121)],
    ),
    "nanochat": (
        "Step 00250 | Validation bpb: 1.012345\n"
        "step 00251/21400 (1.17%) | loss: 3.1 | lrm: 1.00\nStep 00500 | Validation bpb: 0.9\n",
        [(250, 1.012345), (500, 0.9)],
    ),
    "modded-nanogpt": (
        'print0(f"step:{step}/{train_steps} val_loss:{val_loss:.4f} train_time:...")\n'
        "step:125/1390 val_loss:4.4888 train_time:7000ms step_avg:56.00ms\n"
        "step:126/1390 train_time:7056ms step_avg:56.00ms\n"
        "step:1390/1390 val_loss:3.2779 train_time:79682ms step_avg:57.33ms\n",
        [(125, 4.4888), (1390, 3.2779)],
    ),
    "llm.c": (
        "s:0 tel:11.0106\ns:0 eval:0.2468\ns:1 trl:10.9 lr:0.000001 norm:15.2\ns:250 tel:6.4619\n",
        [(0, 11.0106), (250, 6.4619)],
    ),
    "megatron": (
        " [2026-01-01 10:00:00] iteration 1000/ 2000 | lm loss: 3.1E+00 | grad norm: 0.5 |\n"
        " validation loss at iteration 1000 | lm loss value: 2.985312E+00 | lm loss PPL: 1E+01 | \n"
        " validation loss at iteration 2000 on validation set | lm loss value: 2.5E+00 | \n"
        " validation loss at iteration 2000 on test set | lm loss value: 2.9E+00 | \n",
        [(1000, 2.985312), (2000, 2.5)],
    ),
    "hf-trainer": (
        "{'loss': 3.1, 'learning_rate': 5e-05, 'epoch': 0.5}\n"
        "  50%|#####     | 5/10 [00:01<00:01]\r"
        "{'eval_loss': 2.9853, 'eval_runtime': 1.2, 'eval_steps_per_second': 8.1, 'epoch': 1.0}\n"
        "{'eval_loss': '2.5', 'eval_runtime': '1.2', 'epoch': '2'}\n",
        [(1.0, 2.9853), (2.0, 2.5)],
    ),
}


@pytest.mark.parametrize("name", [name for name in FORMATS if name != TRAINER_STATE])
def test_the_lines_of_a_known_program_are_read_and_its_others_are_not(
    name: str, tmp_path: Path
) -> None:
    text, points = SAMPLES[name]
    (path := tmp_path / "log").write_text(text)
    log = read_log(path, FORMATS[name])
    assert [(point.step, point.loss) for point in log.points] == points


def trainer_state(**changes: Any) -> str:
    history = [
        {"epoch": 0.5, "loss": 3.0, "step": 250},
        {"epoch": 1.0, "eval_loss": 2.9, "step": 500},
        {"epoch": 2.0, "eval_loss": 2.7, "step": 1000},
    ]
    values = {"global_step": 1200, "max_steps": 1200, "log_history": history, **changes}
    return json.dumps(values, indent=2, sort_keys=True)


def test_the_state_of_a_trainer_is_read_and_a_run_that_is_not_over_has_an_end_ahead(
    tmp_path: Path,
) -> None:
    (path := tmp_path / "trainer_state.json").write_text(trainer_state())
    log = read_log(path, FORMATS[TRAINER_STATE])
    assert [(point.step, point.loss) for point in log.points] == [(500, 2.9), (1000, 2.7)]
    assert log.total is None
    path.write_text(trainer_state(global_step=1000))
    assert read_log(path, FORMATS[TRAINER_STATE]).total == 1200
    path.write_text("{'eval_loss': 2.9}")
    with pytest.raises(UserError, match=r"not a trainer_state\.json"):
        read_log(path, FORMATS[TRAINER_STATE])


def test_without_a_step_the_matches_are_counted(tmp_path: Path) -> None:
    (path := tmp_path / "log").write_text("val=3.5\nval=nan\nval=-inf\n")
    log = read_log(path, log_format(name=None, pattern=r"val=(?P<value>\S+)"))
    assert [point.step for point in log.points] == [1, 2, 3]
    assert math.isnan(log.points[1].loss)
    assert log.points[2].loss == -math.inf


def test_the_later_lines_of_a_resumed_run_count(tmp_path: Path) -> None:
    lines = [(100, 4.0), (200, 3.0), (300, 9.0), (200, 2.9), (300, 2.0)]
    (path := tmp_path / "log").write_text("".join(f"s:{s} tel:{loss}\n" for s, loss in lines))
    log = read_log(path, FORMATS["llm.c"])
    assert [(p.step, p.loss) for p in log.points] == [(100, 4.0), (200, 2.9), (300, 2.0)]
    assert log.went_back == ((300, 200),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_encoding_is_no_obstacle(encoding: str, tmp_path: Path) -> None:
    (path := tmp_path / "log").write_text("naïve 模型\ns:1 tel:3.5\n", encoding=encoding)
    assert [point.loss for point in read_log(path, FORMATS["llm.c"]).points] == [3.5]


def test_bytes_that_are_no_text_are_survived(tmp_path: Path) -> None:
    (path := tmp_path / "log").write_bytes(b"\xff\x00\xfe\xc3\ns:1 tel:3.5 \xe9\n")
    assert [point.loss for point in read_log(path, FORMATS["llm.c"]).points] == [3.5]


def test_a_compressed_log_is_no_log_without_a_loss(tmp_path: Path) -> None:
    (path := tmp_path / "log.gz").write_bytes(gzip.compress(b"s:1 tel:3.5\n"))
    with pytest.raises(UserError, match="gunzip"):
        read_log(path, FORMATS["llm.c"])


@pytest.mark.parametrize(
    ("name", "pattern", "message"),
    [
        (None, None, "neither"),
        ("nanogpt", "(?P<loss>x)", "both"),
        ("nanogtp", None, "did you mean nanogpt"),
        (None, "(?P<loss>", "not a regular expression"),
        (None, r"loss (\S+)", "one named group"),
        (None, r"(?P<loss>.) (?P<value>.)", "one named group"),
    ],
)
def test_a_wrong_form_is_refused(name: str | None, pattern: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        log_format(name=name, pattern=pattern)


def test_what_is_no_number_is_refused_with_its_line(tmp_path: Path) -> None:
    (path := tmp_path / "log").write_text("start\nloss: tensor(3.5)\n")
    with pytest.raises(UserError, match=r"line 2.*'tensor\(3.5\)'"):
        read_log(path, log_format(name=None, pattern=r"loss: (?P<loss>.*)"))


@pytest.mark.parametrize(
    ("pattern", "line", "said"),
    [
        (r"loss.*(?P<loss>\d+\.\d+)", "loss = 12.5", "'2.5', a part of 12.5"),
        (r"loss (?P<loss>\d+)", "loss 3.2", "'3', a part of 3.2"),
        (r"loss (?P<loss>[\d.]+)", "loss 9.5e-01", "'9.5', a part of 9.5e-01"),
        (r"step.*(?P<step>\d+): (?P<loss>\S+)", "step 1250: 3.2", "'0', a part of 1250"),
        (r"^\d+,(?P<loss>\S+)", "100,3.21,4", "not a number"),
        (r"loss (?P<loss>\S+)", "loss 3,401", "not a number"),
    ],
)
def test_a_part_of_a_number_is_no_loss_and_no_step(
    pattern: str, line: str, said: str, tmp_path: Path
) -> None:
    (path := tmp_path / "log").write_text(line + "\n")
    with pytest.raises(UserError, match=said):
        read_log(path, log_format(name=None, pattern=pattern))


@pytest.mark.parametrize(
    ("pattern", "line", "point"),
    [
        (r"step (?P<step>\S+) loss (?P<loss>\S+)", "step 12,500 loss 3.21,", (12500, 3.21)),
        (r"step (?P<step>\d+)\S* loss (?P<loss>\S+)", "step 100.0 loss 1,234.5", (100, 1234.5)),
        (r"step(?P<step>\d+)-loss(?P<loss>[\d.]+)", "step100-loss3.5-a.txt", (100, 3.5)),
        (r"^(?P<step>\d+),(?P<loss>[^,]+)", "100,345.2,7", (100, 345.2)),
        (r"(?P<step>\d+) (?P<loss>[-\d.]+)", "100 -0.5E+00", (100, -0.5)),
    ],
)
def test_a_number_is_whole_however_it_is_written(
    pattern: str, line: str, point: tuple[float, float], tmp_path: Path
) -> None:
    (path := tmp_path / "log").write_text(line + "\n")
    (found,) = read_log(path, log_format(name=None, pattern=pattern)).points
    assert (found.step, found.loss) == point


def test_every_match_of_a_line_counts(tmp_path: Path) -> None:
    (path := tmp_path / "log").write_text('[{"step": 1, "loss": 3.5}, {"step": 2, "loss": NaN}]')
    form = log_format(name=None, pattern=r'"step": (?P<step>\d+), "loss": (?P<loss>[^}]+)')
    points = read_log(path, form).points
    assert points[0] == Point(1, 3.5)
    assert points[1].step == 2
    assert math.isnan(points[1].loss)


def test_another_loss_at_the_same_step_is_noted(tmp_path: Path) -> None:
    lines = ["step 1 train loss 3.1", "step 1 val loss 3.2", "step 2 val loss 3", "step 2 loss 3.0"]
    (path := tmp_path / "log").write_text("\n".join(lines))
    log = read_log(path, log_format(name=None, pattern=r"step (?P<step>\d).*loss (?P<loss>\S+)"))
    assert [point.loss for point in log.points] == [3.2, 3.0]
    assert log.repeated == (1,)
