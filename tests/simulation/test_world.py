"""What a world draws: the published shape of Ali-CCP, rates, the truth behind the labels, and no order."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.simulation.bags import IdBags, counted
from esmm_spark.simulation.presets import ALICCP, DEMO, Preset, preset_named
from esmm_spark.simulation.truth import SHARED, TruthModel
from esmm_spark.simulation.world import DrawnBlock, World

pytestmark = pytest.mark.slow

BLOCKS = {"demo": 40, "aliccp": 20}

# Published figures of the data: tokens per impression, its context's tokens counted with it.
ALICCP_TOKENS = {"109_14": 69, "110_14": 250, "127_14": 154, "150_14": 136, "210": 6.1, "853": 1.4}
ALICCP_MISSING = {"509": 0.78, "702": 0.78, "853": 0.59, "508": 0.30, "216": 0.29}
ALICCP_MISSING_OF_CONTEXTS = {"126": 0.58, "121": 0.13, "122": 0.13, "124": 0.13, "125": 0.13, "127": 0.13}


class Sample:
    """Some blocks of one preset, their arrays laid end to end."""

    def __init__(self, preset: Preset, num_blocks: int) -> None:
        self.preset = preset
        world = World.calibrated(preset, 11)
        self.blocks = [world.draw(0, block) for block in range(num_blocks)]
        self.num_contexts = sum(len(block.contexts.user) for block in self.blocks)
        self.num_impressions = sum(len(block.labels.click) for block in self.blocks)

    def label(self, name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(block.labels, name) for block in self.blocks])

    def lengths(self, field: str) -> npt.NDArray[Any]:
        """Tokens of a field per impression; a context's count for each of its impressions."""
        return np.concatenate([self._lengths(block, field) for block in self.blocks])

    def _lengths(self, block: DrawnBlock, field: str) -> npt.NDArray[Any]:
        if field in block.impressions.bags:
            return block.impressions.bags[field].lengths
        return block.contexts.bags[field].lengths[block.impressions.context]


@pytest.fixture(scope="module")
def aliccp() -> Sample:
    return Sample(ALICCP, BLOCKS["aliccp"])


@pytest.fixture(scope="module")
def demo() -> Sample:
    return Sample(DEMO, BLOCKS["demo"])


@pytest.fixture(scope="module", params=["demo", "aliccp"])
def sample(request: pytest.FixtureRequest) -> Sample:
    found: Sample = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("field", "tokens"), ALICCP_TOKENS.items())
def test_aliccp_has_the_published_tokens_per_impression(aliccp: Sample, field: str, tokens: float) -> None:
    assert aliccp.lengths(field).mean() == pytest.approx(tokens, rel=0.07)


@pytest.mark.parametrize(("field", "missing"), ALICCP_MISSING.items())
def test_aliccp_misses_fields_of_impressions_as_published(aliccp: Sample, field: str, missing: float) -> None:
    assert (aliccp.lengths(field) == 0).mean() == pytest.approx(missing, abs=0.02)


@pytest.mark.parametrize(("field", "missing"), ALICCP_MISSING_OF_CONTEXTS.items())
def test_aliccp_misses_fields_of_contexts_as_published(aliccp: Sample, field: str, missing: float) -> None:
    lengths = np.concatenate([block.contexts.bags[field].lengths for block in aliccp.blocks])
    assert (lengths == 0).mean() == pytest.approx(missing, abs=0.02)


def test_aliccp_has_the_published_sizes(aliccp: Sample) -> None:
    assert aliccp.num_impressions / aliccp.num_contexts == pytest.approx(58, rel=0.05)
    tokens = np.concatenate(
        [sum(bag.lengths for bag in block.contexts.bags.values()) for block in aliccp.blocks]
    )
    assert tokens.mean() == pytest.approx(518, rel=0.05)
    assert tokens.max() < 3_500
    own = sum(len(bag.id) for block in aliccp.blocks for bag in block.impressions.bags.values())
    assert own / aliccp.num_impressions == pytest.approx(13.5, rel=0.05)


def test_ids_follow_zipfs_law(aliccp: Sample) -> None:
    """On log-log axes the counts of the ranks 1 to 1,000 fall by about rank^-1."""
    category = np.concatenate([block.impressions.items.category for block in aliccp.blocks])
    counts = np.sort(np.bincount(category))[::-1]
    ranks = np.array([1, 3, 10, 30, 100, 300, 1_000])
    slope, _ = np.polyfit(np.log(ranks), np.log(counts[ranks - 1]), 1)
    assert -1.4 < slope < -0.6


def test_rates_are_the_presets(sample: Sample) -> None:
    """Within what 20 blocks, and the blocks that the world was calibrated on, leave uncertain."""
    pctr, pcvr = sample.label("pctr"), sample.label("pcvr")
    assert pctr.mean() == pytest.approx(sample.preset.ctr, rel=0.05)
    assert np.average(pcvr, weights=pctr) == pytest.approx(sample.preset.cvr, rel=0.08)


def test_aliccps_rates_are_the_published_ones() -> None:
    assert (ALICCP.ctr, ALICCP.cvr) == (0.039, 0.0054)


@pytest.mark.parametrize(("label", "probability"), [("click", "pctr"), ("conversion_if_clicked", "pcvr")])
def test_labels_come_true_as_often_as_the_truth_says(sample: Sample, label: str, probability: str) -> None:
    """In each tenth of the probabilities the labels lie within 4 sigma of their expected sum."""
    p, y = sample.label(probability), sample.label(label)
    for tenth in np.array_split(np.argsort(p, kind="stable"), 10):
        sigma = np.sqrt((p[tenth] * (1 - p[tenth])).sum())
        assert abs(y[tenth].sum() - p[tenth].sum()) < 4 * sigma


def test_click_and_conversion_propensities_are_correlated(sample: Sample) -> None:
    pctr, pcvr = sample.label("pctr"), sample.label("pcvr")
    correlation = np.corrcoef(np.log(pctr / (1 - pctr)), np.log(pcvr / (1 - pcvr)))[0, 1]
    assert SHARED - 0.1 < correlation < SHARED + 0.2


def test_clicked_impressions_are_no_fair_sample(demo: Sample) -> None:
    pcvr, clicked = demo.label("pcvr"), demo.label("click") == 1
    assert pcvr[clicked].mean() > 1.8 * pcvr.mean()


def test_given_the_impression_click_and_conversion_are_independent(demo: Sample) -> None:
    """What a click would lead to says nothing of the click beyond the truth: residuals are uncorrelated."""
    click = demo.label("click") - demo.label("pctr")
    conversion = demo.label("conversion_if_clicked") - demo.label("pcvr")
    assert abs(np.corrcoef(click, conversion)[0, 1]) < 4 / np.sqrt(len(click))


def test_a_block_depends_on_its_number_and_not_on_the_order() -> None:
    world = World(DEMO, 5, (-3.0, -2.0))
    first, second = world.draw(0, 0), world.draw(0, 1)
    again = World(DEMO, 5, (-3.0, -2.0)).draw(0, 1)
    assert np.array_equal(second.labels.pctr, again.labels.pctr)
    assert np.array_equal(second.impressions.items.item, again.impressions.items.item)
    assert not np.array_equal(first.contexts.user, second.contexts.user)


def test_sizes_are_known_without_drawing() -> None:
    world = World(DEMO, 5, (-3.0, -2.0))
    for stream, block, num_groups in [(0, 0, 256), (0, 3, 256), (1, 3, 17)]:
        drawn = world.draw(stream, block, num_groups)
        assert world.num_impressions(stream, block, num_groups) == len(drawn.labels.click)


def test_intentions_of_an_item_are_different_and_of_its_category(demo: Sample) -> None:
    block = demo.blocks[0]
    bag, items = block.impressions.bags["210"], block.impressions.items
    pairs = np.stack([bag.owner, bag.id])
    assert len(np.unique(pairs, axis=1)[0]) == len(bag.id)
    assert np.array_equal(bag.id // DEMO.intentions_per_category, items.category[bag.owner])


def test_an_item_has_one_category_shop_and_brand(demo: Sample) -> None:
    seen: dict[int, tuple[int, int, int]] = {}
    for block in demo.blocks[:5]:
        items = block.impressions.items
        rows = np.stack([items.item, items.category, items.shop, items.brand], axis=1).tolist()
        for item, *belongs in rows:
            assert seen.setdefault(item, tuple(belongs)) == tuple(belongs)


def test_factors_of_clicks_and_conversions_correlate_by_the_constant() -> None:
    factors = TruthModel(DEMO, 1)._factors("206", np.arange(200_000))
    assert np.corrcoef(factors.click, factors.conversion)[0, 1] == pytest.approx(SHARED, abs=0.01)
    assert factors.click.var() == pytest.approx(1.0, abs=0.01)
    assert factors.conversion.var() == pytest.approx(1.0, abs=0.01)


def test_counted_adds_up_visits_per_owner_and_id() -> None:
    bags = counted(np.array([0, 0, 0, 1]), np.array([7, 3, 7, 3]), np.array([1, 1, 4, 2]), 3)
    assert bags.owner.tolist() == [0, 0, 1]
    assert bags.id.tolist() == [3, 7, 3]
    assert bags.count.tolist() == [1, 5, 2]
    assert bags.lengths.tolist() == [2, 1, 0]
    assert bags.count_of(np.array([0, 1, 1, 2]), np.array([7, 3, 7, 3])).tolist() == [5, 2, 0, 0]


def test_empty_bags_count_nothing() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert IdBags(empty, empty, empty, 2).count_of(np.array([1]), np.array([5])).tolist() == [0]
    assert counted(empty, empty, empty, 2).lengths.tolist() == [0, 0]


def test_an_unknown_preset_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'big': choose one of demo, aliccp"):
        preset_named("big")
