"""What a line with a validation loss looks like, in the logs of well-known programs.

Each form was read off the line of the program that prints it, named at the entry.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from harness.errors import UserError

LOSS_GROUPS = ("loss", "value")
STEP_GROUP = "step"
TOTAL_GROUP = "total"
TRAINER_STATE = "hf-trainer-state"

EXAMPLE = r"--pattern 'step (?P<step>\d+).* val_loss=(?P<loss>\S+)'"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFormat:
    """How losses are found in a log.

    `pattern` is searched for in each line: its group `loss` (or `value`) is the loss, `step` where
    it was measured, `total` how many steps were planned; only the loss is needed. None: the file is
    the trainer_state.json of Hugging Face's Trainer.
    """

    name: str
    pattern: re.Pattern[str] | None
    says: str

    @property
    def loss_group(self) -> str:
        groups = () if self.pattern is None else self.pattern.groupindex
        return next((name for name in LOSS_GROUPS if name in groups), LOSS_GROUPS[0])

    @property
    def has_steps(self) -> bool:
        return self.pattern is None or STEP_GROUP in self.pattern.groupindex


def _line(name: str, pattern: str, says: str) -> LogFormat:
    return LogFormat(name=name, pattern=re.compile(pattern), says=says)


FORMATS: dict[str, LogFormat] = {
    form.name: form
    for form in (
        # karpathy/nanoGPT, train.py
        _line(
            "nanogpt",
            r"\bstep (?P<step>\d+): train loss \S+, val loss (?P<loss>[^\s,]+)",
            "step 2000: train loss 2.9412, val loss 2.9853",
        ),
        # karpathy/nanochat, scripts/base_train.py; bits per byte
        _line(
            "nanochat",
            r"\bStep (?P<step>\d+) \| Validation bpb: (?P<loss>\S+)",
            "Step 02000 | Validation bpb: 0.853210",
        ),
        # KellerJordan/modded-nanogpt, train_gpt.py and records/track_3_optimization
        _line(
            "modded-nanogpt",
            r"\bstep:(?P<step>\d+)/(?P<total>\d+) val_loss:(?P<loss>\S+)",
            "step:1390/1390 val_loss:3.2779 train_time:79682ms step_avg:57.33ms",
        ),
        # karpathy/llm.c, llmc/logger.h: tel is the validation loss, trl the training loss
        _line("llm.c", r"\bs:(?P<step>\d+) tel:(?P<loss>\S+)", "s:250 tel:6.4619"),
        # NVIDIA/Megatron-LM, megatron/training/training.py; not the line of the test set
        _line(
            "megatron",
            r"validation loss at iteration (?P<step>\d+)(?: on validation set)? \| "
            r"lm loss value: (?P<loss>\S+)",
            "validation loss at iteration 1000 | lm loss value: 2.985312E+00 | ...",
        ),
        # huggingface/transformers, trainer_callback.py: the dictionary that the Trainer prints
        _line(
            "hf-trainer",
            r"'eval_loss': '?(?P<loss>[^\s,'}]+)'?.*'epoch': '?(?P<step>[\d.]+)",
            "{'eval_loss': 2.9853, ..., 'epoch': 1.0}; the step is the epoch",
        ),
        # the same file, TrainerState.save_to_json
        LogFormat(
            name=TRAINER_STATE, pattern=None, says="trainer_state.json of Hugging Face's Trainer"
        ),
    )
}


def log_format(*, name: str | None, pattern: str | None) -> LogFormat:
    """The format of this name, or the one of a regular expression of the user's own.

    Raises:
        UserError: neither or both, no such format, or an expression that finds no loss.
    """
    if (name is None) == (pattern is None):
        got = "neither" if name is None else "both"
        raise UserError(
            f"--from-logs needs --format or --pattern, got {got}: name one of "
            f"{', '.join(FORMATS)}, or write an expression such as {EXAMPLE}"
        )
    if name is not None:
        if name not in FORMATS:
            near = difflib.get_close_matches(name, FORMATS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(FORMATS)}"
            raise UserError(f"--format {name!r} is not known: {hint}, or write a --pattern")
        return FORMATS[name]
    assert pattern is not None
    compiled = compiled_expression("--pattern", pattern)
    found = [group for group in LOSS_GROUPS if group in compiled.groupindex]
    if len(found) != 1:
        raise UserError(
            f"--pattern {pattern!r} must have one named group (?P<loss>...), has "
            f"{', '.join(compiled.groupindex) or 'none'}: such as {EXAMPLE}"
        )
    return LogFormat(name="", pattern=compiled, says=pattern)


def compiled_expression(option: str, text: str) -> re.Pattern[str]:
    """The regular expression of an option.

    Raises:
        UserError: it is not one.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise UserError(f"{option} {text!r} is not a regular expression: {error}") from None
