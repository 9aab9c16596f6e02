"""The training of a methods paragraph: optimizers, model, length of the runs, backend, data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.analysis.machines import hardware, most_workers
from harness.analysis.study_results import StudyResults
from harness.report import numbers
from harness.report.prose import listing, plural
from models import ModelConfig
from optimizers import ExternalSpec, LearningRateSchedule, OptimizerSpec

NAMED = 6
"""Names of more variants than these belong into a table."""

ALGORITHMS = {
    "adamw": "AdamW [@loshchilov2019]",
    "muon": "Muon [@jordan2024]",
    "schedule_free": "schedule-free AdamW [@defazio2024]",
    "torch_muon": "PyTorch's Muon [@jordan2024]",
    "deepspeed_muon": "DeepSpeed's Muon [@jordan2024, @rasley2020]",
}


def training_sentences(study: StudyResults) -> Iterator[str]:
    """What was compared, on which model, for how long, on what."""
    yield _compared(study)
    yield from _algorithms([variant.optimizer for variant in study.settings.variants])
    yield _length(study)
    yield from _schedule(study)
    known = study.environment or any(trial.attempts for trial in study.trials)
    where = f", with {hardware(study)}" if known else ""
    yield f"Training ran {_backend(study)}{where}."
    windows = study.settings.training.evaluation_windows
    available = _manifest(study, "validation", "windows")
    shown = numbers.count(min(windows, available) if available else windows)
    yield (
        "The outcome is the mean cross-entropy per token, in nats, at the last step, over "
        f"{shown} validation windows that are the same for every run."
    )


def _compared(study: StudyResults) -> str:
    others = list(study.challengers)
    if not others:
        what = f"trained one optimizer configuration, {study.baseline},"
    else:
        what = listing(others) if len(others) <= NAMED else f"{len(others)} configurations"
        what = f"compared {what} with the baseline {study.baseline}"
    return f"We {what} on {_model(study)}."


def _model(study: StudyResults) -> str:
    model = study.settings.model
    counts = {trial.outcome.num_parameters for trial in study.trials if trial.outcome is not None}
    known = counts - {None}
    size = f" ({numbers.count(known.pop())} parameters)" if len(known) == 1 else ""
    if not isinstance(model, ModelConfig):
        return f"the model {getattr(model, 'kind', 'of the study file')!r}{size}"
    text = (
        f"a decoder-only transformer [@vaswani2017] of {plural(model.num_layers, 'layer')}, width "
        f"{model.hidden_size} and {plural(model.num_heads, 'attention head')}{size}"
    )
    if model.feed_forward == "dense":
        return f"{text}, with feed-forward layers of inner width {model.feed_forward_size}"
    text += (
        f", with {plural(model.num_experts, 'expert')} of inner width {model.feed_forward_size} in "
        f"each layer, of which a token uses {model.experts_per_token} [@shazeer2017]"
    )
    losses = [
        f"{name} of weight {weight:g} [@{key}]"
        for name, weight, key in (
            ("a load-balancing loss", model.load_balancing_weight, "fedus2022"),
            ("a router z-loss", model.router_z_weight, "zoph2022"),
        )
        if weight > 0.0
    ]
    return f"{text}, and {listing(losses)}" if losses else text


def _algorithms(specs: list[OptimizerSpec]) -> Iterator[str]:
    names = list(dict.fromkeys(_algorithm(spec) for spec in specs))
    whose = "Their algorithms are" if len(names) > 1 else "The algorithm is"
    yield f"{whose} {listing(names)}."
    scales = [getattr(spec, "scale", None) == "match_rms" for spec in specs]
    if any(scales):
        some = "" if all(scales) else " of some configurations"
        yield f"Muon's updates{some} are scaled to the root mean square of AdamW's [@liu2025]."


def _algorithm(spec: OptimizerSpec) -> str:
    if isinstance(spec, ExternalSpec):
        return f"{spec.path.replace(':', '.')} ({spec.source})"
    kind = str(getattr(spec, "kind", ""))
    return ALGORITHMS.get(kind, f"the optimizer {kind!r}")


def _length(study: StudyResults) -> str:
    training, window = study.settings.training, study.settings.data.sequence_length
    tokens = training.steps * training.batch_size * window
    precision = "in single precision"
    if training.precision == "bf16":
        precision = "in bfloat16 with weights in single precision"
    clipped = ""
    if training.clip_norm > 0.0:
        clipped = f", with gradients clipped to a norm of {training.clip_norm:g}"
    return (
        f"A run has {numbers.count(training.steps)} optimizer steps of {training.batch_size} "
        f"sequences of {window} tokens ({numbers.count(tokens)} tokens), {precision}{clipped}."
        + _horizons(study)
    )


def _horizons(study: StudyResults) -> str:
    """The baseline's other lengths, as far as they were trained."""
    ended = [t for t in study.of(study.baseline, "horizon") if t.outcome is not None]
    lengths = sorted({t.planned.steps for t in ended if t.planned.steps is not None})
    if not lengths:
        return ""
    return (
        f" For the speed-up in data {study.baseline} was also trained over "
        f"{listing(list(map(str, lengths)))} steps, each with its own full schedule."
    )


def _schedule(study: StudyResults) -> Iterator[str]:
    own = [v.name for v in study.settings.variants if v.schedule is not None]
    yield f"The learning rate {_shape(study.settings.training.schedule)}."
    if own:
        yield f"{listing(own)} had a schedule of {'its' if len(own) == 1 else 'their'} own."


def _shape(schedule: LearningRateSchedule) -> str:
    warm = ""
    if schedule.warmup_steps:
        warm = f"rose over {plural(schedule.warmup_steps, 'step')} and then "
    end = f"{100 * schedule.floor:g} % of its peak" if schedule.floor else "zero"
    return (
        warm
        + {
            "constant": "stayed constant",
            "cosine": f"fell along a half cosine to {end}",
            "linear": f"fell linearly to {end}",
            "wsd": f"stayed constant, until it fell linearly to {end} over the last "
            f"{100 * schedule.decay_fraction:g} % of the steps",
        }[schedule.kind]
    )


def _backend(study: StudyResults) -> str:
    training, workers = study.settings.training, most_workers(study)
    if training.backend == "deepspeed":
        stage = training.zero_stage
        zero = f" with ZeRO stage {stage} [@rajbhandari2020]" if stage else ""
        return f"under DeepSpeed [@rasley2020]{zero}"
    if training.backend == "fsdp2":
        return "under PyTorch's fully sharded data parallelism [@zhao2023]"
    return "data-parallel under PyTorch [@li2020ddp]" if workers > 1 else "in one process"


def data_sentences(study: StudyResults) -> Iterator[str]:
    """The text, how it was split and cut into tokens, and what stands on both sides."""
    manifest, held_out = study.data or {}, study.settings.data.validation_fraction
    if source := manifest.get("source"):
        revision = manifest.get("revision")
        yield f"Text: {source}, {revision}." if revision else f"Text: {source}."
    yield (
        "Whole documents were assigned to training or to validation by a hash of their content, "
        f"{100 * held_out:g} % of them to validation."
    )
    train, validation = (_manifest(study, side, "tokens") for side in ("train", "validation"))
    if train and validation:
        yield (
            f"That gave {numbers.count(train)} tokens to train on and {numbers.count(validation)} "
            "to validate on."
        )
    tokenizer, size = manifest.get("tokenizer"), manifest.get("vocab_size")
    if tokenizer and size:
        yield f"Tokenizer: {tokenizer}, {numbers.count(size)} tokens."
    grams, seen = (_manifest(study, "overlap", name) for name in ("ngrams", "seen"))
    if grams and seen is not None:
        yield (
            f"Of the sequences of {_manifest(study, 'overlap', 'n')} tokens in the validation "
            f"text, {100 * seen / grams:.2g} % also occur in the training text."
        )


def _manifest(study: StudyResults, section: str, name: str) -> Any:
    found = (study.data or {}).get(section)
    return found.get(name) if isinstance(found, dict) else None
