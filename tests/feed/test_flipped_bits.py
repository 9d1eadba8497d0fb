"""A flipped bit in a file of examples, wherever it is: told in one line that names the file."""

from pathlib import Path

import pytest
import xxhash

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.files import seals
from esmm_spark.files.examples_file import check_files
from esmm_spark.files.manifest_file import read_manifest
from tests.flipped_bits import flips_of
from tests.synthetic_examples import SPEC, of_before, random_groups, write_dataset, write_partition

TRAIN = "split=train"
FILE = f"examples/{TRAIN}/part-00000.parquet"


def dataset_in(folder: Path, groups_seed: int = 7) -> Manifest:
    counts = write_partition(folder, TRAIN, random_groups(20, seed=groups_seed), [[10, 10]])
    return write_dataset(folder, {TRAIN: counts})


def read_all(folder: Path, manifest: Manifest) -> int:
    plan = EpochPlan(row_groups_of(manifest.partitions[TRAIN]), 4, 100, 42, 0)
    with open_feed(str(folder), Layout(SPEC), plan, 0, 1) as batches:
        return sum(batch.num_impressions for batch in batches)


@pytest.mark.slow
def test_a_flipped_bit_in_a_page_a_header_or_the_footer_is_told_in_one_line(tmp_path: Path) -> None:
    manifest = dataset_in(tmp_path)
    counts = manifest.partitions[TRAIN]
    assert sum(counts.files[0].num_bytes) == (tmp_path / FILE).stat().st_size
    for _ in flips_of(tmp_path / FILE, 120):
        with pytest.raises(InputError, match=r"part-00000\.parquet.*preprocess again") as told:
            read_all(tmp_path, manifest)
        assert "\n" not in str(told.value)
    assert read_all(tmp_path, manifest) == counts.impressions


def test_a_flipped_bit_of_the_manifest_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 0.0)
    manifest = dataset_in(tmp_path)
    said = r"^\S+manifest\.json has another SHA-256 than in .*preprocess again$"
    for _ in flips_of(tmp_path / "manifest.json", 60):
        with pytest.raises(InputError, match=said):
            read_manifest(str(tmp_path))
    assert read_manifest(str(tmp_path)) == manifest


def test_a_file_that_was_written_again_is_told_by_its_footer_alone(tmp_path: Path) -> None:
    manifest = dataset_in(tmp_path)
    check_files(str(tmp_path), manifest.partitions[TRAIN])
    write_partition(tmp_path, TRAIN, random_groups(20, seed=8), [[10, 10]])
    with pytest.raises(InputError, match=r"part-00000\.parquet: .*: preprocess again"):
        check_files(str(tmp_path), manifest.partitions[TRAIN])
    (tmp_path / FILE).unlink()
    with pytest.raises(InputError, match=r"part-00000\.parquet is missing"):
        check_files(str(tmp_path), manifest.partitions[TRAIN])


def test_a_dataset_of_before_is_read_without_checksums(tmp_path: Path) -> None:
    counts = of_before(dataset_in(tmp_path).partitions[TRAIN])
    manifest = write_dataset(tmp_path, {TRAIN: counts})
    check_files(str(tmp_path), counts)
    assert read_all(tmp_path, manifest) == counts.impressions


def test_a_dataset_of_before_is_held_against_its_xxh64(tmp_path: Path) -> None:
    counts = dataset_in(tmp_path).partitions[TRAIN]
    (file,) = counts.files
    content = (tmp_path / FILE).read_bytes()
    file.checksums = [
        xxhash.xxh64_hexdigest(content[block.offset :][: block.num_bytes]) for block in file.blocks
    ]
    manifest = write_dataset(tmp_path, {TRAIN: counts})
    assert read_all(tmp_path, manifest) == counts.impressions
    for _ in flips_of(tmp_path / FILE, 5):
        with pytest.raises(InputError, match=r"part-00000\.parquet.*preprocess again"):
            read_all(tmp_path, manifest)


def test_the_digest_of_a_partition_follows_from_its_bytes_and_not_from_its_paths(tmp_path: Path) -> None:
    first, again, other = (
        dataset_in(tmp_path / name, seed).partitions[TRAIN]
        for name, seed in (("first", 7), ("again", 7), ("other", 8))
    )
    assert first.digest == again.digest != other.digest
    renamed = again.model_copy(update={"files": [again.files[0].model_copy(update={"path": "elsewhere"})]})
    assert renamed.digest == first.digest
    (file,) = first.files
    changed = file.model_copy(update={"checksums": ["0" * 16, *file.checksums[1:]]})
    assert first.model_copy(update={"files": [changed]}).digest != first.digest
