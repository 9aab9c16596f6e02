"""Where every parameter of a variant goes, and what a step of its optimizer costs."""

from __future__ import annotations

from typing import Any

import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.config import Study, VariantConfig
from models import build_model
from optimizers import Forecast, MuonSpec, Storage, forecast

# Who holds the weights; DeepSpeed's stages are 0, 1, 2 and 3.
ZERO_STORAGE: tuple[Storage, ...] = ("whole", "flat", "flat", "slices")


def forecast_routes(study: Study, variant: VariantConfig, *, vocab_size: int) -> Forecast:
    """Routes, owners, operations and bytes of one step, planned and not run.

    Raises:
        ValueError: the routes are wrong, for example a pattern that matches nothing.
    """
    training, workers = study.training, study.resources.workers
    with torch.device("meta"):
        model = build_model(study.model, vocab_size=vocab_size)
    storage: Storage = {
        "ddp": "whole",
        "fsdp2": "rows",
        "deepspeed": ZERO_STORAGE[training.zero_stage],
    }[training.backend]  # type: ignore[assignment]
    spec = variant.optimizer
    owner = isinstance(spec, MuonSpec) and spec.exchange != "replicated"
    return forecast(
        spec,
        list(model.named_parameters()),
        workers=workers,
        storage=storage,
        reduces=owner and training.backend == "ddp" and workers > 1,
        device=torch.device("cuda" if study.resources.gpus_per_worker else "cpu"),
    )


def to_json(result: Forecast) -> dict[str, Any]:
    return {
        "parameters": [
            {
                "name": parameter.route.name,
                "shape": list(parameter.route.shape),
                "algorithm": parameter.route.algorithm,
                "group": parameter.route.group,
                "reason": parameter.route.reason,
                "matrices": parameter.route.num_matrices,
                "owners": list(parameter.owners),
                "batches": list(parameter.batches),
                "computation": parameter.computation,
                "flops": parameter.flops,
            }
            for parameter in result.parameters
        ],
        "flops_per_worker": list(result.flops),
        "bytes_sent_per_worker": list(result.bytes_sent),
        "bytes_floor_per_worker": result.bytes_floor,
        "plan_sha256": result.digest,
    }


def render(result: Forecast, title: str) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    for column in ("parameter", "shape", "goes to", "matrices", "owners", "batch", "MFLOP", "why"):
        table.add_column(column, overflow="fold", no_wrap=column in ("matrices", "owners", "MFLOP"))
    reasons = list(dict.fromkeys(parameter.route.reason for parameter in result.parameters))
    for parameter in result.parameters:
        route = parameter.route
        owners = dict.fromkeys("all" if owner < 0 else str(owner) for owner in parameter.owners)
        table.add_row(
            route.name,
            "x".join(map(str, route.shape)),
            route.group.replace("_", " "),
            str(route.num_matrices) if route.matrices else "-",
            ",".join(owners) or "-",
            ",".join(map(str, parameter.batches)) or "-",
            f"{parameter.flops / 1e6:.1f}" if parameter.flops else "-",
            f"({reasons.index(route.reason) + 1})",
        )
    lines = [f"({number}) {reason}" for number, reason in enumerate(reasons, start=1)]
    lines += [
        f"worker {worker}: {flops / 1e6:.1f} MFLOP of Newton-Schulz, {sent:,} bytes sent a step"
        for worker, (flops, sent) in enumerate(zip(result.flops, result.bytes_sent, strict=True))
    ]
    mean = sum(result.bytes_sent) / len(result.bytes_sent)
    lines.append(f"mean {mean:,.0f} bytes a worker; the floor is {result.bytes_floor:,.0f}")
    return Group(Text(title, style="bold"), table, *map(Text, lines))
