"""The decoder-only transformer that every variant trains.

Shape suffixes: B sequences, T tokens of a sequence, D hidden size, E experts, L layers.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.attention import Attention, LogitMeter, rotary_rotations
from models.config import ModelConfig
from models.head import Head
from models.layers import FeedForward, RMSNorm
from models.moe import Experts, MoE, RouterReport


class ModelOutput(NamedTuple):
    """What one batch yields. Every field is the mean over the batch, or a count."""

    loss: Tensor
    """cross_entropy + auxiliary_loss: what is differentiated."""
    cross_entropy: Tensor
    """Mean over tokens, in nats, fp32."""
    auxiliary_loss: Tensor
    """The weighted load-balancing and z losses, summed over layers; 0 for a dense model."""
    num_correct: Tensor
    """Tokens whose likeliest continuation is the target, int64."""
    router_load: Tensor
    """(MoE layers, E): the fraction of the layer's assignments that each expert got. Detached."""


BlockResult = tuple[Tensor, RouterReport | None]


class Block(nn.Module):
    """`x + attention(norm(x))`, then `x + feed_forward(norm(x))`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        size, gated = config.hidden_size, config.activation == "swiglu"
        self.attention_norm = RMSNorm(size, epsilon=config.norm_epsilon)
        self.attention = Attention(size, num_heads=config.num_heads)
        self.feed_forward_norm = RMSNorm(size, epsilon=config.norm_epsilon)
        self.feed_forward: nn.Module
        if config.feed_forward == "moe":
            self.feed_forward = MoE(
                size,
                inner_size=config.feed_forward_size,
                gated=gated,
                num_experts=config.num_experts,
                experts_per_token=config.experts_per_token,
            )
        else:
            self.feed_forward = FeedForward(size, inner_size=config.feed_forward_size, gated=gated)
        self.compiled: Callable[[Tensor, Tensor], BlockResult] | None = None
        self.checkpointed = False

    def forward(self, x_BTD: Tensor, rotation_T1K2: Tensor) -> BlockResult:
        """The stream and the router's report, by whichever way the block is set to run.

        Compilation and checkpointing wrap what is inside of the block, not the block: names stay as
        they are, and hooks on the block (FSDP's, DDP's) run once, outside of both.
        """
        run = self.compiled or self.run
        if not (self.checkpointed and torch.is_grad_enabled()):
            return run(x_BTD, rotation_T1K2)
        # Nothing here draws random numbers; on a GPU to save their state is a wait of the host.
        result: BlockResult = checkpoint(
            run, x_BTD, rotation_T1K2, use_reentrant=False, preserve_rng_state=False
        )
        return result

    def run(self, x_BTD: Tensor, rotation_T1K2: Tensor) -> BlockResult:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), rotation_T1K2)
        result = self.feed_forward(self.feed_forward_norm(x_BTD))
        y_BTD, report = result if isinstance(result, tuple) else (result, None)
        return x_BTD + y_BTD, report


class MoETransformer(nn.Module):
    """A decoder-only transformer with routed experts, or with dense feed-forwards.

    Its parameters hold PyTorch's defaults until `models.initialize` draws them.

    Names to route by: `embedding.weight`, `head.weight` (absent when tied), `*norm*`,
    `*.attention.qkv.weight`, `*.attention.output.weight`, `*.router.weight`,
    `*.experts.{up,gate,down}` or `*.feed_forward.{up,gate,down}.weight`. All 2-D weights are
    (out, in); the expert stacks are (E, in, out). `qkv` is three matrices, stacked along dim 0.

    Args:
        config: the architecture.
        vocab_size: number of different token ids.

    Raises:
        ValueError: vocab_size is less than 1.
    """

    def __init__(self, config: ModelConfig, *, vocab_size: int) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"vocab_size ({vocab_size}) must be at least 1")
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = RMSNorm(config.hidden_size, epsilon=config.norm_epsilon)
        self.head = Head(config.hidden_size, vocab_size=vocab_size)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight  # type: ignore[assignment]

    def compile_blocks(self, *, backend: str = "inductor") -> None:
        """Run every block through `torch.compile`; weights, names and results stay the same.

        All blocks share one compilation for each shape of a batch, because they are the same code
        on other weights. To rounding the results are those of the blocks as written.

        Args:
            backend: the compiler of `torch.compile`; "eager" and "aot_eager" need no other program.
        """
        for module in self.modules():
            if isinstance(module, Experts):
                module.leave_loop_uncompiled()
        for block in self._typed_blocks():
            block.compiled = torch.compile(block.run, backend=backend, dynamic=False)

    def checkpoint_blocks(self) -> None:
        """Keep only the input of every block, and run it again in the backward pass.

        A third more work for a fraction of the memory of activations; the same results, bit for bit
        (Chen et al., arXiv 1604.06174).
        """
        for block in self._typed_blocks():
            block.checkpointed = True

    def measure_attention(self) -> dict[str, Callable[[], Tensor]]:
        """From now on measure the largest attention logit of every head while training.

        Returns:
            Name of the fused weight (queries, keys, values, each by head) -> what takes the `(H,)`
            largest logits since the last time.
        """
        meters = {}
        for index, block in enumerate(self._typed_blocks()):
            block.attention.meter = LogitMeter(block.attention.num_heads)
            meters[f"blocks.{index}.attention.qkv.weight"] = block.attention.meter.take
        return meters

    def _typed_blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(self, tokens_BT: Tensor, targets_BT: Tensor) -> ModelOutput:
        """The losses of predicting `targets_BT` (int64) from `tokens_BT` (int64)."""
        x_BTD, reports = self._hidden_states(tokens_BT)
        cross_entropy, num_correct = self.head(x_BTD, targets_BT)
        auxiliary_loss = torch.zeros_like(cross_entropy)
        loads = [cross_entropy.new_empty(0, self.config.num_experts)]
        for report in reports:
            auxiliary_loss = (
                auxiliary_loss
                + self.config.load_balancing_weight * report.load_balancing
                + self.config.router_z_weight * report.z
            )
            loads.append(report.count_E.unsqueeze(0) / report.count_E.sum())
        return ModelOutput(
            loss=cross_entropy + auxiliary_loss,
            cross_entropy=cross_entropy,
            auxiliary_loss=auxiliary_loss,
            num_correct=num_correct,
            router_load=torch.cat(loads),
        )

    def logits(self, tokens_BT: Tensor) -> Tensor:
        """The logits (B, T, V) of the token that follows each token."""
        x_BTD, _ = self._hidden_states(tokens_BT)
        logits_BTV: Tensor = self.head(x_BTD)
        return logits_BTV

    def _hidden_states(self, tokens_BT: Tensor) -> tuple[Tensor, list[RouterReport]]:
        x_BTD = self.embedding(tokens_BT)
        if self.config.scale_embeddings:
            x_BTD = x_BTD * math.sqrt(self.config.hidden_size)
        rotation_T1K2 = rotary_rotations(
            x_BTD, head_size=self.config.head_size, theta=self.config.rope_theta
        )
        reports: list[RouterReport] = []
        for block in self.blocks:
            x_BTD, report = block(x_BTD, rotation_T1K2)
            if report is not None:
                reports.append(report)
        return self.final_norm(x_BTD), reports


def build(config: ModelConfig, *, vocab_size: int) -> MoETransformer:
    """The transformer, for the registry."""
    return MoETransformer(config, vocab_size=vocab_size)
