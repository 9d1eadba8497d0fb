"""Dropout whose masks follow from the impression alone, not from who computes it.

Shapes: N impressions, H units, E perceptrons side by side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from esmm_spark.model.kernels.mixing import STEP, mix64, signed

# A mask is drawn with 16 bits a unit, four from each hash.
_LEVELS = 1 << 16
_UNITS_PER_HASH = 4


class KeyedDropout(nn.Module):
    """Inverted dropout: in training each unit is 0 with probability p, the others are divided by 1 - p.

    Which ones are 0 is a hash of the impression's key, the layer and the unit, so that a resumed run, and any
    number of ranks, drop out the same. Without keys (`draw_by`) they are drawn from torch's random state.

    Args:
        p: a probability below 1; taken to 16 bits.

    Source: Srivastava et al., "Dropout", JMLR 2014; random numbers by counter: Salmon et al., "Parallel
        Random Numbers: As Easy as 1, 2, 3", SC 2011.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self._dropped = min(round(p * _LEVELS), _LEVELS - 1)
        self._keys: Tensor | None = None

    @property
    def p(self) -> float:
        """The probability."""
        return self._dropped / _LEVELS

    def set_keys(self, keys: Tensor | None) -> None:
        """Sets the keys [N] int64 of the impressions to come, different ones for each step and layer."""
        self._keys = keys

    def forward(self, x: Tensor) -> Tensor:
        """Returns x [N, H] or [E, N, H] with units set to 0; in evaluation mode x itself."""
        if not self.training:
            return x
        if self._keys is None:
            return nn.functional.dropout(x, self.p)
        return x * self._mask(x).to(x.dtype)

    def _mask(self, x: Tensor) -> Tensor:
        """Returns 0 or 1 / (1 - p), of the shape of x."""
        assert self._keys is not None
        assert len(self._keys) == x.shape[-2], (len(self._keys), x.shape)
        num_units = x.shape[-1] * (len(x) if x.dim() == 3 else 1)
        counters = torch.arange(1, -(-num_units // _UNITS_PER_HASH) + 1, device=x.device) * STEP
        bits = mix64(self._keys[:, None] + counters).view(torch.int16)[:, :num_units]
        mask = (bits >= self._dropped - _LEVELS // 2) * (1 / (1 - self.p))
        return mask if x.dim() == 2 else mask.unflatten(1, (len(x), -1)).transpose(0, 1)

    def extra_repr(self) -> str:
        """Returns the arguments that torch prints behind the class's name."""
        return f"p={self.p:g}"


def draw_by(dropouts: Sequence[KeyedDropout], keys: Tensor) -> None:
    """Makes the layers of a model draw by the keys [N] int64 of a step's impressions, each its own masks."""
    for layer, dropout in enumerate(dropouts, start=1):
        dropout.set_keys(mix64(keys + signed(layer * STEP)))
