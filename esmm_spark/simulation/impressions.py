"""Impressions: which items a context is shown, and the crosses between its history and the item.

An item comes from a shop of the context's history, from another shop of a category of the history, or from
anywhere, in the preset's shares. A cross is on an impression if and only if the item's value is in the
context's history; its value is that of the item, which is the history's, and its weight is the history
token's.
"""

from dataclasses import dataclass

import numpy as np

from esmm_spark.runtime.arrays import Int64s
from esmm_spark.simulation.bags import IdBags, single
from esmm_spark.simulation.catalogue import Catalogue, Items
from esmm_spark.simulation.contexts import Contexts
from esmm_spark.simulation.presets import Preset
from esmm_spark.simulation.randomness import zipf_rank

# Cross -> the history field and the item field that it joins.
CROSSES = {
    "508": ("109_14", "206"),
    "509": ("110_14", "207"),
    "702": ("127_14", "216"),
    "853": ("150_14", "210"),
}

_POSITIONS = 3


@dataclass(frozen=True)
class Impressions:
    """The impressions of one block, context by context.

    Attributes:
        context: [N] in [0, G), ascending.
        number: [N] the impression's position in its context, from 0.
        items: [N] what is shown.
        position: [N] in [0, 3), field 301; 0 is the best place.
        bags: all impression fields in the order in which they are written.
    """

    context: Int64s
    number: Int64s
    items: Items
    position: Int64s
    bags: dict[str, IdBags]


class ImpressionModel:
    """Draws impressions."""

    def __init__(self, catalogue: Catalogue, preset: Preset) -> None:
        self._catalogue = catalogue
        self._preset = preset

    def draw(self, random: np.random.Generator, contexts: Contexts) -> Impressions:
        """Returns the impressions of `contexts`, `num_impressions` of each, drawn from `random`."""
        counts = contexts.num_impressions
        context = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(context)) - np.repeat(np.cumsum(counts) - counts, counts)
        items = self._items(random, contexts, context)
        position = random.integers(_POSITIONS, size=len(context))
        owner, intention = self._catalogue.intentions_of(items)
        bags = {
            "205": single(items.item),
            "206": single(items.category),
            "207": single(items.shop),
            "210": IdBags(owner, intention, np.zeros_like(owner), len(context)),
            "216": single(items.brand),
            "301": single(position),
        }
        for cross, (history, item) in CROSSES.items():
            bags[cross] = _cross(contexts.histories[history], bags[item], context)
        return Impressions(context, number, items, position, bags)

    def _items(self, random: np.random.Generator, contexts: Contexts, context: Int64s) -> Items:
        preset = self._preset
        num_events = np.bincount(contexts.event_context, minlength=len(contexts.user))
        first_event = np.cumsum(num_events) - num_events
        event = first_event[context] + (random.random(len(context)) * num_events[context]).astype(np.int64)
        source = random.random(len(context))
        known_shop = source < preset.known_shop
        known_category = source < preset.known_shop + preset.known_category
        anything = zipf_rank(random.random(len(context)), preset.num_categories)
        category = np.where(known_category, contexts.event_category[event], anything)
        other_shop = self._catalogue.draw_shop(category, random.random(len(context)))
        shop = np.where(known_shop, contexts.event_shop[event], other_shop)
        return self._catalogue.items_of(shop, category, random.random(len(context)))


def _cross(history: IdBags, item: IdBags, context: Int64s) -> IdBags:
    """Returns the tokens of `item` that the impression's context has in `history`, with the history's counts.

    Example:
        Context 0 has {7: 3 times, 9: once}; impression 0 of context 0 shows 7 and 8, impression 1 shows 9:
        owner [0, 1], id [7, 9], count [3, 1].
    """
    counts = history.count_of(context[item.owner], item.id)
    matched = np.flatnonzero(counts)
    return IdBags(item.owner[matched], item.id[matched], counts[matched], item.num_owners)
