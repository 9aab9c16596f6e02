"""NorMuon: the neurons of an orthogonalised update get equal steps over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EPSILON = 1e-10  # the authors' code


def normalize_neurons(
    update: Tensor,
    second_moment: Tensor,
    *,
    beta2: float,
    rms: float | None,
    neurons_are_columns: bool,
) -> Tensor:
    """`V <- b2 V + (1 - b2) mean(O^2)`, `O' = O / (sqrt(V) + eps)`, then `O' |O| / |O'|`.

    The mean is over a neuron's inputs. There is no correction of the bias of V: the last factor
    takes it away.

    Source: Li et al. 2025, arXiv 2510.05491. Algorithm 1 gives the update a root mean square of
    0.2 (`rms`), the authors' code the norm that it had (`rms` None).

    Args:
        update: O, `(k, m, n)`.
        second_moment: V, `(k, neurons)`, float32, changed in place.
        beta2: Its decay.
        rms: The root mean square of the result; None keeps O's norm.
        neurons_are_columns: Whether a neuron is a column instead of a row.

    Returns:
        `(k, m, n)`, in the dtype of `update`.
    """
    wide = update.float()
    inputs = -2 if neurons_are_columns else -1
    second_moment.lerp_(wide.square().mean(inputs), 1.0 - beta2)
    normalized = wide / (second_moment.sqrt() + _EPSILON).unsqueeze(inputs)
    size = torch.linalg.matrix_norm(normalized, keepdim=True) + _EPSILON
    if rms is None:
        wanted = torch.linalg.matrix_norm(wide, keepdim=True)
    else:
        wanted = torch.full_like(size, rms * math.sqrt(update[0].numel())) if len(update) else size
    scaled: Tensor = normalized * (wanted / size)
    return scaled.to(update.dtype)
