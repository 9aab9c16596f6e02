"""Training throughput of our MoE transformer against Hugging Face Mixtral of the same sizes.

    python benchmarks/training_throughput.py                        # 3 minutes on two idle cores
    python benchmarks/training_throughput.py --compiler none        # one of them
    python benchmarks/training_throughput.py --cpu-time --threads 1 # on a busy machine
    python benchmarks/training_throughput.py --json
    python benchmarks/training_throughput.py --precision auto --batch-size 32

Both models get the same weights, so they compute the same function, which is checked first on one
batch. Then all contestants train on the same tokens with the same fused AdamW, in alternating
rounds; the ratio is the median over rounds of the ratio within a round, with its range. The peak
is the rate of a product of two 1024 x 1024 matrices, measured in every round. The ratio rises with
the sequence length, because eager attention makes the whole T x T; 512 is the seed study's.

"Mixtral eager" is the class as it is written in Transformers: experts in a Python loop, attention
as softmax(Q K') V. "Mixtral sdpa+grouped" is the same class with the fused attention and with the
experts in one grouped product. "Mixtral compiled" is the latter through `torch.compile`; its
compilation is before the first timed step. `--precision auto` is what `optbench doctor` advises for
training here, and all contestants train in it.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from models import (
    ModelConfig,
    MoETransformer,
    initialize,
    num_active_parameters,
    num_parameters,
    training_flops_per_token,
)
from optimizers.hardware import best_dtype

# 17.8 million parameters, of which a token meets 8.4 million.
VOCABULARY = 8192
AUXILIARY_WEIGHT = 0.01
CONFIG = ModelConfig(
    hidden_size=256,
    num_layers=4,
    num_heads=8,
    activation="swiglu",
    feed_forward_size=512,
    num_experts=8,
    experts_per_token=2,
    load_balancing_weight=AUXILIARY_WEIGHT,
    tie_embeddings=False,
    scale_embeddings=False,
)
OURS, EAGER, FAST = "ours", "Mixtral eager", "Mixtral sdpa+grouped"
COMPILED = "Mixtral compiled"
PEAK_SIZE = 1024

# Which of the profiler's operators, by the beginning of their names, are counted as what.
PARTS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::_grouped_mm"),
    "attention": ("aten::_scaled_dot_product", "aten::bmm", "aten::baddbmm", "aten::_softmax"),
    "optimizer": ("aten::_fused_adamw_",),
}
THE_REST = "element-wise, copies and overhead"


class Precision(StrEnum):
    fp32 = "fp32"
    bf16 = "bf16"
    auto = "auto"

    def resolved(self, device: str) -> Precision:
        """fp32 or bf16; `auto` is the faster of the two on this machine."""
        if self is not Precision.auto:
            return self
        dtype, _ = best_dtype(device)
        return Precision.bf16 if dtype is torch.bfloat16 else Precision.fp32


Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Conditions:
    """What is the same for all contestants."""

    device: torch.device
    precision: Precision
    clock: Callable[[], float]

    def seconds(self, function: Callable[[], Any]) -> float:
        self._synchronize()
        begin = self.clock()
        function()
        self._synchronize()
        return self.clock() - begin

    def peak_flops_per_s(self) -> float:
        """The rate of a large product of matrices, the best of four."""
        dtype = torch.float32 if self.precision is Precision.fp32 else torch.bfloat16
        matrix = torch.randn(PEAK_SIZE, PEAK_SIZE, device=self.device, dtype=dtype)
        return 2 * PEAK_SIZE**3 / min(self.seconds(lambda: matrix @ matrix) for _ in range(4))

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def mixtral(ours: MoETransformer, *, attention: str, experts: str) -> Any:
    """A MixtralForCausalLM of our model's sizes and with its weights; nothing is downloaded."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = ours.config
    peer = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=VOCABULARY,
            hidden_size=config.hidden_size,
            intermediate_size=config.feed_forward_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_heads,
            num_local_experts=config.num_experts,
            num_experts_per_tok=config.experts_per_token,
            rms_norm_eps=config.norm_epsilon,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=False,
            use_cache=False,
            output_router_logits=True,  # includes the load-balancing loss, as ours does
            router_aux_loss_coef=AUXILIARY_WEIGHT,
            attn_implementation=attention,
            experts_implementation=experts,
        )
    )
    with torch.no_grad():
        copy_weights(ours, peer)
    peer.train()
    return peer


def copy_weights(ours: Any, peer: Any) -> None:
    """Give Mixtral our weights; norms are 1 in both."""
    peer.model.embed_tokens.weight.copy_(ours.embedding.weight)
    peer.lm_head.weight.copy_(ours.head.weight)
    for block, layer in zip(ours.blocks, peer.model.layers, strict=True):
        q, k, v = block.attention.qkv.weight.chunk(3)
        # We turn neighbouring features, Mixtral those half a head apart.
        by_pair = (CONFIG.num_heads, -1, 2, CONFIG.hidden_size)
        q, k = (w.view(by_pair).transpose(1, 2).reshape(w.shape) for w in (q, k))
        layer.self_attn.q_proj.weight.copy_(q)
        layer.self_attn.k_proj.weight.copy_(k)
        layer.self_attn.v_proj.weight.copy_(v)
        layer.self_attn.o_proj.weight.copy_(block.attention.output.weight)
        layer.mlp.gate.weight.copy_(block.feed_forward.router.weight)
        experts = block.feed_forward.experts
        layer.mlp.experts.gate_up_proj.copy_(torch.cat((experts.gate, experts.up), 2).mT)
        layer.mlp.experts.down_proj.copy_(experts.down.mT)


class Contestant:
    """A model with its optimizer, and how long its steps took."""

    def __init__(self, name: str, model: torch.nn.Module, *, conditions: Conditions) -> None:
        self.name = name
        self.model = model.to(conditions.device)
        self.conditions = conditions
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        self.step_times_s: list[float] = []

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """What is differentiated, and the cross-entropy in it."""
        tokens, targets = batch
        bf16 = self.conditions.precision is Precision.bf16
        with torch.autocast(self.conditions.device.type, dtype=torch.bfloat16, enabled=bf16):
            if isinstance(self.model, MoETransformer):
                output = self.model(tokens, targets)
                return output.loss, output.cross_entropy
            # Without shift_labels Mixtral would shift the targets once more.
            output = self.model(input_ids=tokens, labels=targets, shift_labels=targets)
            return output.loss, output.loss - AUXILIARY_WEIGHT * output.aux_loss

    def step(self, batch: Batch) -> None:
        self.losses(batch)[0].backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def timed_step(self, batch: Batch) -> None:
        self.step_times_s.append(self.conditions.seconds(lambda: self.step(batch)))

    def shares_of_time(self, batch: Batch) -> dict[str, float]:
        """The fraction of a step that each part takes, in the fastest of three profiled steps."""
        times = min((self._time_by_part(batch) for _ in range(3)), key=lambda t: sum(t.values()))
        return {part: time / sum(times.values()) for part, time in times.items()}

    def _time_by_part(self, batch: Batch) -> dict[str, float]:
        on_gpu = self.conditions.device.type == "cuda"
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA][: 1 + on_gpu]) as log:
            self.step(batch)
        times = dict.fromkeys((*PARTS, THE_REST), 0.0)
        for event in log.key_averages():
            part = next((p for p, names in PARTS.items() if event.key.startswith(names)), THE_REST)
            times[part] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
        return times


def difference_of_losses(contestants: list[Contestant], batch: Batch) -> float:
    """The largest difference of a cross-entropy from ours, relative, before any step."""
    with torch.no_grad():
        ours, *peers = [contestant.losses(batch)[1].item() for contestant in contestants]
    return max(abs(peer / ours - 1) for peer in peers)


def measure(contestants: list[Contestant], batches: list[Batch]) -> list[float]:
    """Time every contestant on every batch but the first; returns the peak of each round."""
    for contestant in contestants:
        contestant.step(batches[0])
    peaks = []
    for round_number, batch in enumerate(batches[1:]):
        peaks.append(contestants[0].conditions.peak_flops_per_s())
        first = round_number % len(contestants)  # nobody always runs behind the same neighbour
        for contestant in contestants[first:] + contestants[:first]:
            contestant.timed_step(batch)
    return peaks


def attention_flops_per_token(sequence_length: int) -> int:
    """Of the operations of a token, those of its attention: what a longer sequence adds."""
    both = (
        training_flops_per_token(CONFIG, vocab_size=VOCABULARY, sequence_length=length)
        for length in (sequence_length, 0)
    )
    return next(both) - next(both)


def summary(
    contestants: list[Contestant], batches: list[Batch], *, peaks: list[float]
) -> dict[str, Any]:
    ours, (tokens, _) = contestants[0], batches[0]
    flops = training_flops_per_token(CONFIG, vocab_size=VOCABULARY, sequence_length=tokens.shape[1])
    rows = {}
    for contestant in contestants:
        times = contestant.step_times_s
        ratios = [peer / own for peer, own in zip(times, ours.step_times_s, strict=True)]
        shares = [tokens.numel() * flops / t / p for t, p in zip(times, peaks, strict=True)]
        rows[contestant.name] = {
            "tokens_per_s": tokens.numel() / statistics.median(times),
            "speedup_of_ours": statistics.median(ratios),
            "speedup_of_ours_range": [min(ratios), max(ratios)],
            "share_of_peak": statistics.median(shares),
            "shares_of_time": contestant.shares_of_time(batches[-1]),
        }
    return {
        "parameters": num_parameters(ours.model),
        "active_parameters": num_active_parameters(ours.model),
        "training_flops_per_token": flops,
        "attention_flops_per_token": attention_flops_per_token(tokens.shape[1]),
        "tokens_per_step": tokens.numel(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "peak_flops_per_s": statistics.median(peaks),
        "contestants": rows,
    }


def print_summary(result: dict[str, Any]) -> None:
    print(
        f"{result['parameters'] / 1e6:.1f} M parameters, {result['active_parameters'] / 1e6:.1f} M "
        f"active, {result['training_flops_per_token'] / 1e6:.1f} MFLOP a token\n"
        f"{result['tokens_per_step']} tokens a step, {result['precision']}, {result['threads']} "
        f"threads, {result['clock']}\n"
        f"cross-entropies agree to {result['relative_difference_of_losses']:.0e}; a large product "
        f"of matrices runs at {result['peak_flops_per_s'] / 1e9:.0f} GFLOP/s\n"
    )
    for name, row in result["contestants"].items():
        low, high = row["speedup_of_ours_range"]
        ratio = f"ours / this {row['speedup_of_ours']:.2f} ({low:.2f} to {high:.2f})"
        shares = ", ".join(f"{share:.0%} {part}" for part, share in row["shares_of_time"].items())
        print(
            f"{name:22s}{row['tokens_per_s']:7.0f} tokens/s, {row['share_of_peak']:.0%} of peak"
            f"{'' if name == OURS else ', ' + ratio}\n{'':22s}{shares}"
        )
    print()
    for line in bounds(result):
        print(line)


def bounds(result: dict[str, Any]) -> list[str]:
    """What bounds our step, and how far it could get from Mixtral at the most."""
    ours, eager = (result["contestants"][name] for name in (OURS, EAGER))
    step_ms = 1e3 * result["tokens_per_step"] / ours["tokens_per_s"]
    parts = ", ".join(
        f"{step_ms * share:.0f} ms {part}" for part, share in ours["shares_of_time"].items()
    )
    without_attention = result["training_flops_per_token"] - result["attention_flops_per_token"]
    least_ms = 1e3 * result["tokens_per_step"] * without_attention / result["peak_flops_per_s"]
    products_ms = step_ms * ours["shares_of_time"]["matrix products"]
    return [
        f"a step of ours: {step_ms:.0f} ms = {parts}",
        f"its matrix products without attention need {least_ms:.0f} ms at the peak: they run at "
        f"{least_ms / products_ms:.0%} of it",
        f"limit: with nothing but these products, at the peak rate, it would be "
        f"{eager['speedup_of_ours'] * step_ms / least_ms:.2f} times {EAGER}",
    ]


def main(
    batch_size: Annotated[int, typer.Option(help="sequences of a batch")] = 4,
    sequence_length: Annotated[int, typer.Option(help="tokens of a sequence")] = 512,
    rounds: Annotated[int, typer.Option(help="timed steps of each contestant")] = 7,
    precision: Annotated[
        Precision, typer.Option(help="bf16 is autocast; auto: the faster of the two here")
    ] = Precision.fp32,
    threads: Annotated[int, typer.Option(help="CPU threads; 0: all cores")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    cpu_time: Annotated[
        bool, typer.Option("--cpu-time", help="not wall-clock; on a busy machine, one thread")
    ] = False,
    compiler: Annotated[
        str, typer.Option(help="backend of torch.compile for the compiled peer; none: leave it out")
    ] = "inductor",
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Tokens per second of our model and of Hugging Face Mixtral, in alternating rounds."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    ours = MoETransformer(CONFIG, vocab_size=VOCABULARY)
    initialize(ours, seed=0)
    models = {
        OURS: ours,
        EAGER: mixtral(ours, attention="eager", experts="eager"),
        FAST: mixtral(ours, attention="sdpa", experts="grouped_mm"),
    }
    if compiler != "none":
        models[COMPILED] = mixtral(ours, attention="sdpa", experts="grouped_mm")
        models[COMPILED].compile(backend=compiler)
    clock = time.process_time if cpu_time else time.perf_counter
    precision = precision.resolved(device)
    conditions = Conditions(torch.device(device), precision, clock)
    contestants = [Contestant(name, m, conditions=conditions) for name, m in models.items()]
    ids = torch.randint(VOCABULARY, (rounds + 1, batch_size, sequence_length + 1), device=device)
    batches = [(window[:, :-1], window[:, 1:].contiguous()) for window in ids]
    difference = difference_of_losses(contestants, batches[0])
    tolerance = 1e-5 if precision is Precision.fp32 else 1e-3
    assert difference < tolerance, f"the models differ: their losses by {difference:.1e}"
    peaks = measure(contestants, batches)
    result = {
        "precision": precision.value,
        "clock": "CPU time" if cpu_time else "wall-clock time",
        "relative_difference_of_losses": difference,
        **summary(contestants, batches, peaks=peaks),
    }
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        print_summary(result)


if __name__ == "__main__":
    typer.run(main)
