"""The optimizers of embedding rows: what each keeps of a row, and what it takes in memory.

Shapes: D dim.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from esmm_spark.contracts.train_config import RowOptimizerName, Train

BETA_1, BETA_2 = 0.9, 0.999


class RowOptimizer(NamedTuple):
    """How rows are stepped: those of a step's tokens alone, by the sum g_r of their gradients.

        g_r <- g_r + l2 * row_r                                                first of all
        sgd               row_r -= rate * g_r
        rowwise_adagrad   a_r += mean_d(g_rd^2);   row_r -= rate * g_r / (sqrt(a_r) + eps)
        adam              m_r <- .9 m_r + .1 g_r;   v_r <- .999 v_r + .001 g_r^2
                          row_r -= rate * (m_r / (1 - .9^t)) / (sqrt(v_r / (1 - .999^t)) + eps)

    Adam is the lazy one: t counts all steps, and the moments of a row wait unchanged for its next token, as
    in torch's `SparseAdam` (which adds eps before v's bias is corrected, Adam's paper after it).

    Attributes:
        learning_rate: rate.
        eps: of Adagrad and Adam.
        name: which one.
        l2: the weight of an L2 penalty, l2 / 2 * |row_r|^2 for each row that a step touches.

    Source: Duchi et al., "Adaptive Subgradient Methods", JMLR 2011; row-wise: Gupta et al. 2014 and
        fbgemm_gpu's `EXACT_ROWWISE_ADAGRAD`. Kingma and Ba, "Adam", ICLR 2015, algorithm 1. L2 on touched
        rows: Zhou et al., "Deep Interest Network", KDD 2018, section 5.1, without its division by how often
        a row occurs.
    """

    learning_rate: float
    eps: float = 1e-8
    name: RowOptimizerName = "rowwise_adagrad"
    l2: float = 0.0

    @property
    def title(self) -> str:
        """The optimizer's name in a sentence."""
        return {"rowwise_adagrad": "Adagrad", "adam": "Adam", "sgd": "SGD"}[self.name]

    def state_shapes(self, dim: int) -> Mapping[str, tuple[int, ...]]:
        """Returns the shape of each tensor that is kept of a row, () for a number, by its name in files."""
        if self.name == "rowwise_adagrad":
            return {"accumulator": ()}
        return {"first_moment": (dim,), "second_moment": (dim,)} if self.name == "adam" else {}

    def state_width(self, dim: int) -> int:
        """Returns how many float32 are kept of a row beside its own D."""
        return sum(math.prod(shape) for shape in self.state_shapes(dim).values())


def row_optimizer_of(train: Train) -> RowOptimizer:
    """Returns the optimizer of a config's embedding."""
    return RowOptimizer(
        train.embedding_learning_rate, train.embedding_eps, train.embedding_optimizer, train.embedding_l2
    )
