"""What a model costs: its parameters, and the floating-point operations of a training step."""

from torch import nn

from models.config import ModelConfig


def num_parameters(model: nn.Module) -> int:
    """All parameters; a tied head counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def num_active_parameters(model: nn.Module) -> int:
    """The parameters that one token meets: of the experts, only the k that it is sent to."""
    config: ModelConfig = model.config  # type: ignore[assignment]
    active = 0
    for name, parameter in model.named_parameters():
        share = config.experts_per_token / config.num_experts if ".experts." in name else 1
        active += round(parameter.numel() * share)
    return active


def training_flops_per_token(config: ModelConfig, *, vocab_size: int, sequence_length: int) -> int:
    """Floating-point operations of a forward and backward pass, for each token.

    Every product of a token with a matrix of P elements takes 2 P forward and 4 P backward.
    Attention multiplies queries by keys and probabilities by values, 2 T D each forward and
    twice that backward, counted for the full square of T x T as in PaLM (arXiv 2204.02311,
    appendix B) and torch.utils.flop_counter: a causal kernel does about half, and recomputes
    some. The embedding is a look-up and counts nothing; nor do element-wise operations.

    Args:
        config: the architecture.
        vocab_size: number of different token ids.
        sequence_length: tokens of one window, T.
    """
    size = config.hidden_size
    matrices = 3 if config.activation == "swiglu" else 2
    feed_forward = matrices * size * config.feed_forward_size
    if config.feed_forward == "moe":
        feed_forward = config.experts_per_token * feed_forward + size * config.num_experts
    attention = 4 * size * size
    scores = 2 * sequence_length * size
    forward = config.num_layers * (attention + feed_forward + scores) + vocab_size * size
    return 3 * 2 * forward
