"""True pCTR and pCVR of each simulated impression: logistic in latent factors of users and items.

    click_logit      = intercept + click_scale      * (profile + item + taste . item + crosses + position)
    conversion_logit = intercept + conversion_scale * (the same with other factors, no position)

An id's conversion factor is SHARED times its click factor plus an independent rest. So whatever gets clicked
more also converts more: clicked impressions are no fair sample of all impressions, which is the selection
bias that ESMM is about, and a representation learned from clicks helps to predict conversions. A user's taste
comes from the history (109_14 and 127_14), nothing from the user's id: it can be known for users who are only
in the test split.
"""

from dataclasses import dataclass

import numpy as np

from esmm_spark.runtime.arrays import Float64s, Int64s
from esmm_spark.simulation.contexts import Contexts
from esmm_spark.simulation.impressions import CROSSES, Impressions
from esmm_spark.simulation.presets import Preset
from esmm_spark.simulation.randomness import IdHash

# Correlation of an id's click factor and conversion factor.
SHARED = 0.8

# Dimensions of the taste that meets the item's factors.
_TASTE_DIMS = 2
_TASTE = 0.5
_BIAS = 0.4

# Field -> standard deviation of its factors' share of a logit.
_ITEM_EFFECTS = {"206": 0.5, "207": 0.4, "216": 0.35, "205": 0.25}
_PROFILE_EFFECTS = {"122": 0.3, "126": 0.15, "129": 0.15}

# History field -> its share of the taste.
_TASTE_FIELDS = {"109_14": 1.0, "127_14": 0.5}

# Cross -> effect of one unit of its weight on the click logit and on the conversion logit.
_CROSS_EFFECTS = {"508": (0.2, 0.1), "509": (0.4, 0.6), "702": (0.2, 0.4), "853": (0.05, 0.05)}
_CROSS_CAP = 3.0

_POSITION_EFFECTS = np.array([0.4, 0.0, -0.4])


@dataclass(frozen=True)
class DrawnLabels:
    """Clicks and conversions drawn for impressions, and their probabilities; arrays [N].

    Attributes:
        pctr: P(click | impression).
        pcvr: P(conversion | click, impression), also of impressions that nobody clicked.
        click: 0 or 1, int64.
        conversion_if_clicked: 0 or 1, int64: what a click leads or would have led to.
    """

    pctr: Float64s
    pcvr: Float64s
    click: Int64s
    conversion_if_clicked: Int64s

    @property
    def conversion(self) -> Int64s:
        """What the log shows [N]: a conversion only after a click."""
        return self.click * self.conversion_if_clicked


@dataclass(frozen=True)
class TrueLogits:
    """Logits [N] before sigmoid."""

    click: Float64s
    conversion: Float64s

    def __add__(self, other: "TrueLogits") -> "TrueLogits":
        return TrueLogits(self.click + other.click, self.conversion + other.conversion)


class TruthModel:
    """Computes logits without their intercepts, which `calibrate` finds."""

    def __init__(self, preset: Preset, seed: int) -> None:
        self._preset = preset
        self._click = IdHash(seed, "click factor")
        self._own = IdHash(seed, "conversion factor")
        self._taste = IdHash(seed, "taste")

    def logits(self, contexts: Contexts, impressions: Impressions) -> TrueLogits:
        """Returns the logits of all impressions [N] of a block."""
        context, preset = impressions.context, self._preset
        terms = self._item_terms(impressions) + _cross_terms(impressions)
        profile = self._profile_terms(contexts)
        terms += TrueLogits(profile.click[context], profile.conversion[context])
        taste = self._tastes(contexts)[context]
        terms += self._taste_terms(taste, impressions)
        terms += TrueLogits(_POSITION_EFFECTS[impressions.position], np.zeros(len(context)))
        return TrueLogits(preset.click_scale * terms.click, preset.conversion_scale * terms.conversion)

    def _factors(self, field: str, identifier: Int64s, dim: int = 0) -> TrueLogits:
        """Returns each id's click and conversion factors [M], correlated by SHARED; 0 where the id is -1."""
        kind = np.int64(int(field) * 100 + dim)
        known = identifier >= 0
        click = self._click.factor(identifier, kind) * known
        own = self._own.factor(identifier, kind) * known
        return TrueLogits(click, SHARED * click + np.sqrt(1.0 - SHARED**2) * own)

    def _item_terms(self, impressions: Impressions) -> TrueLogits:
        items = impressions.items
        ids = {"205": items.item, "206": items.category, "207": items.shop, "216": items.brand}
        return self._sum_of_factors(ids, _ITEM_EFFECTS)

    def _profile_terms(self, contexts: Contexts) -> TrueLogits:
        return self._sum_of_factors(contexts.profile, _PROFILE_EFFECTS)

    def _sum_of_factors(self, ids: dict[str, Int64s], effects: dict[str, float]) -> TrueLogits:
        size = len(next(iter(ids.values())))
        total = TrueLogits(np.zeros(size), np.zeros(size))
        for field, effect in effects.items():
            factors = self._factors(field, ids[field])
            total += TrueLogits(effect * factors.click, effect * factors.conversion)
        return total

    def _tastes(self, contexts: Contexts) -> Float64s:
        """Returns tanh of the weighted sums of history factors: [G, 2 + _TASTE_DIMS] in (-1, 1).

        The columns: a bias of the user for clicks, one for conversions, then what meets the item's factors.
        """
        sums = np.zeros((len(contexts.user), 2 + _TASTE_DIMS))
        for field, share in _TASTE_FIELDS.items():
            bags = contexts.histories[field]
            weights = share * np.log1p(bags.count)
            for dim in range(sums.shape[1]):
                factors = self._taste.factor(bags.id, np.int64(int(field[:3]) * 100 + dim))
                sums[:, dim] += np.bincount(bags.owner, weights * factors, minlength=len(sums))
        return np.asarray(np.tanh(sums / self._preset.taste_scale))

    def _taste_terms(self, taste: Float64s, impressions: Impressions) -> TrueLogits:
        """Returns the user's biases plus taste times the item's factors, from tastes [N, 2 + _TASTE_DIMS]."""
        rest = np.sqrt(1.0 - SHARED**2)
        click = _BIAS * taste[:, 0]
        conversion = _BIAS * (SHARED * taste[:, 0] + rest * taste[:, 1])
        for dim in range(_TASTE_DIMS):
            item = self._factors("206", impressions.items.category, 1 + dim)
            shop = self._factors("207", impressions.items.shop, 1 + dim)
            click += _TASTE * taste[:, 2 + dim] * (0.8 * item.click + 0.6 * shop.click)
            conversion += _TASTE * taste[:, 2 + dim] * (0.8 * item.conversion + 0.6 * shop.conversion)
        return TrueLogits(click, conversion)


def label(logits: TrueLogits, intercepts: tuple[float, float], random: np.random.Generator) -> DrawnLabels:
    """Returns labels drawn from `logits` [N] with the click and conversion intercepts added."""
    pctr, pcvr = _sigmoid(logits.click + intercepts[0]), _sigmoid(logits.conversion + intercepts[1])
    drawn = random.random((2, len(pctr)))
    return DrawnLabels(pctr, pcvr, (drawn[0] < pctr).astype(np.int64), (drawn[1] < pcvr).astype(np.int64))


def calibrate(sample: TrueLogits, ctr: float, cvr: float) -> tuple[float, float]:
    """Returns the intercepts that give the sample mean pCTR `ctr` and click-weighted mean pCVR `cvr`.

    Args:
        sample: logits without intercepts [N].
        ctr: wanted clicks / impressions.
        cvr: wanted conversions / clicks: sum(pctr * pcvr) / sum(pctr).
    """
    click = _intercept(sample.click, np.ones_like(sample.click), ctr)
    pctr = _sigmoid(sample.click + click)
    return click, _intercept(sample.conversion, pctr, cvr)


def _intercept(logits: Float64s, weights: Float64s, rate: float) -> float:
    """Returns x with weighted mean of sigmoid(logits + x) = rate, by bisection, rounded to 1e-6."""
    low, high = -40.0, 40.0
    while high - low > 1e-9:
        middle = (low + high) / 2.0
        if np.average(_sigmoid(logits + middle), weights=weights) < rate:
            low = middle
        else:
            high = middle
    return round(low, 6)


def _sigmoid(logits: Float64s) -> Float64s:
    return 1.0 / (1.0 + np.exp(-logits))


def _cross_terms(impressions: Impressions) -> TrueLogits:
    size = len(impressions.context)
    total = TrueLogits(np.zeros(size), np.zeros(size))
    for cross in CROSSES:
        bags = impressions.bags[cross]
        strength = np.bincount(bags.owner, np.log1p(bags.count), minlength=size)
        strength = np.minimum(strength, _CROSS_CAP)
        click, conversion = _CROSS_EFFECTS[cross]
        total += TrueLogits(click * strength, conversion * strength)
    return total
