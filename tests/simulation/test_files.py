"""What `simulate` writes: Ali-CCP's format to the letter, complete, and the same for the same seed."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.errors import ConfigError, CountMismatchError, InputError
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.evaluation.measure.inputs import find_truth
from esmm_spark.simulation import simulate as simulate_module
from esmm_spark.simulation.parts import plan_parts
from esmm_spark.simulation.presets import DEMO
from esmm_spark.simulation.simulate import check_arguments, simulate
from esmm_spark.simulation.world import World
from tests.simulation.parsed_log import NUM_GROUPS, SEED, RawLog, Simulated, read_bytes

pytestmark = pytest.mark.spark

CONTEXT_FIELDS = [
    "101", "109_14", "110_14", "127_14", "150_14", "121", "122", "124", "125", "126", "127", "128", "129",
]  # fmt: skip
IMPRESSION_FIELDS = ["205", "206", "207", "210", "216", "301", "508", "509", "702", "853"]
CROSSES = {
    "508": ("109_14", "206"),
    "509": ("110_14", "207"),
    "702": ("127_14", "216"),
    "853": ("150_14", "210"),
}
COUNTED = ("109_14", "110_14", "127_14", "150_14", *CROSSES)


def test_the_folder_holds_ali_ccps_files_and_the_truth(simulated: Simulated) -> None:
    assert sorted(path.name for path in simulated.folder.iterdir()) == [
        "_SUCCESS",
        "common_features_test",
        "common_features_train",
        "sample_skeleton_test",
        "sample_skeleton_train",
        "simulation.json",
        "truth.parquet",
    ]
    assert len(list((simulated.folder / "sample_skeleton_train").iterdir())) == 3


def test_groups_are_dealt_half_to_train_and_half_to_test(logs: dict[str, RawLog]) -> None:
    assert len(logs["train"].contexts) == NUM_GROUPS - NUM_GROUPS // 2
    assert len(logs["test"].contexts) == NUM_GROUPS // 2


def test_tokens_are_those_of_the_levels_fields_in_one_order(logs: dict[str, RawLog]) -> None:
    for log in logs.values():
        for _, tokens in log.contexts:
            positions = [CONTEXT_FIELDS.index(field) for field, _, _ in tokens]
            assert positions == sorted(positions)
        for *_, tokens in log.impressions:
            positions = [IMPRESSION_FIELDS.index(field) for field, _, _ in tokens]
            assert positions == sorted(positions)


def test_weights_are_ln_of_1_plus_a_count_or_1(logs: dict[str, RawLog]) -> None:
    for log in logs.values():
        for tokens in [*(tokens for _, tokens in log.contexts), *(row[4] for row in log.impressions)]:
            for field, _, weight in tokens:
                if field in COUNTED:
                    count = round(math.expm1(float(weight)))
                    assert count >= 1
                    assert weight == f"{math.log(1 + count):.5f}"
                else:
                    assert weight == "1.0"


def test_no_field_holds_a_value_twice(logs: dict[str, RawLog]) -> None:
    for log in logs.values():
        for tokens in [*(tokens for _, tokens in log.contexts), *(row[4] for row in log.impressions)]:
            assert max(Counter((field, value) for field, value, _ in tokens).values()) == 1


def test_crosses_are_what_history_and_item_have_in_common(logs: dict[str, RawLog]) -> None:
    for log in logs.values():
        contexts = dict(log.contexts)
        for _, _, _, index, tokens in log.impressions:
            history = {(field, value): weight for field, value, weight in contexts[index]}
            for cross, (history_field, item_field) in CROSSES.items():
                expected = [
                    (value, history[history_field, value])
                    for field, value, _ in tokens
                    if field == item_field and (history_field, value) in history
                ]
                assert [(value, weight) for field, value, weight in tokens if field == cross] == expected


def test_lines_are_sorted_by_common_feature_index(logs: dict[str, RawLog]) -> None:
    for log in logs.values():
        indices = [index for index, _ in log.contexts]
        assert indices == sorted(indices)
        of_impressions = [index for _, _, _, index, _ in log.impressions]
        assert of_impressions == sorted(of_impressions)
        assert set(of_impressions) == set(indices)


def test_ids_are_unique_over_the_splits(logs: dict[str, RawLog]) -> None:
    indices = [index for log in logs.values() for index, _ in log.contexts]
    assert len(set(indices)) == len(indices) == NUM_GROUPS
    assert all(len(index) == 16 and int(index, 16) >= 0 for index in indices)
    ids = [row[0] for split in ("train", "test") for row in logs[split].impressions]
    assert ids == [str(number) for number in range(1, len(ids) + 1)]


def test_a_conversion_implies_a_click(logs: dict[str, RawLog]) -> None:
    labels = Counter(row[1:3] for log in logs.values() for row in log.impressions)
    assert set(labels) == {(0, 0), (1, 0), (1, 1)}


def test_the_summary_counts_what_is_in_the_files(simulated: Simulated, logs: dict[str, RawLog]) -> None:
    rows = [row for log in logs.values() for row in log.impressions]
    summary = simulated.summary
    assert summary.contexts == NUM_GROUPS
    assert summary.impressions == len(rows)
    assert summary.clicks == sum(row[1] for row in rows)
    assert summary.conversions == sum(row[2] for row in rows)
    assert f"{len(rows):,} impressions in 1,201 contexts" in str(summary)


def test_every_impression_is_in_the_truth_once(logs: dict[str, RawLog], truth: pd.DataFrame) -> None:
    ids = [row[0] for log in logs.values() for row in log.impressions]
    assert sorted(truth.impression_id) == sorted(ids)
    assert truth.pctr.between(0, 1, inclusive="neither").all()
    assert truth.pcvr.between(0, 1, inclusive="neither").all()


def test_evaluation_can_read_the_truth(simulated: Simulated) -> None:
    found = find_truth(str(simulated.folder / "truth.parquet"), DEFAULT_TASKS)
    assert found.num_impressions == simulated.summary.impressions


def test_a_click_converts_exactly_where_the_truth_says_so(
    logs: dict[str, RawLog], truth: pd.DataFrame
) -> None:
    would_convert = dict(zip(truth.impression_id, truth.conversion_if_clicked, strict=True))
    for log in logs.values():
        for sample_id, click, conversion, *_ in log.impressions:
            assert conversion == click * would_convert[sample_id]
    assert set(would_convert.values()) == {0, 1}


@pytest.mark.parametrize("num_tasks", [1, 2, 5])
def test_the_same_seed_gives_the_same_bytes_whatever_the_partitions(
    spark: SparkSession, simulated: Simulated, tmp_path: Path, num_tasks: int
) -> None:
    simulate(spark, str(tmp_path / "raw"), NUM_GROUPS, SEED, "demo", num_tasks)
    assert read_bytes(tmp_path / "raw") == read_bytes(simulated.folder)


def test_another_seed_gives_other_bytes(spark: SparkSession, simulated: Simulated, tmp_path: Path) -> None:
    simulate(spark, str(tmp_path / "raw"), NUM_GROUPS, SEED + 1, "demo")
    ours, theirs = read_bytes(simulated.folder), read_bytes(tmp_path / "raw")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] == theirs[name]] == []


def test_a_rerun_replaces_and_leaves_nothing_behind(
    spark: SparkSession, small_parts: None, tmp_path: Path
) -> None:
    simulate(spark, str(tmp_path / "raw"), 600, 1, "demo")
    summary = simulate(spark, str(tmp_path / "raw"), 2, 2, "demo")
    assert summary.contexts == 2
    assert pq.read_table(tmp_path / "raw" / "truth.parquet").num_rows == summary.impressions
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_what_stood_there_is_whole_when_a_run_fails(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate(spark, str(tmp_path / "raw"), 4, 1, "demo")
    before = read_bytes(tmp_path / "raw")
    written: Callable[..., object] = getattr(simulate_module, "write_parts")  # noqa: B009 it is imported there

    def lose_a_line(*args: object) -> object:
        counts = written(*args)
        file = next(tmp_path.glob(".raw.*.staging/sample_skeleton_test/*"))
        file.write_bytes(file.read_bytes().split(b"\n", 1)[1])
        return counts

    monkeypatch.setattr(simulate_module, "write_parts", lose_a_line)
    with pytest.raises(CountMismatchError, match=r"1 files .* sample_skeleton_test/part-00000\.csv"):
        simulate(spark, str(tmp_path / "raw"), 4, 2, "demo")
    assert read_bytes(tmp_path / "raw") == before
    monkeypatch.undo()
    simulate(spark, str(tmp_path / "raw"), 4, 2, "demo")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_other_peoples_files_are_not_replaced(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt, which would be deleted"):
        simulate(spark, str(tmp_path), 4, 1, "demo")
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_download_of_ali_ccp_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "sample_skeleton_train").mkdir()
    (tmp_path / "sample_skeleton_train" / "part-0.csv").write_text("1,0,0,a,0,\n")
    with pytest.raises(InputError, match="holds sample_skeleton_train, which would be deleted"):
        check_arguments(str(tmp_path), 4, 1, "demo")


@pytest.mark.parametrize(
    ("num_groups", "seed", "preset", "message"),
    [
        (1, 1, "demo", "--num-groups 1: must be from 2"),
        (10**10 + 1, 1, "demo", "--num-groups 10000000001: must be"),
        (2, -1, "demo", "--seed -1: must be from 0"),
        (2, 2**63, "demo", "--seed 9223372036854775808: must be"),
        (2, 1, "paper", "unknown preset 'paper': choose one of demo, aliccp"),
    ],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, num_groups: int, seed: int, preset: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_arguments(str(tmp_path / "raw"), num_groups, seed, preset)


@pytest.mark.parametrize("num_groups", [2, 3, 255, 256, 257, 8_193, 20_000])
def test_parts_cover_all_groups_and_ids_once(num_groups: int) -> None:
    parts = plan_parts(World(DEMO, 3, (0.0, 0.0)), num_groups)
    assert sum(part.num_groups for part in parts) == num_groups
    next_group, next_sample_id = {"train": 0, "test": 0}, 1
    for part in parts:
        assert part.first_group == next_group[part.split]
        assert part.first_sample_id == next_sample_id
        assert sum(size for _, size in part.blocks) == part.num_groups
        next_group[part.split] += part.num_groups
        next_sample_id += part.num_impressions
    assert next_group["train"] - next_group["test"] in (0, 1)
