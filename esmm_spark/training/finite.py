"""Checks that parameters and optimizer states are finite.

A finite loss may have an infinite gradient, and an infinite state is worse than an infinite parameter:
row-wise Adagrad divides by it, so its row never moves again, and nothing else shows it.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from esmm_spark.contracts.errors import NonFiniteLossError
from esmm_spark.feed.batch import Batch
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.esmm import Esmm

# Sums and comparisons make copies of what they take.
_ROWS_AT_ONCE = 1 << 18
_GROUPS_SHOWN = 5


def non_finite_loss(loss: float, where: str, batch: Batch, last_checkpoint: str) -> NonFiniteLossError:
    """Returns the error that names the groups of a batch whose loss is not finite, and what to do about it.

    Args:
        loss: of the batch.
        where: step and rank.
        batch: this rank's.
        last_checkpoint: where the last good one lies, in words.
    """
    keys = batch.group_keys
    shown = f"{len(keys)} groups: {', '.join(keys[:_GROUPS_SHOWN])}{' ...' if keys[_GROUPS_SHOWN:] else ''}"
    remedy = "lower train.learning_rate, or look at these groups"
    missing = [f"{name} in {number:,}" for name, number in batch.num_missing().items() if number]
    if missing:
        remedy += f": the loss reads carried columns that some impressions lack ({', '.join(missing)})"
    return NonFiniteLossError(f"the loss is {loss} at {where}, among {shown}; {last_checkpoint}: {remedy}")


@torch.no_grad()
def not_finite(arena: EmbeddingArena, model: Esmm, optimizer: Optimizer) -> str:
    """Returns what became NaN or infinite on this rank, for a message; empty if nothing did.

    Args:
        arena: this rank's rows and their optimizer's state.
        model: the dense part with its buffers.
        optimizer: Adam with its moments.
    """
    for what, tensor in _all(arena, model, optimizer):
        rows = tensor.reshape(1) if tensor.dim() == 0 else tensor
        broken = sum(_broken_rows(block) for block in rows.split(_ROWS_AT_ONCE))
        if broken:
            return f"{what} became NaN or infinite in {broken:,} of {len(rows):,} rows"
    return ""


def _broken_rows(block: Tensor) -> int:
    """Returns how many rows of a block hold a number that isn't finite."""
    # One number is finite only if all that it sums are; large ones may also add up to infinity.
    if math.isfinite(float(block.sum())):
        return 0
    return int((~block.isfinite()).reshape(len(block), -1).any(1).sum())


def _all(arena: EmbeddingArena, model: Esmm, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    yield "a parameter of the embedding", arena.local_rows()
    for key, tensor in arena.state().items():
        yield f"the embedding's {arena.optimizer.title} state ({key})", tensor
    for name, parameter in model.named_parameters():
        yield f"parameter {name}", parameter
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                yield f"Adam's {key} of {name}", value
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            yield f"buffer {name}", buffer
