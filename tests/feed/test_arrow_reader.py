"""The reader of pyarrow alone gives petastorm's batches to the bit, and needs no petastorm."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from esmm_spark.contracts.manifest import Manifest
from esmm_spark.feed.batch import Batch
from tests.feed.test_reader import batches_by
from tests.synthetic_examples import write_small_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("feed") / "dataset"
    return folder, write_small_dataset(folder)


def content(batch: Batch) -> dict[str, object]:
    """All that a batch holds, tensors as their types, shapes and bytes."""
    return {
        name: (value.dtype, value.shape, value.numpy().tobytes())
        if isinstance(value, torch.Tensor)
        else value
        for name, value in vars(batch).items()
    }


@pytest.mark.parametrize(("rank", "num_ranks"), [(0, 1), (1, 2), (4, 5)])
@pytest.mark.parametrize(("first_step", "threads"), [(0, 1), (7, 3)])
def test_all_batches_of_both_readers_are_the_same_to_the_bit(
    dataset: tuple[Path, Manifest], rank: int, num_ranks: int, first_step: int, threads: int
) -> None:
    by_arrow, by_petastorm = (
        [content(batch) for batch in batches_by(reader, dataset, rank, num_ranks, first_step, threads)]
        for reader in ("arrow", "petastorm")
    )
    assert len(by_arrow) > 10
    assert by_arrow == by_petastorm


@pytest.mark.slow
def test_a_feed_that_is_left_half_way_ends_its_threads(dataset: tuple[Path, Manifest]) -> None:
    script = f"""
import sys, threading
from pathlib import Path
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.reader import open_feed
from esmm_spark.files.manifest_file import read_manifest
from tests.feed.test_reader import plan_of
from tests.synthetic_examples import SPEC
folder = {str(dataset[0])!r}
for name in [name for name in sys.modules if name.startswith("petastorm")]:
    del sys.modules[name]
with open_feed(folder, Layout(SPEC), plan_of(read_manifest(folder)), 0, 1, reader="arrow") as batches:
    next(batches)
print([name for name in sys.modules if name.startswith("petastorm")])
print([thread.name for thread in threading.enumerate()])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "['MainThread']"], done.stderr
