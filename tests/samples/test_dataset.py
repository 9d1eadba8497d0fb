"""Datasets as a whole: nothing is lost, nothing depends on how work is cut, nothing half-written is seen."""

import gzip
import lzma
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from esmm_spark.commands.command import run_command
from esmm_spark.contracts.errors import CountMismatchError, InputError, TooManyRejectsError
from esmm_spark.contracts.manifest import Manifest, PartitionCounts, SourceCounts
from esmm_spark.contracts.sample_config import SplitLogs
from esmm_spark.files import replacing
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.logs.raw_files import read_split
from esmm_spark.samples import dataset as dataset_module
from esmm_spark.samples.dataset import preprocess
from esmm_spark.samples.examples import Written, check_bytes, check_counts
from tests.samples.grouping.test_grouper import contexts, impressions
from tests.samples.join_oracle import group, groups_of
from tests.samples.raw_lines import SPEC, config_for, context, impression, token, write_split

pytestmark = pytest.mark.spark

CLEAN_CONTEXTS = [context(f"c{c}", token("101", str(c))) for c in range(60)]
CLEAN_IMPRESSIONS = [
    impression(f"{c}-{i}", f"c{c}", token("205", str(i)), click=i % 2) for c in range(60) for i in range(5)
]


def read_examples(dataset: str) -> dict[str, pa.Table]:
    """Returns partition -> its rows, those of all files."""
    folders = sorted(Path(dataset, "examples").iterdir())
    return {
        folder.name: pa.concat_tables(
            [pq.read_table(file, partitioning=None) for file in sorted(folder.glob("*.parquet"))]
        )
        for folder in folders
        if list(folder.iterdir())
    }


def read_rejects(dataset: str) -> Counter[tuple[bytes, str, str]]:
    rows = pq.read_table(f"{dataset}/rejects", partitioning=None).to_pylist()
    return Counter((row["line"], row["source"], row["reason"]) for row in rows)


def assert_nothing_lost(manifest: Manifest) -> None:
    for source in manifest.sources:
        assert source.lines_read == source.lines_accepted + sum(source.rejects.values())
    written = sum(counts.impressions for counts in manifest.partitions.values())
    skeletons = [source for source in manifest.sources if source.name.endswith(".skeleton")]
    assert sum(source.lines_read - sum(source.rejects.values()) for source in skeletons) == written
    for counts in manifest.partitions.values():
        assert sum(sum(file.impressions) for file in counts.files) == counts.impressions
        assert sum(sum(file.groups) for file in counts.files) == counts.groups


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(contexts, min_size=1, max_size=8), st.lists(impressions, min_size=20, max_size=60))
def test_a_dataset_is_that_of_the_plain_join(
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    context_lines: list[bytes],
    impression_lines: list[bytes],
) -> None:
    folder = tmp_path_factory.mktemp("join")
    # A line that is no line feed alone: neither file is empty.
    context_lines, impression_lines = [*context_lines, b"k9,0,"], [*impression_lines, b"i9,0,0,k9,0,"]
    config = config_for(
        folder, {"train": write_split(folder, context_lines, impression_lines)}, samples={"max_group_size": 3}
    )
    manifest = preprocess(spark, config)
    expected, rejects = group(context_lines, impression_lines, SPEC, 3)
    assert groups_of(read_examples(config.paths.dataset)["split=train"]) == expected
    assert read_rejects(config.paths.dataset) == Counter(
        {(line, f"train.{source}", reason): count for (line, source, reason), count in rejects.items()}
    )
    assert_nothing_lost(manifest)


def test_spark_and_pyarrow_read_the_same_from_both_codecs(spark: SparkSession, tmp_path: Path) -> None:
    found = {}
    for compression in ("lz4", "zstd"):
        folder = tmp_path / compression
        split = write_split(folder, CLEAN_CONTEXTS, CLEAN_IMPRESSIONS)
        config = config_for(folder, {"train": split}, samples={"compression": compression})
        manifest = preprocess(spark, config)
        assert manifest.config["samples"]["compression"] == compression
        partition = f"{config.paths.dataset}/examples/split=train"
        rows = spark.read.parquet(partition).orderBy("group_hash").toArrow().to_pylist()
        assert rows == pq.read_table(partition, partitioning=None).sort_by("group_hash").to_pylist()
        found[compression] = (rows, manifest.feature_spec_digest)
    assert len(found["lz4"][0]) == len(CLEAN_CONTEXTS)
    assert found["lz4"] == found["zstd"]


def test_of_lines_with_one_id_under_several_contexts_the_smallest_acceptable_is_kept(
    spark: SparkSession, tmp_path: Path
) -> None:
    contexts = [context("a"), context("b"), context("c"), context("d", count="x")]
    lines = [
        impression("1", "c", click=1),
        impression("1", "b", token("205", "2")),
        impression("1", "b", token("205", "1")),
        impression("1", "a", token("205", "1", "x")),  # does not parse
        impression("1", "Z"),  # has no context
        impression("1", "d"),  # its context does not parse
        impression("2", "c"),
    ]
    config = config_for(tmp_path, {"train": write_split(tmp_path, contexts, lines)})
    manifest = preprocess(spark, config)
    examples = read_examples(config.paths.dataset)["split=train"].to_pylist()
    assert sorted((row["group_key"], row["impression_id"]) for row in examples) == [
        ("b", ["1"]),
        ("c", ["2"]),
    ]
    (kept,) = [row for row in examples if row["group_key"] == "b"]
    assert kept["impression_rows"] == [SPEC.offsets["item"] + row_of_item("1")]
    assert manifest.sources[1].rejects == {
        "bad_token": 1,
        "unknown_context": 2,
        "duplicate_impression": 2,
    }
    assert sorted(path.name for path in Path(config.paths.dataset).iterdir()) == [
        "_SUCCESS",
        "examples",
        "manifest.json",
        "rejects",
    ]


def row_of_item(value: str) -> int:
    bags = group([context("k")], [impression("1", "k", token("205", value))], SPEC, 1)[0]
    return int(bags["k", 0]["impression_rows"][0]) - SPEC.offsets["item"]


def test_the_content_does_not_depend_on_files_partitions_or_the_order_of_lines(
    spark: SparkSession, tmp_path: Path
) -> None:
    found = []
    for run, num_files in enumerate((1, 3, 5)):
        folder = tmp_path / str(run)
        lines = (
            CLEAN_IMPRESSIONS if run == 0 else CLEAN_IMPRESSIONS[run * 37 :] + CLEAN_IMPRESSIONS[: run * 37]
        )
        config = config_for(
            folder,
            {"train": write_split(folder, CLEAN_CONTEXTS[:: 1 if run == 0 else -1], lines)},
            samples={"num_files": num_files, "validation_fraction": 0.2, "max_group_size": 2},
        )
        manifest = preprocess(spark, config)
        assert len(manifest.partitions["split=train"].files) <= num_files
        found.append({name: groups_of(table) for name, table in read_examples(config.paths.dataset).items()})
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == {"split=train", "split=validation"}


MARK = b"\xef\xbb\xbf"


def test_files_that_spark_must_unpack_become_the_same_dataset(spark: SparkSession, tmp_path: Path) -> None:
    lines = [*CLEAN_IMPRESSIONS, b"", impression("3-1", "c50"), b"broken"]
    found = []
    for packed in (False, True):
        folder = tmp_path / str(packed)
        # A byte order mark in front of a file is no part of its first id.
        logs = write_split(
            folder, [MARK + CLEAN_CONTEXTS[0], *CLEAN_CONTEXTS[1:]], [MARK + lines[0], *lines[1:]]
        )
        if packed:
            for name in ("common_features", "skeleton"):
                path = Path(getattr(logs, name))
                path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
            logs = SplitLogs(
                common_features=f"{logs.common_features}.gz", skeleton=f"{folder}/skeleton.csv.g*"
            )
        config = config_for(folder, {"train": logs}, samples={"validation_fraction": 0.2})
        manifest = preprocess(spark, config)
        tables = read_examples(config.paths.dataset).items()
        counts = [source.model_dump(exclude={"path"}) for source in manifest.sources]
        found.append(({name: groups_of(table) for name, table in tables}, counts))
        assert_nothing_lost(manifest)
    assert found[0] == found[1]
    assert found[0][1][1]["rejects"] == {"duplicate_impression": 1, "too_few_columns": 1}
    assert found[0][1][0]["notes"] == {"byte_order_marks": 1}
    assert found[0][1][1]["notes"] == {"blank_lines": 1, "byte_order_marks": 1}


def test_folders_may_have_any_name_and_be_given_as_a_uri(spark: SparkSession, tmp_path: Path) -> None:
    logs = write_split(tmp_path / "räw [1] %20", CLEAN_CONTEXTS, CLEAN_IMPRESSIONS)
    named = SplitLogs(
        common_features=f"file://{quote(logs.common_features)}",
        skeleton=rf"{tmp_path}/r?w \[1\] %20/skel*.csv",
    )
    manifest = preprocess(spark, config_for(tmp_path / "öut %20", {"train": named}))
    assert manifest.partitions["split=train"].impressions == len(CLEAN_IMPRESSIONS)


@pytest.mark.parametrize("name", ["[a]", "a:b/*"])
def test_a_glob_that_matches_nothing_says_that_it_is_one(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    logs = write_split(tmp_path, CLEAN_CONTEXTS, CLEAN_IMPRESSIONS)
    with pytest.raises(
        InputError, match=r"no skeleton at .*it is taken as a glob: write . as \\. to"
    ) as caught:
        read_split(spark, logs.model_copy(update={"skeleton": str(tmp_path / name)}))
    assert "\n" not in str(caught.value)


def test_a_train_split_with_nothing_left_to_train_on_is_an_error(spark: SparkSession, tmp_path: Path) -> None:
    held_out = write_split(tmp_path / "a", CLEAN_CONTEXTS[:1], CLEAN_IMPRESSIONS[:5])
    config = config_for(tmp_path, {"train": held_out}, samples={"validation_fraction": 0.999})
    with pytest.raises(
        InputError, match=r"all 1 groups of logs\.splits\.train are held out .*validation_fraction = 0\.999"
    ):
        preprocess(spark, config)
    assert list(Path(config.paths.dataset).parent.iterdir()) == []
    rejected = write_split(tmp_path / "b", CLEAN_CONTEXTS[:1], CLEAN_IMPRESSIONS[5:])
    with pytest.raises(
        InputError, match=r"nothing to train on: .*skeleton\.csv has no impression of a context"
    ):
        preprocess(spark, config_for(tmp_path, {"train": rejected}))


@pytest.mark.parametrize(("size", "fails"), [(106, False), (105, False), (104, True), (107, True)])
def test_bytes_that_were_not_read_are_a_failure(size: int, fails: bool) -> None:
    read = np.array([[2, 1, 50], [2, 0, 51]])  # 101 bytes and 5 line feeds, the last one perhaps missing
    with pytest.raises(CountMismatchError, match="106 were read") if fails else nullcontext():
        check_bytes(read, size, num_files=1)


def test_all_parts_of_a_group_are_on_one_side_of_the_validation_split(
    spark: SparkSession, tmp_path: Path
) -> None:
    config = config_for(
        tmp_path,
        {"train": write_split(tmp_path, CLEAN_CONTEXTS, CLEAN_IMPRESSIONS)},
        samples={"validation_fraction": 0.3, "max_group_size": 2},
    )
    manifest = preprocess(spark, config)
    keys = {
        name: set(table["group_key"].to_pylist())
        for name, table in read_examples(config.paths.dataset).items()
    }
    assert not keys["split=train"] & keys["split=validation"]
    assert len(keys["split=train"] | keys["split=validation"]) == 60
    assert 8 <= len(keys["split=validation"]) <= 28  # 18 expected, sigma 3.5
    assert_nothing_lost(manifest)


def test_a_rerun_replaces_what_was_there(spark: SparkSession, tmp_path: Path) -> None:
    first = config_for(tmp_path, {"train": write_split(tmp_path / "a", CLEAN_CONTEXTS, CLEAN_IMPRESSIONS)})
    second = config_for(
        tmp_path, {"test": write_split(tmp_path / "b", [context("k")], [impression("1", "k")])}
    )
    before = preprocess(spark, first)
    assert preprocess(spark, first) == before
    preprocess(spark, second)
    examples = read_examples(first.paths.dataset)
    assert {name: table.num_rows for name, table in examples.items()} == {"split=test": 1}
    assert list(read_manifest(first.paths.dataset).partitions) == ["split=test"]


class Killed(BaseException):
    """Like a kill: nothing that catches errors sees it."""


@pytest.mark.parametrize("where", ["write_manifest", "replace"])
def test_a_kill_leaves_the_old_dataset_whole_and_a_rerun_completes(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    old = config_for(tmp_path, {"test": write_split(tmp_path / "a", [context("k")], [impression("1", "k")])})
    new = config_for(tmp_path, {"test": write_split(tmp_path / "b", [context("x")], [impression("2", "x")])})
    before = preprocess(spark, old)

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if where == "replace":
            patch.setattr(replacing, "replace_directory", kill)
        else:
            patch.setattr(dataset_module, where, kill)
        with pytest.raises(Killed):
            preprocess(spark, new)
    assert read_manifest(old.paths.dataset) == before
    assert read_examples(old.paths.dataset)["split=test"]["group_key"].to_pylist() == ["k"]

    preprocess(spark, new)
    assert read_examples(old.paths.dataset)["split=test"]["group_key"].to_pylist() == ["x"]
    assert [path.name for path in Path(old.paths.dataset).parent.iterdir()] == ["dataset"]


def test_too_many_bad_lines_end_the_job_with_the_counts_and_replace_nothing(
    spark: SparkSession, tmp_path: Path
) -> None:
    good = config_for(tmp_path, {"test": write_split(tmp_path / "a", [context("k")], [impression("1", "k")])})
    before = preprocess(spark, good)
    lines = [impression(str(i), "k", click=2 if i < 2 else 0) for i in range(9)] + [impression("9", "no")]
    bad = config_for(
        tmp_path,
        {"test": write_split(tmp_path / "b", [context("k")], lines)},
        logs={"max_reject_fraction": 0.299},
    )
    with pytest.raises(
        TooManyRejectsError, match=r"3 of 10 lines of test.skeleton .*bad_label 2, unknown_con"
    ):
        preprocess(spark, bad)
    assert read_manifest(good.paths.dataset) == before
    assert [path.name for path in Path(good.paths.dataset).parent.iterdir()] == ["dataset"]
    preprocess(
        spark, bad.model_copy(update={"logs": bad.logs.model_copy(update={"max_reject_fraction": 0.3})})
    )


@pytest.mark.parametrize(
    ("break_file", "message"),
    [
        (lambda path: path.unlink(), "no skeleton at .*PATH_NOT_FOUND"),
        (lambda path: path.write_bytes(b""), "skeleton.csv is empty"),
        (lambda path: path.write_bytes(b"\n\r\n"), "skeleton.csv is empty"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r") * 2),
            r"skeleton.csv ends its lines by carriage returns alone: write line feeds, e.g. tr '\\r' '\\n'$",
        ),
        (lambda path: path.write_bytes(lzma.compress(b"")), "is xz by its first bytes, which isn't read"),
    ],
    ids=["missing", "empty", "blank", "carriage returns", "xz"],
)
def test_missing_or_empty_input_is_named(
    spark: SparkSession, tmp_path: Path, break_file: Callable[[Path], None], message: str
) -> None:
    logs = write_split(tmp_path, [context("k")], [impression("1", "k")])
    break_file(Path(logs.skeleton))
    with pytest.raises(InputError, match=message):
        preprocess(spark, config_for(tmp_path, {"train": logs}))


def test_the_command_ends_with_code_2_and_one_line(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import preprocess as job

    missing = tmp_path / "nothing"
    overrides = [f"paths.dataset={tmp_path}/dataset", f"logs.splits.train.skeleton={missing}"]
    monkeypatch.setattr("sys.argv", ["preprocess.py", "--config", "conf/demo.yaml", *overrides])
    with pytest.raises(SystemExit) as end:
        run_command(job.main)
    assert end.value.code == 2
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: no ")
    assert stderr.count("\n") == 1


def test_a_lost_line_is_a_failure() -> None:
    counts = PartitionCounts(
        groups=1,
        impressions=8,
        positives={"click": 0, "conversion": 0},
        context_tokens=0,
        impression_tokens=0,
        group_hash_sum=0,
        files=[],
    )
    contexts = SourceCounts(name="t.common_features", path="c", lines_read=1, lines_accepted=1)

    def written(lines_read: int, lines_accepted: int) -> Written:
        skeleton = SourceCounts(
            name="t.skeleton",
            path="s",
            lines_read=lines_read,
            lines_accepted=lines_accepted,
            rejects={"bad_label": 2},
        )
        return Written({"split=t": counts}, [contexts, skeleton], [])

    check_counts(written(10, 8))
    with pytest.raises(CountMismatchError, match="11 lines read, but 8 accepted and 2 rejected"):
        check_counts(written(11, 8))
    with pytest.raises(CountMismatchError, match="9 impressions accepted, but 8 in the files"):
        check_counts(written(11, 9))


def test_a_folder_with_the_users_own_files_is_not_replaced(spark: SparkSession, tmp_path: Path) -> None:
    config = config_for(tmp_path, {"train": write_split(tmp_path, CLEAN_CONTEXTS, CLEAN_IMPRESSIONS)})
    own = Path(config.paths.dataset, "raw", "sample_skeleton_train.csv")
    own.parent.mkdir(parents=True)
    own.write_text("the only copy")
    with pytest.raises(InputError, match=r"paths\.dataset .* holds raw, which would be deleted"):
        preprocess(spark, config)
    assert own.read_text() == "the only copy"
