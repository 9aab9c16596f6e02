"""Where every parameter of a variant goes, and what a step of its optimizer costs."""

from __future__ import annotations

from typing import Any

import torch

from harness.study.study_file import Study, VariantConfig
from models import build_model
from optimizers import Forecast, Storage, forecast
from optimizers.specs import exchange_of

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
    owner = exchange_of(spec) not in (None, "replicated")
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
