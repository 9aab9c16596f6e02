"""The first values of the parameters: the same for every variant of one seed, wherever it runs."""

import hashlib
import math

import numpy as np
import torch
from torch import nn

# GPT-2 (openai/gpt-2 model.py, `w_init_stdev=0.02`), Mixtral's initializer_range, the seed study.
STANDARD_DEVIATION = 0.02


def initialize(model: nn.Module, *, seed: int) -> None:
    """Draw every parameter anew, in place, from a generator of its own.

    The generator is Philox with the key `SHA-256(f"{seed}:{name}")[:16]`, so a value depends on
    the seed, the parameter's name and its shape and on nothing else: not on other parameters,
    their order, the device, the dtype (up to rounding), the number of threads or of workers.
    NumPy draws, because PyTorch's CPU normals change with the instruction set of the processor.

    ======================================  ==================================================
    parameter                               distribution
    ======================================  ==================================================
    norms                                   1
    `*.attention.output.weight`, `*.down*`  N(0, (0.02 / sqrt(2 num_layers))^2)
    every other matrix                      N(0, 0.02^2)
    ======================================  ==================================================

    0.02 is GPT-2's and the seed study's. The smaller spread of what is added to the residual
    stream, by both halves of each of the layers, is GPT-2's ("Language Models are Unsupervised
    Multitask Learners", section 2.3); the seed study has 0.02 there too.

    Args:
        model: a MoETransformer, not yet wrapped by DDP, FSDP or DeepSpeed, which change names
            or shapes.
        seed: at least 0.

    Raises:
        ValueError: the seed is negative, or the model has been wrapped or sharded.
    """
    if seed < 0:
        raise ValueError(f"seed ({seed}) must be at least 0")
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "num_layers"):
        raise ValueError(
            f"cannot initialize a {type(model).__name__}: give the MoETransformer itself, "
            f"before DDP, FSDP or DeepSpeed wraps it"
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.fill_(1)
                continue
            deviation = STANDARD_DEVIATION
            if ".down" in name or name.endswith(".attention.output.weight"):
                deviation /= math.sqrt(2 * config.num_layers)
            values = _standard_normal(parameter.shape, seed=seed, name=name) * deviation
            parameter.copy_(torch.from_numpy(values))


def _standard_normal(shape: tuple[int, ...], *, seed: int, name: str) -> np.ndarray:
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.standard_normal(shape, dtype=np.float32)


def parameters_sha256(model: nn.Module) -> str:
    """SHA-256 of all parameters: name, shape and little-endian fp32 bytes, sorted by name.

    Two trials may be compared in pairs only when they began with the same hash. Parameters in a
    narrower dtype are widened first, so a model gives the same hash in fp32 and, if no value was
    rounded, in bf16.
    """
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(values.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()
