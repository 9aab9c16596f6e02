"""Mixtral of Hugging Face Transformers is an independent reference: same weights, same function."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from models import MoETransformer, initialize

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training_throughput.py"


@pytest.fixture(scope="module")
def benchmark_script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("training_throughput", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(("attention", "experts"), [("eager", "eager"), ("sdpa", "grouped_mm")])
def test_loss_and_gradients_are_those_of_mixtral(
    benchmark_script: ModuleType, attention: str, experts: str
) -> None:
    config = benchmark_script.CONFIG.model_copy(
        update={"num_layers": 2, "load_balancing_weight": 0.0, "router_z_weight": 0.0}
    )
    ours = MoETransformer(config, vocab_size=benchmark_script.VOCABULARY)
    initialize(ours, seed=0)
    peer = benchmark_script.mixtral(ours, attention=attention, experts=experts)
    peer.router_aux_loss_coef = 0.0
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(benchmark_script.VOCABULARY, (2, 17), generator=generator)
    tokens, targets = tokens[:, :-1], tokens[:, 1:].contiguous()

    output = ours(tokens, targets)
    expected = peer(input_ids=tokens, labels=targets, shift_labels=targets)
    torch.testing.assert_close(output.loss, expected.loss, rtol=1e-6, atol=0)
    output.loss.backward()
    expected.loss.backward()
    for block, layer in zip(ours.blocks, peer.model.layers, strict=True):
        moe, mlp = block.feed_forward, layer.mlp
        gate_up = torch.cat((moe.experts.gate.grad, moe.experts.up.grad), 2).mT
        for mine, theirs in (
            (gate_up, mlp.experts.gate_up_proj.grad),
            (moe.experts.down.grad.mT, mlp.experts.down_proj.grad),
            (moe.router.weight.grad, mlp.gate.weight.grad),
            (block.attention.output.weight.grad, layer.self_attn.o_proj.weight.grad),
            (block.attention_norm.weight.grad, layer.input_layernorm.weight.grad),
        ):
            assert mine.abs().max() > 0
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5 * mine.abs().max())
    torch.testing.assert_close(
        ours.embedding.weight.grad, peer.model.embed_tokens.weight.grad, rtol=1e-3, atol=1e-7
    )


def test_the_benchmark_runs_and_reports_every_contestant(
    benchmark_script: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "feed_forward_size": 16}
    monkeypatch.setattr(
        benchmark_script, "CONFIG", benchmark_script.CONFIG.model_copy(update=small)
    )
    monkeypatch.setattr(benchmark_script, "VOCABULARY", 64)
    monkeypatch.setattr(benchmark_script, "PEAK_SIZE", 64)
    benchmark_script.main(
        batch_size=1,
        sequence_length=16,
        rounds=1,
        precision=benchmark_script.Precision.fp32,
        threads=torch.get_num_threads(),
        compiler="eager",
        as_json=True,
    )
    result = json.loads(capsys.readouterr().out)
    peers = ["Mixtral eager", "Mixtral sdpa+grouped", "Mixtral compiled"]
    assert list(result["contestants"]) == ["ours", *peers]
    for row in result["contestants"].values():
        assert sum(row["shares_of_time"].values()) == pytest.approx(1)
        assert row["shares_of_time"]["matrix products"] > 0
    assert result["contestants"]["ours"]["speedup_of_ours"] == 1
    step, products, limit = benchmark_script.bounds(result)
    assert "matrix products" in step
    assert "at the peak" in products
    assert "times Mixtral eager" in limit


def test_the_benchmarks_automatic_precision_is_the_machines_best(
    benchmark_script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    precision = benchmark_script.Precision
    for dtype, expected in ((torch.bfloat16, precision.bf16), (torch.float32, precision.fp32)):
        monkeypatch.setattr(benchmark_script, "best_dtype", lambda _, d=dtype: (d, "made up"))
        assert precision.auto.resolved("cpu") is expected
        assert precision.bf16.resolved("cpu") is precision.bf16
