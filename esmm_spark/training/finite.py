"""Whether all that is trained, and the optimizers' state behind it, is still finite.

A finite loss may have an infinite gradient, and an infinite state is worse than an infinite parameter:
row-wise Adagrad divides by it, so its row never moves again, and nothing else shows it.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from esmm_spark.model.arena import EmbeddingArena
from esmm_spark.model.esmm import Esmm


@torch.no_grad()
def not_finite(arena: EmbeddingArena, model: Esmm, optimizer: Optimizer) -> str:
    """Returns what became NaN or infinite on this rank, for a message; empty if nothing did.

    Args:
        arena: this rank's rows and their Adagrad state.
        model: the dense part with its buffers.
        optimizer: Adam with its moments.
    """
    for what, tensor in _all(arena, model, optimizer):
        # One number is finite only if all that it sums are; in float64, as large ones may add up.
        if not math.isfinite(float(tensor.sum(dtype=torch.float64))):
            broken = ~tensor.isfinite().reshape(len(tensor) if tensor.dim() else 1, -1)
            return f"{what} became NaN or infinite in {int(broken.any(1).sum()):,} of {len(broken):,} rows"
    return ""


def _all(arena: EmbeddingArena, model: Esmm, optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    yield "a parameter of the embedding", arena.local_rows()
    yield "the embedding's Adagrad state", arena.accumulator()
    for name, parameter in model.named_parameters():
        yield f"parameter {name}", parameter
        for key, value in optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                yield f"Adam's {key} of {name}", value
    for name, buffer in model.named_buffers():
        if buffer.is_floating_point():
            yield f"buffer {name}", buffer
