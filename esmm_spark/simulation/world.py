"""Draws blocks of groups: contexts, their impressions, clicks and conversions.

Everything about a block follows from (preset, seed, stream, block), whoever draws it and in whatever order.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from esmm_spark.simulation.catalogue import Catalogue
from esmm_spark.simulation.contexts import ContextModel, Contexts
from esmm_spark.simulation.impressions import ImpressionModel, Impressions
from esmm_spark.simulation.presets import Preset
from esmm_spark.simulation.randomness import block_generator
from esmm_spark.simulation.truth import DrawnLabels, TrueLogits, TruthModel, calibrate, label

# Groups that are drawn at once: enough for numpy to be busy, few enough to stay in a few MB.
GROUPS_PER_BLOCK = 256

# Streams 0 and 1 are the splits.
_CALIBRATION_STREAM = 2
_CALIBRATION_BLOCKS = 48


@dataclass(frozen=True)
class DrawnBlock:
    """The groups of one block."""

    contexts: Contexts
    impressions: Impressions
    labels: DrawnLabels


class World:
    """The world of one preset and one seed.

    Args:
        preset: its numbers.
        seed: 0 <= seed < 2^63.
        intercepts: of the click and the conversion logit, as `calibrated` finds them.
    """

    def __init__(self, preset: Preset, seed: int, intercepts: tuple[float, float]) -> None:
        self._seed = seed
        self._intercepts = intercepts
        catalogue = Catalogue(preset, seed)
        self._contexts = ContextModel(catalogue, preset, seed)
        self._impressions = ImpressionModel(catalogue, preset)
        self._truth = TruthModel(preset, seed)

    @classmethod
    def calibrated(cls, preset: Preset, seed: int) -> Self:
        """Returns the world whose intercepts give the preset's rates, found on a stream of their own.

        The sample leaves the rates uncertain by 1 to 2%. Costs one to four seconds: call it once on the
        driver and hand the world to the workers.
        """
        uncalibrated = cls(preset, seed, (0.0, 0.0))
        parts = [uncalibrated._logits(_CALIBRATION_STREAM, block) for block in range(_CALIBRATION_BLOCKS)]
        sample = TrueLogits(
            np.concatenate([part.click for part in parts]),
            np.concatenate([part.conversion for part in parts]),
        )
        return cls(preset, seed, calibrate(sample, preset.ctr, preset.cvr))

    def draw(self, stream: int, block: int, num_groups: int = GROUPS_PER_BLOCK) -> DrawnBlock:
        """Returns block `block` of a stream, of `num_groups` groups."""
        random = block_generator(self._seed, stream, block)
        contexts = self._contexts.draw(random, num_groups)
        impressions = self._impressions.draw(random, contexts)
        logits = self._truth.logits(contexts, impressions)
        return DrawnBlock(contexts, impressions, label(logits, self._intercepts, random))

    def num_impressions(self, stream: int, block: int, num_groups: int = GROUPS_PER_BLOCK) -> int:
        """Returns how many impressions `draw` with the same arguments has, without drawing them."""
        sizes, _ = self._contexts.sizes(block_generator(self._seed, stream, block), num_groups)
        return int(sizes.sum())

    def _logits(self, stream: int, block: int) -> TrueLogits:
        random = block_generator(self._seed, stream, block)
        contexts = self._contexts.draw(random, GROUPS_PER_BLOCK)
        return self._truth.logits(contexts, self._impressions.draw(random, contexts))
