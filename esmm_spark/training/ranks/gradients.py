"""Sums the dense part's gradients over the ranks, in time for the optimizer's step."""

import torch
from torch import Tensor, nn

from esmm_spark.collectives.interface import Pending
from esmm_spark.training.ranks.cluster import Cluster


class GradientSum:
    """Sums the gradients of a model's parameters over the ranks, in every step once.

    Where the order of operations may differ between ranks, a parameter's sum starts in the backward pass, as
    soon as its gradient is there.

    Args:
        model: alike on all ranks.
        cluster: the ranks.
    """

    def __init__(self, model: nn.Module, cluster: Cluster) -> None:
        self._collectives = cluster.collectives
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._started: dict[str, Pending[Tensor]] = {}
        if self._collectives is not None and self._collectives.matched_by_name:
            for name, parameter in self._parameters.items():
                parameter.register_post_accumulate_grad_hook(lambda _, name=name: self._start(name))

    def finish(self) -> None:
        """Waits until every parameter's `grad` is the sum over the ranks; all of them call this together.

        A rank whose loss doesn't depend on a parameter adds zeros.
        """
        if self._collectives is None:
            return
        for name in self._parameters:
            if name not in self._started:
                self._start(name)
        for pending in self._started.values():
            pending.result()
        self._started.clear()

    def _start(self, name: str) -> None:
        assert self._collectives is not None
        assert name not in self._started, name
        parameter = self._parameters[name]
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        self._started[name] = self._collectives.sum(parameter.grad, f"gradient.{name}")
