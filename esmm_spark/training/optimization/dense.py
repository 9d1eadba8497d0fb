"""The optimizer of the dense part: AdamW, and the clipping of its gradients over all ranks."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from esmm_spark.contracts.train_config import Train

# The last part of their names.
_NOT_DECAYED = ("bias", "gain", "slopes")


def dense_optimizer(model: nn.Module, train: Train) -> torch.optim.Optimizer:
    """Returns AdamW over a model's parameters; without `train.weight_decay` it is Adam to the bit.

    Matrices decay. What has one dimension doesn't: biases, the gains of normalisation layers, PReLU's slopes;
    nor do those of perceptrons side by side, which are known by their names.

    Args:
        model: the dense part.
        train: its learning rate and weight decay.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2. Which
        parameters decay: Devlin et al., "BERT", NAACL 2019 (its optimizer leaves out biases and layer norm);
        slopes: He et al., "Delving Deep into Rectifiers", ICCV 2015, section 2.1.
    """
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.dim() > 1 and name.rpartition(".")[2] not in _NOT_DECAYED
        (decayed if is_matrix else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": train.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=train.learning_rate, fused=True
    )


def step_clipped(optimizer: torch.optim.Optimizer, most_norm: float | None) -> None:
    """Steps with gradients scaled down to a global norm: that of all of them after the sum over ranks.

        g <- g * min(1, most_norm / (|g| + 1e-6)),   |g|: the L2 norm of all gradients as one vector

    The sum is the same on all ranks to the bit, so they scale alike. Rows of the embedding take no part: they
    are stepped within the backward pass, each by its own optimizer's measure of its gradient.

    Args:
        optimizer: of the dense part, its gradients summed over ranks.
        most_norm: None leaves the gradients as they are.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1;
        `torch.nn.utils.clip_grad_norm_`.
    """
    if most_norm is not None:
        nn.utils.clip_grad_norm_(_stepped(optimizer), most_norm)
    optimizer.step()


def _stepped(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]
