"""Flattened batches and pyarrow's batches against the feed's; the reference's loss against ours."""

from pathlib import Path

import pytest
import torch

from bench.flat import expand, flatten, mean_lengths, padded, starts_of
from bench.pyarrow_batches import pyarrow_batches
from bench.reference import product_loss
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.feed.batch import Batch
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.model.objectives.pointwise import pointwise_loss
from esmm_spark.model.objectives.spec import spec_of
from tests.synthetic_examples import SPEC, write_small_dataset

TRAIN = "split=train"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("bench") / "dataset"
    return folder, write_small_dataset(folder)


def plan_of(manifest: Manifest) -> EpochPlan:
    return EpochPlan(row_groups_of(manifest.partitions[TRAIN]), 4, 100, 42, epoch=1)


@pytest.fixture(scope="module")
def batches(dataset: tuple[Path, Manifest]) -> list[Batch]:
    folder, manifest = dataset
    with open_feed(str(folder), Layout(SPEC), plan_of(manifest), 0, 1) as found:
        return list(found)


def bags(rows: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
    return [part.tolist() for part in rows.split(lengths.tolist())]


def test_flattening_repeats_a_context_for_every_impression_of_its_group(batches: list[Batch]) -> None:
    batch = batches[0]
    num_context, num_own = len(SPEC.context_fields), len(SPEC.impression_fields)
    contexts = bags(batch.context_rows, batch.context_lengths)
    own = bags(batch.impression_rows, batch.impression_lengths)
    expected, impression = [], 0
    for group, size in enumerate(batch.group_sizes.tolist()):
        for _ in range(size):
            expected += contexts[group * num_context : (group + 1) * num_context]
            expected += own[impression * num_own : (impression + 1) * num_own]
            impression += 1
    flat = flatten(batch, SPEC)
    assert bags(torch.from_numpy(flat.rows), torch.from_numpy(flat.lengths.ravel())) == expected


def test_padding_keeps_the_first_values_of_a_field(batches: list[Batch]) -> None:
    flat = flatten(batches[0], SPEC)
    tags = padded([flat], SPEC, field=1, length=2)
    lengths = flat.lengths.ravel()
    first = starts_of(lengths).reshape(flat.lengths.shape)[:, 1]
    for impression, length in enumerate(flat.lengths[:, 1]):
        kept = flat.rows[first[impression] : first[impression] + min(length, 2)] - SPEC.offsets["tag"]
        assert tags[impression].tolist() == [*kept.tolist(), *[0] * (2 - len(kept))]
    assert all(length >= 1 for length in mean_lengths([flat]))


def test_expanding_bags_gives_the_places_of_their_tokens() -> None:
    starts, lengths = torch.tensor([5, 0, 9]).numpy(), torch.tensor([2, 3, 0]).numpy()
    assert expand(starts, lengths).tolist() == [5, 6, 0, 1, 2]


def test_pyarrow_reads_the_same_batches_as_the_loader(
    dataset: tuple[Path, Manifest], batches: list[Batch]
) -> None:
    folder, manifest = dataset
    found = list(pyarrow_batches(str(folder), plan_of(manifest), SPEC))
    assert len(found) == len(batches)
    for ours, theirs in zip(batches, found, strict=True):
        # The loader has already divided the weights of fields pooled by mean.
        for name in theirs.keys() - {"context_weights", "impression_weights"}:
            assert torch.equal(getattr(ours, name), theirs[name]), name
        assert ours.impression_weights.shape == theirs["impression_weights"].shape


def test_the_reference_minimises_the_same_loss() -> None:
    generator = torch.Generator().manual_seed(1)
    ctr_logit, cvr_logit = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    click = (torch.rand(50, generator=generator) < 0.4).double()
    conversion = click * (torch.rand(50, generator=generator) < 0.5).double()
    loss = product_loss(torch.sigmoid(ctr_logit), torch.sigmoid(cvr_logit), click, conversion)
    objective = resolve(Model(), [], DEFAULT_TASKS)
    logits, labels = torch.stack([ctr_logit, cvr_logit]), torch.stack([click, conversion])
    ours = pointwise_loss(logits, labels, torch.zeros(0, 50), spec_of(objective))
    assert loss.item() == pytest.approx(ours.mean().item())
