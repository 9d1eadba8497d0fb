"""The dense part's optimizer and the clipping of its gradients against torch's own and plain float64."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from esmm_spark.contracts.train_config import Train
from esmm_spark.training.optimization.dense import dense_optimizer, step_clipped

STEPS = 20


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.PReLU(7, init=0.25), nn.Linear(7, 1))


def train_steps(model: nn.Module, step: Callable[[], None], zero: Callable[[], None]) -> None:
    generator = torch.Generator().manual_seed(8)
    for _ in range(STEPS):
        x = torch.randn(30, 5, generator=generator).to(next(model.parameters()).dtype)
        zero()
        (model(x).squeeze(1) - x[:, 0]).square().sum().backward()
        step()


def parameters_of(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def plain_adamw(model: nn.Module, train: Train) -> Callable[[], None]:
    """Algorithm 2 of "Decoupled Weight Decay Regularization", clipped as `train` says, in float64."""
    first = [torch.zeros_like(parameter) for parameter in model.parameters()]
    second = [torch.zeros_like(parameter) for parameter in model.parameters()]
    done = [0]

    @torch.no_grad()
    def step() -> None:
        done[0] += 1
        gradients = [parameter.grad for parameter in model.parameters()]
        norm = np.sqrt(sum(float((gradient**2).sum()) for gradient in gradients if gradient is not None))
        scale = min(1.0, (train.gradient_clip_norm or np.inf) / (norm + 1e-6))
        for parameter, m, v in zip(model.parameters(), first, second, strict=True):
            assert parameter.grad is not None
            g = scale * parameter.grad
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g**2)
            m_hat, v_hat = m / (1 - 0.9 ** done[0]), v / (1 - 0.999 ** done[0])
            decay = train.weight_decay if parameter.dim() == 2 else 0.0
            parameter.sub_(train.learning_rate * (m_hat / (v_hat.sqrt() + 1e-8) + decay * parameter))

    return step


def test_without_weight_decay_it_is_adam_to_the_bit() -> None:
    ours, theirs = network(), network()
    optimizer = dense_optimizer(ours, Train(learning_rate=0.01))
    train_steps(ours, lambda: step_clipped(optimizer, None), optimizer.zero_grad)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    train_steps(theirs, lambda: [adam.step(), None][1], adam.zero_grad)
    assert all(map(torch.equal, parameters_of(ours), parameters_of(theirs)))


def test_weight_decay_is_torchs_adamw_on_matrices_and_leaves_out_the_rest() -> None:
    ours, theirs = network(), network()
    optimizer = dense_optimizer(ours, Train(learning_rate=0.01, weight_decay=0.5))
    train_steps(ours, lambda: step_clipped(optimizer, None), optimizer.zero_grad)
    groups = [
        {"params": [p], "weight_decay": 0.5 if name in ("0.weight", "3.weight") else 0.0}
        for name, p in theirs.named_parameters()
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01)
    train_steps(theirs, lambda: [adamw.step(), None][1], adamw.zero_grad)
    for found, expected in zip(parameters_of(ours), parameters_of(theirs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


# Norms here lie between 2 and 60: some steps are clipped at 8, all at 0.1.
@pytest.mark.parametrize("most_norm", [0.1, 8.0])
def test_clipped_and_decayed_steps_equal_a_plain_float64_loop(most_norm: float) -> None:
    settings = Train(learning_rate=0.01, weight_decay=0.5, gradient_clip_norm=most_norm)
    ours, theirs = network(), copy.deepcopy(network()).double()
    optimizer = dense_optimizer(ours, settings)
    train_steps(ours, lambda: step_clipped(optimizer, most_norm), optimizer.zero_grad)
    train_steps(theirs, plain_adamw(theirs, settings), theirs.zero_grad)
    for found, expected in zip(parameters_of(ours), parameters_of(theirs), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-5)
