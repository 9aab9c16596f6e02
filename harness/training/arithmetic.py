"""In what a trial is computed, from what its optimizer and its device really are."""

from __future__ import annotations

import torch

from harness.study.trial import TrialSpec
from harness.training.records import Arithmetic
from optimizers import NamedOptimizer
from optimizers.hardware import device_name
from optimizers.matrices.orthogonal import OrthogonalizingOptimizer
from optimizers.newton_schulz import Computation

DTYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def arithmetic_of(spec: TrialSpec, optimizer: NamedOptimizer, device: torch.device) -> Arithmetic:
    """What the numbers of this trial depend on beside its spec, as worker 0 sees it."""
    used = optimizer.computations if isinstance(optimizer, OrthogonalizingOptimizer) else {}
    dtypes = {DTYPES[computation.dtype] for computation in used.values()}
    return Arithmetic(
        precision=spec.training.precision,
        ns_dtype=" and ".join(sorted(dtypes)) or None,
        ns_forms={f"{m}x{n}": _form(computation) for (m, n), computation in sorted(used.items())},
        device_type=device.type,
        device=device_name(device.type),
        torch=torch.__version__.partition("+")[0],
    )


def _form(computation: Computation) -> str:
    if not computation.restarts:
        return computation.form
    after = ", ".join(map(str, computation.restarts))
    return f"{computation.form}, restart after {after}"
