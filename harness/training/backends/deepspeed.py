"""DeepSpeed ZeRO 0 to 3 through Accelerate, with our optimizer inside.

DeepSpeed hands a client optimizer flat fp32 partitions. Where each parameter lies in them is known,
so the optimizer is told by fragments and keeps its own arithmetic at every stage.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from harness.study.trial import TrialSpec
from harness.training.backends.accelerator import AcceleratorBackend, open_accelerator
from harness.training.backends.inspection import Inspection, dtype_names
from harness.training.backends.protocol import MakeOptimizer, WorkerContext
from models import ModelOutput
from optimizers import DeepSpeedMuonSpec, Fragment, NamedOptimizer
from optimizers.peers.deepspeed_muon import DeepSpeedMuon


class DeepSpeedBackend(AcceleratorBackend):
    """One DeepSpeed engine around the model and the one optimizer.

    From stage 1 on DeepSpeed clips. It acts on the raw gradient here, because our optimizer
    orthogonalises after it. It would clip the orthogonalised update of DeepSpeed's own Muon, for
    which a study's `clip_norm` must be 0 therefore. At stage 0 DeepSpeed tells nobody the norm by
    which it clips, and our optimizer clips, as under ddp.
    """

    name = "deepspeed"

    def __init__(self, spec: TrialSpec, context: WorkerContext) -> None:
        if context.gpus == 0:
            # Read when DeepSpeed is imported; it would look for a GPU otherwise.
            os.environ["DS_ACCELERATOR"] = "cpu"
        from accelerate.utils import DeepSpeedPlugin

        _compile_nothing()
        self._globals = _snapshot_of_groups()
        self.stage, self.clip_norm = spec.training.zero_stage, spec.training.clip_norm
        plugin = DeepSpeedPlugin(hf_ds_config=deepspeed_config(spec, context.num_workers))
        super().__init__(spec, open_accelerator(spec, context, deepspeed_plugin=plugin))

    def prepare(self, model: nn.Module, make_optimizer: MakeOptimizer) -> NamedOptimizer:
        model.to(self.device)
        named = list(model.named_parameters())
        self.optimizer = make_optimizer(named)
        stepped: torch.optim.Optimizer = self.optimizer
        if isinstance(self.optimizer, DeepSpeedMuon):
            stepped = self.optimizer.hand_over()  # DeepSpeed knows its own Muon by its class
        self.engine, _ = self.accelerator.prepare(model, stepped)
        self.module = self.engine
        names = {id(parameter): name for name, parameter in named}
        fragments = list(locate_fragments(self.engine.optimizer, names, self.stage, self.rank))
        # From stage 1 on DeepSpeed skips a step with a non-finite gradient itself.
        if self.stage:
            self.optimizer.bind(fragments, gradients_are_finite=lambda: True)
        else:
            self.optimizer.bind()
        return self.optimizer

    def micro_step(self, tokens_BT: Tensor, targets_BT: Tensor, *, last: bool) -> ModelOutput:
        self.engine.set_gradient_accumulation_boundary(last)
        output = self._forward(tokens_BT, targets_BT)
        # DeepSpeed divides by the number of micro-batches.
        self.engine.backward(output.loss)
        if not last:
            self.engine.step()
        return output

    def update(self, *, clip_norm: float) -> Tensor:
        own_norm = None if self.stage else self.optimizer.clip_gradients(clip_norm)
        self.engine.step()
        if self.stage and self.engine.optimizer.overflow:
            self.optimizer.count_skipped_step()
        elif isinstance(self.optimizer, DeepSpeedMuon):
            self.optimizer.count_step()
        norm = self.engine.get_global_grad_norm() if own_norm is None else own_norm
        return torch.as_tensor(norm, dtype=torch.float32)

    def describe(self) -> dict[str, Any]:
        inside = {"zero_stage": self.stage, "gradient_clipping": self.clip_norm}
        return {**super().describe(), **inside}

    def inspect(self) -> Inspection:
        from deepspeed.runtime.torch_autocast import get_comm_dtype

        zero, stage = self.engine.optimizer, _stage_of(self.engine.optimizer)
        parameters = list(self.engine.module.parameters())
        held = {parameter.dtype for parameter in parameters}
        summed = {zero.gradient_accumulation_dtype} if stage else set()
        sent = {get_comm_dtype(parameter) for parameter in parameters}
        return Inspection(
            wrapper=type(self.engine).__name__,
            sharded=stage == 3 and all(hasattr(parameter, "ds_tensor") for parameter in parameters),
            zero_stage=stage,
            weights=dtype_names(held | {w.dtype for w in self.forward_weights().values()}),
            gradients=dtype_names(held | summed),
            exchange=dtype_names(sent | {self.engine.communication_data_type}),
        )

    def forward_weights(self) -> dict[str, Tensor]:
        return {
            name: getattr(parameter, "ds_tensor", parameter).detach()
            for name, parameter in self.engine.module.named_parameters()
        }

    @torch.no_grad()
    def publish_weights(self) -> None:
        """The fp32 partitions to the weights that the forward pass reads, as after a step."""
        zero = self.engine.optimizer
        if self.stage in (1, 2):
            zero.update_lp_params()
        elif self.stage == 3:
            zero._partition_all_parameters()  # drops what an evaluation gathered
            for sub_group in range(len(zero.fp16_groups)):
                zero._reassign_or_swap_out_partitioned_parameters(sub_group)
            if zero.persistent_parameters:  # small ones, which every worker keeps whole
                zero.persistent_parameters[0].all_gather(zero.persistent_parameters)

    def close(self) -> None:
        from deepspeed.comm import comm
        from deepspeed.runtime import torch_autocast
        from deepspeed.utils import groups

        if hasattr(self, "engine"):
            self.engine.destroy()
            del self.engine
        super().close()
        # DeepSpeed would go on with handles on process groups that are gone.
        comm.cdb = None
        # Nor would it forget that this trial was in autocast.
        torch_autocast.TORCH_AUTOCAST_INITIALIZED, torch_autocast.TORCH_AUTOCAST_DTYPE = False, None
        vars(groups).update(self._globals)


def _compile_nothing() -> None:
    """Tells DeepSpeed that none of its operators can be compiled here.

    On a CPU it would build one, for a minute and with g++, when it opens the process group: an
    all-reduce over shared memory that only inference with tensor parallelism calls.
    """
    from deepspeed import ops

    # The one dict of DeepSpeed that says what can be compiled; it probes compilers to fill it.
    ops.__compatible_ops__ = {}


def _snapshot_of_groups() -> dict[str, Any]:
    """The module-level state of DeepSpeed's process groups, before a trial creates any."""
    from deepspeed.utils import groups

    return {
        name: copy.copy(value)
        for name, value in vars(groups).items()
        if name in ("mpu", "mesh_device") or (name.startswith("_") and name.isupper())
    }


def _stage_of(optimizer: Any) -> int:
    """The ZeRO stage that DeepSpeed built, by the class that it put around the optimizer."""
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
    from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer

    if isinstance(optimizer, DeepSpeedZeroOptimizer_Stage3):
        return 3
    if isinstance(optimizer, DeepSpeedZeroOptimizer):
        return 2 if optimizer.partition_gradients else 1
    return 0


def deepspeed_config(spec: TrialSpec, workers: int) -> dict[str, Any]:
    """DeepSpeed's configuration; nothing that changes a result is left to its defaults."""
    training = spec.training
    share = workers * training.accumulation_steps
    zero: dict[str, Any] = {"stage": training.zero_stage}
    if training.zero_stage == 3 and isinstance(spec.optimizer, DeepSpeedMuonSpec):
        zero["reduce_scatter"] = False  # or DeepSpeed's Muon refuses to start
    return {
        "train_micro_batch_size_per_gpu": training.batch_size // share,
        "gradient_accumulation_steps": training.accumulation_steps,
        "gradient_clipping": training.clip_norm if training.zero_stage else 0.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        # fp32 weights and bf16 products, as the other backends do it. The modules named "safe", by
        # default every nn.Linear, would have weights gathered and gradients reduced in bf16.
        "torch_autocast": {
            "enabled": training.precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        },
    }


def locate_fragments(zero: Any, names: dict[int, str], stage: int, rank: int) -> Iterator[Fragment]:
    """Where each parameter lies in the flat fp32 partitions of this worker."""
    if stage in (1, 2):
        for index, group in enumerate(zero.round_robin_bit16_groups):
            begin = zero.partition_size[index] * rank
            end, flat = (
                begin + zero.partition_size[index],
                zero.single_partition_of_fp32_groups[index],
            )
            position = 0
            for parameter in group:
                size = parameter.numel()
                start = min(max(begin - position, 0), size)
                stop = max(start, min(end - position, size))
                offset = max(0, position - begin) if start < stop else 0
                yield Fragment(names[id(parameter)], start, stop, flat, offset)
                position += size
    elif stage == 3:
        for group, flat in zip(zero.fp16_groups, zero.fp32_partitioned_groups_flat, strict=True):
            offset = 0
            for parameter in group:
                part = parameter.ds_tensor.ds_numel
                start = min(part * rank, parameter.ds_numel)
                stop = min(start + part, parameter.ds_numel)
                yield Fragment(names[id(parameter)], start, stop, flat, offset)
                offset += part
