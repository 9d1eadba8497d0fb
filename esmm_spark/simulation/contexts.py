"""Contexts: users, their profiles, and the histories that are counted from their events of the past.

An event is a visit to a shop: of one of the user's interests (categories that are a function of the user, so
that two contexts of one user look alike), or now and then of any category. The four history fields count the
same events by category, shop, brand and intention, and impressions are drawn from them too (impressions.py):
that is how the crosses between history and item come about.
"""

from dataclasses import dataclass

import numpy as np

from esmm_spark.runtime.arrays import Float64s, Int64s
from esmm_spark.simulation.bags import IdBags, counted, single
from esmm_spark.simulation.catalogue import NO_BRAND, Catalogue
from esmm_spark.simulation.presets import Preset
from esmm_spark.simulation.randomness import IdHash, zipf_rank

# Field -> number of values, as public benchmarks on Ali-CCP count them. 122, the group, is gender x age.
_PROFILE_SIZES = {"121": 98, "124": 2, "125": 7, "126": 3, "127": 3, "128": 2, "129": 4}
_WITH_PROFILE = ("121", "122", "124", "125", "127", "128")

_VISITS_CAP = 64
_SHOPS_IN_FAVOUR = 3


@dataclass(frozen=True)
class Contexts:
    """The contexts of one block.

    Attributes:
        user: [G].
        num_impressions: [G], at least 1.
        profile: field -> [G] values, -1 where missing.
        histories: field -> tokens by context.
        event_context, event_category, event_shop: [E] the events, context by context.
    """

    user: Int64s
    num_impressions: Int64s
    profile: dict[str, Int64s]
    histories: dict[str, IdBags]
    event_context: Int64s
    event_category: Int64s
    event_shop: Int64s

    @property
    def bags(self) -> dict[str, IdBags]:
        """All context fields in the order in which they are written."""
        profile = {field: single(values) for field, values in self.profile.items()}
        return {"101": single(self.user), **self.histories, **profile}


class ContextModel:
    """Draws contexts."""

    def __init__(self, catalogue: Catalogue, preset: Preset, seed: int) -> None:
        self._catalogue = catalogue
        self._preset = preset
        self._interest = IdHash(seed, "interests of a user")
        self._favourite = IdHash(seed, "favourite shops of a user")
        self._searched = IdHash(seed, "categories that a user searches")
        self._profile = IdHash(seed, "profile of a user")
        self._profile_missing = IdHash(seed, "has a profile")

    def draw(self, random: np.random.Generator, num_contexts: int) -> Contexts:
        """Returns `num_contexts` contexts, drawn from `random`."""
        preset = self._preset
        num_impressions, num_events = self.sizes(random, num_contexts)
        user = random.integers(preset.num_users, size=num_contexts)
        context = np.repeat(np.arange(num_contexts), num_events)
        category = self._event_categories(random, user[context])
        shop = self._event_shops(random, user[context], category)
        items = self._catalogue.items_of(shop, category, random.random(len(context)))
        # Few shops are visited often: P(visits >= v) = 1 / v^2.
        visits = np.minimum((1.0 / np.sqrt(1.0 - random.random(len(context)))).astype(np.int64), _VISITS_CAP)
        branded = items.brand != NO_BRAND
        shows = np.flatnonzero(self._searched.uniform(user[context], category) < preset.searched_categories)
        owner, intention = self._catalogue.intentions_of(items.at(shows), preset.intentions_per_event)
        histories = {
            "109_14": counted(context, category, visits, num_contexts),
            "110_14": counted(context, shop, visits, num_contexts),
            "127_14": counted(context[branded], items.brand[branded], visits[branded], num_contexts),
            "150_14": counted(context[shows][owner], intention, visits[shows][owner], num_contexts),
        }
        return Contexts(user, num_impressions, self._profiles(user), histories, context, category, shop)

    def sizes(self, random: np.random.Generator, num_contexts: int) -> tuple[Int64s, Int64s]:
        """Returns impressions [G] and events [G] of each context: correlated log-normals, rounded and capped.

        They are the first that `draw` draws: on a fresh generator of the block these are the block's.
        """
        preset = self._preset
        normal, other = random.standard_normal((2, num_contexts))
        tied = preset.size_correlation * normal + np.sqrt(1.0 - preset.size_correlation**2) * other
        return (
            _log_normal_sizes(
                normal, preset.mean_impressions, preset.impressions_sigma, preset.max_impressions
            ),
            _log_normal_sizes(tied, preset.mean_events, preset.events_sigma, preset.max_events),
        )

    def _event_categories(self, random: np.random.Generator, user: Int64s) -> Int64s:
        preset = self._preset
        interest = zipf_rank(random.random(len(user)), preset.num_interests)
        usual = zipf_rank(self._interest.uniform(user, interest), preset.num_categories)
        anything = zipf_rank(random.random(len(user)), preset.num_categories)
        return np.where(random.random(len(user)) < preset.exploration, anything, usual)

    def _event_shops(self, random: np.random.Generator, user: Int64s, category: Int64s) -> Int64s:
        which = random.integers(_SHOPS_IN_FAVOUR, size=len(user))
        favourite = self._favourite.uniform(user, category, which)
        usual = random.random(len(user)) < self._preset.favourite_shops
        return self._catalogue.draw_shop(category, np.where(usual, favourite, random.random(len(user))))

    def _profiles(self, user: Int64s) -> dict[str, Int64s]:
        """Returns field -> [G] values from 0, -1 where missing; all are functions of the user."""
        values = {
            field: self._profile.below(size, user, np.int64(int(field)))
            for field, size in _PROFILE_SIZES.items()
        }
        values["122"] = values["124"] * _PROFILE_SIZES["125"] + values["125"]
        missing = self._profile_missing.uniform(user) < self._preset.profile_missing
        for field in _WITH_PROFILE:
            values[field] = np.where(missing, -1, values[field])
        unknown = self._profile_missing.uniform(user, np.int64(126)) < self._preset.consumption_missing
        values["126"] = np.where(unknown, -1, values["126"])
        return {field: values[field] for field in sorted(values)}


def _log_normal_sizes(normal: Float64s, mean: float, sigma: float, most: int) -> Int64s:
    """Returns sizes in [1, most] whose mean, before the cap, is about `mean`."""
    # Rounding down and the floor of 1 take half a unit away.
    drawn = 0.5 + mean * np.exp(sigma * normal - sigma * sigma / 2.0)
    return np.asarray(np.clip(drawn.astype(np.int64), 1, most))
