"""The simulated shop: categories hold shops, brands and intentions; shops hold items.

All of it is arithmetic on ids, so that it needs no table of items:

    category c in [0, num_categories), popular ones first
    shop     first_shop[c] <= s < first_shop[c + 1]: a category's shops lie together, a popular one has more
    item     s * items_per_shop + slot
    brand    first_brand[c] <= b < first_brand[c + 1], a hash of shop and slot; some items have none
    intention c * intentions_per_category + t

History and item fields share these ids: a shop has the same value in 110_14 and in 207.
"""

from dataclasses import dataclass

import numpy as np

from esmm_spark.runtime.arrays import Float64s, Int64s
from esmm_spark.simulation.presets import Preset
from esmm_spark.simulation.randomness import IdHash, zipf_rank

NO_BRAND = -1

# A shop sells this many brands.
_BRANDS_PER_SHOP = 2


@dataclass(frozen=True)
class Items:
    """Items with what belongs to them; arrays [M], int64."""

    item: Int64s
    category: Int64s
    shop: Int64s
    brand: Int64s

    def at(self, index: Int64s) -> "Items":
        """Returns the items at `index`."""
        return Items(self.item[index], self.category[index], self.shop[index], self.brand[index])


class Catalogue:
    """Categories, shops, brands and items of one preset and one seed."""

    def __init__(self, preset: Preset, seed: int) -> None:
        self.preset = preset
        self._first_shop = _first_of_category(preset.num_shops, preset.num_categories)
        self._first_brand = _first_of_category(preset.num_brands, preset.num_categories)
        self._brand = IdHash(seed, "brand of a shop")
        self._has_brand = IdHash(seed, "has a brand")
        self._intention = IdHash(seed, "intentions of an item")

    def draw_shop(self, category: Int64s, uniform: Float64s) -> Int64s:
        """Returns a shop of each category [M], popular ones more often."""
        first = self._first_shop[category]
        return first + zipf_rank(uniform, self._first_shop[category + 1] - first)

    def category_of_shop(self, shop: Int64s) -> Int64s:
        """Returns the category that each shop [M] belongs to."""
        return np.searchsorted(self._first_shop, shop, side="right").astype(np.int64) - 1

    def items_of(self, shop: Int64s, category: Int64s, uniform: Float64s) -> Items:
        """Returns an item of each shop [M], popular ones more often.

        Args:
            shop: [M] shops.
            category: [M] the category of each shop.
            uniform: [M] in [0, 1), which of the shop's items.
        """
        slot = zipf_rank(uniform, self.preset.items_per_shop)
        item = shop * self.preset.items_per_shop + slot
        first = self._first_brand[category]
        brand = first + zipf_rank(
            self._brand.uniform(shop, slot % _BRANDS_PER_SHOP), self._first_brand[category + 1] - first
        )
        missing = self._has_brand.uniform(item) < self.preset.brand_missing
        return Items(item, category, shop, np.where(missing, NO_BRAND, brand))

    def intentions_of(self, items: Items, most: int | None = None) -> tuple[Int64s, Int64s]:
        """Returns the intentions of items: which item each belongs to [T], and the intention [T].

        An item has 1 to `intentions_per_category` of them, all different: a walk of random stride through the
        category's, whose number is prime, so that no walk meets itself.

        Args:
            items: [M] items.
            most: only the first so many of each item.

        Example:
            7 intentions per category, item of category 2, start 5, stride 3, 4 intentions: 14 + (5, 1, 4, 0).
        """
        pool = self.preset.intentions_per_category
        spread = 2.0 * (self.preset.mean_intentions - 1.0)
        drawn = 1.5 + self._intention.uniform(items.item, np.int64(0)) * spread
        lengths = np.minimum(drawn.astype(np.int64), pool)
        if most is not None:
            lengths = np.minimum(lengths, most)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        start = self._intention.below(pool, items.item, np.int64(1))
        stride = 1 + self._intention.below(pool - 1, items.item, np.int64(2))
        intention = (start[owner] + step * stride[owner]) % pool
        return owner, items.category[owner] * pool + intention


def _first_of_category(num_ids: int, num_categories: int) -> Int64s:
    """Returns [num_categories + 1] bounds of ids: each category has one, the rest go by Zipf's law."""
    category = np.arange(num_categories + 1)
    share = np.log(category + 1.0) / np.log(num_categories + 1.0)
    return np.asarray(category + ((num_ids - num_categories) * share).astype(np.int64))
