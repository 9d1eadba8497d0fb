"""Partitions scored by Spark: equal to the model's own output, complete, and replaced as a whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import (
    ConfigError,
    CountMismatchError,
    IncompleteError,
    InputError,
    SpecMismatchError,
    UnsafeFileError,
)
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.schemas.columns import SCORE_COLUMNS, names_of
from esmm_spark.evaluation.measure.inputs import find_scores
from esmm_spark.files import storage
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.scoring import scoring
from esmm_spark.scoring.partition import find_record
from esmm_spark.scoring.scoring import Scored, plan_scoring, score
from esmm_spark.scoring.task import ScoreReport
from tests.scoring.random_model import write_model
from tests.synthetic_examples import (
    SPEC,
    Group,
    config_content,
    of_before,
    random_groups,
    rewrite,
    write_dataset,
    write_partition,
)

GROUPS = random_groups(60, seed=5)
OTHER_GROUPS = random_groups(10, seed=6)
UNLABELLED = [{**group, "click": None, "conversion": None} for group in random_groups(10, seed=7)]


def write_examples(dataset: Path) -> None:
    """`split=test` in two files, `split=other`, `split=empty`, and `split=new` without labels."""
    labelled = random_groups(10, seed=7)
    new = of_before(write_partition(dataset, "split=new", labelled, [[10]]))
    pq.write_table(_table(UNLABELLED), dataset / new.files[0].path)
    write_dataset(
        dataset,
        {
            "split=test": write_partition(dataset, "split=test", GROUPS, [[20, 20], [20]]),
            "split=other": of_before(write_partition(dataset, "split=other", OTHER_GROUPS, [[10]])),
            "split=empty": write_partition(dataset, "split=empty", [], []),
            "split=new": new.model_copy(update={"clicks": 0, "conversions": 0}),
        },
    )


def _table(groups: list[Group]) -> Any:
    import pyarrow as pa

    from tests.synthetic_examples import SCHEMA

    return pa.Table.from_pylist(groups, SCHEMA)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    write_examples(tmp_path / "dataset")
    return Config.model_validate(config_content(tmp_path))


@pytest.fixture
def run(spark: SparkSession) -> Callable[..., Scored]:
    def run(config: Config, partition: str = "split=test", **section: Any) -> Scored:
        wanted = {"score": config.score.model_copy(update={"partition": partition, **section})}
        return score(spark, plan_scoring(config.model_copy(update=wanted)))

    return run


def rows_of(folder: str) -> dict[str, tuple[Any, ...]]:
    """Returns impression id -> the rest of its row; no id twice."""
    table = pq.read_table(folder, partitioning=None).to_pydict()
    assert list(table) == names_of(SCORE_COLUMNS)
    ids = table.pop("impression_id")
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, zip(*table.values(), strict=True), strict=True))


def content_of(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


@pytest.mark.spark
@pytest.mark.parametrize(("objective", "num_shards"), [("esmm", 2), ("base", 1)])
def test_scores_equal_the_models_own_output_on_the_same_impressions(
    config: Config, run: Callable[..., Scored], objective: str, num_shards: int
) -> None:
    config = config.model_copy(update={"model": config.model.model_copy(update={"objective": objective})})
    model = write_model(config, num_shards=num_shards)

    scored = run(config, batch_size=50)

    expected = model.own_output(GROUPS)
    found = rows_of(scored.folder)
    ids = [i for group in GROUPS for i in group["impression_id"]]
    assert set(found) == set(ids)
    np.testing.assert_allclose(np.array([found[i][1:4] for i in ids]).T, expected, rtol=2e-5)
    version = Path(model.uri).name
    labels = [
        (group["group_key"], version, click, conversion)
        for group in GROUPS
        for click, conversion in zip(group["click"], group["conversion"], strict=True)
    ]
    assert [(found[i][0], *found[i][4:]) for i in ids] == labels
    assert scored.record.impressions == len(ids)
    assert scored.record.means["pctcvr"] == pytest.approx(expected[2].mean(), rel=1e-4)
    assert scored.record == find_record(scored.folder)


@pytest.mark.spark
def test_evaluation_reads_what_is_written(config: Config, run: Callable[..., Scored]) -> None:
    write_model(config)
    found = find_scores(run(config).folder, config.tasks)
    assert found.num_impressions == sum(len(group["click"]) for group in GROUPS)


@pytest.mark.spark
def test_impressions_without_labels_are_scored_with_null_labels(
    config: Config, run: Callable[..., Scored]
) -> None:
    model = write_model(config)
    found = rows_of(run(config, "split=new").folder)
    assert {row[5:] for row in found.values()} == {(None, None)}
    ids = [i for group in UNLABELLED for i in group["impression_id"]]
    expected = model.own_output(UNLABELLED)
    np.testing.assert_allclose(np.array([found[i][1:4] for i in ids]).T, expected, rtol=2e-5)


@pytest.mark.spark
def test_a_partition_without_groups_has_scores_of_nothing(
    spark: SparkSession, config: Config, run: Callable[..., Scored]
) -> None:
    write_model(config)
    scored = run(config, "split=empty")
    assert (scored.record.impressions, scored.record.means["pctr"]) == (0, None)
    assert storage.is_complete(scored.folder)
    assert rows_of(scored.folder) == {}


@pytest.mark.spark
def test_another_run_replaces_its_partition_and_leaves_the_others(
    config: Config, run: Callable[..., Scored]
) -> None:
    write_model(config)
    first, other = run(config), run(config, "split=other")
    before = rows_of(first.folder)
    of_other = content_of(other.folder)

    for num_files in (1, 2):
        again = run(config, num_files=num_files)
        assert rows_of(again.folder) == before
        names = {path.name for path in Path(again.folder).iterdir()}
        parts = {f"part-{number:05d}.parquet" for number in range(num_files)}
        assert names == {*parts, "_SUCCESS", "_score.json"}

    newer = write_model(config, seed=1)
    rescored = run(config)
    assert {row[4] for row in rows_of(rescored.folder).values()} == {Path(newer.uri).name}
    assert content_of(other.folder) == of_other
    assert sorted(path.name for path in Path(config.paths.scores).iterdir()) == ["split=other", "split=test"]


@pytest.mark.spark
def test_what_is_scored_from_the_same_inputs_is_known_until_one_changes(
    config: Config, run: Callable[..., Scored]
) -> None:
    write_model(config)
    assert plan_scoring(config).done_before() is None
    scored = run(config)

    done = plan_scoring(config).done_before()
    assert done is not None
    assert done.record == scored.record
    assert "already: nothing to do (--force scores again)" in str(done)

    (Path(scored.folder) / "_SUCCESS").unlink()
    assert plan_scoring(config).done_before() is None
    (Path(scored.folder) / "_SUCCESS").touch()
    write_examples(Path(config.paths.dataset))  # the same groups, written again
    assert plan_scoring(config).done_before() is None
    run(config)
    assert plan_scoring(config).done_before() is not None
    write_model(config, seed=1)
    assert plan_scoring(config).done_before() is None


@pytest.mark.spark
def test_a_count_that_differs_from_the_manifest_fails_and_leaves_the_old_partition(
    config: Config, run: Callable[..., Scored]
) -> None:
    write_model(config)
    before = content_of(run(config).folder)
    manifest = Path(config.paths.dataset) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["partitions"]["split=test"]["impressions"] += 1
    rewrite(manifest, json.dumps(content))

    num_impressions = sum(len(group["click"]) for group in GROUPS)
    with pytest.raises(
        CountMismatchError,
        match=f"{num_impressions} scores were written for {num_impressions + 1} impressions",
    ):
        run(config)
    assert content_of(f"{config.paths.scores}/split=test") == before


@pytest.mark.spark
def test_scores_whose_files_hold_other_rows_than_were_scored_are_not_published(
    config: Config, run: Callable[..., Scored], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(config)
    before = content_of(run(config).folder)
    keep, num_impressions = scoring._keep_files, sum(len(group["click"]) for group in GROUPS)

    def lose_a_row(staged: str, reports: list[ScoreReport]) -> dict[str, str]:
        digests = keep(staged, reports)
        file = Path(staged, "part-00000.parquet")
        pq.write_table(pq.read_table(file, partitioning=None)[1:], file)
        return digests

    monkeypatch.setattr(scoring, "_keep_files", lose_a_row)
    with pytest.raises(
        CountMismatchError,
        match=f"{num_impressions - 1} scores in the .* files of .*, {num_impressions} were",
    ):
        run(config)
    assert content_of(f"{config.paths.scores}/split=test") == before


@pytest.mark.spark
@pytest.mark.parametrize("damage", ["truncated", "overwritten", "emptied"])
def test_a_corrupt_parquet_file_is_named_and_the_old_partition_stays(
    config: Config, run: Callable[..., Scored], damage: str
) -> None:
    write_model(config)
    before = content_of(run(config).folder)
    file = Path(config.paths.dataset) / "examples/split=test/part-00001.parquet"
    content = file.read_bytes()
    file.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            # The footer is whole, the pages are not.
            "overwritten": content[:4] + b"\xff" * (len(content) // 2) + content[4 + len(content) // 2 :],
            "emptied": b"",
        }[damage]
    )
    with pytest.raises(InputError, match=r"split=test/part-00001\.parquet.* it is truncated"):
        run(config)
    assert content_of(f"{config.paths.scores}/split=test") == before


@pytest.mark.spark
def test_a_mistake_found_in_a_worker_is_told_as_such(config: Config, run: Callable[..., Scored]) -> None:
    model = write_model(config)
    info = Path(model.uri) / "model.json"
    rewrite(info, info.read_text().replace('"mlp"', '"no_such_module:Network"'))
    with pytest.raises(ConfigError, match=r"^model.network = 'no_such_module:Network': can't import"):
        run(config)

    rewrite(info, info.read_text().replace('"no_such_module:Network"', '"mlp"'))
    damaged = [{**OTHER_GROUPS[0], "context_rows": [10**6] * len(OTHER_GROUPS[0]["context_rows"])}]
    pq.write_table(
        _table(damaged + OTHER_GROUPS[1:]),
        Path(config.paths.dataset) / "examples/split=other/part-00000.parquet",
    )
    with pytest.raises(
        InputError,
        match=r"00\.parquet, row group 0: group \S+ has context_rows outside of the arena's rows 0 to 319; ",
    ):
        run(config, "split=other")
    # Nobody looks at it, but it could be as large as the scores.
    assert list(Path(config.paths.scores).glob(".*")) == []


def other_spec() -> FeatureSpec:
    return FeatureSpec.model_validate(
        {**SPEC.model_dump(), "tables": {**SPEC.model_dump()["tables"], "item": {"num_buckets": 201}}}
    )


def test_specs_that_differ_are_refused_with_both_names(config: Config) -> None:
    model = write_model(config)
    with pytest.raises(
        SpecMismatchError,
        match=rf"the config has feature spec {other_spec().digest}, model {model.uri} has {SPEC.digest} "
        r"\(they differ in tables item\)",
    ):
        plan_scoring(config.model_copy(update={"features": other_spec()}))

    manifest = Path(config.paths.dataset) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["feature_spec"] = json.loads(other_spec().model_dump_json())
    content["feature_spec_digest"] = other_spec().digest
    rewrite(manifest, json.dumps(content))
    with pytest.raises(
        SpecMismatchError,
        match=rf"dataset {config.paths.dataset} has feature spec {other_spec().digest}, model 000001-\w+ in",
    ):
        plan_scoring(config)


def test_a_model_of_other_tasks_than_the_dataset_is_refused(config: Config) -> None:
    write_model(config)
    manifest = Path(config.paths.dataset) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["tasks"] = {"click": {}, "like": {"given": "click"}}
    rewrite(manifest, json.dumps(content))
    with pytest.raises(
        SpecMismatchError,
        match=rf"dataset {config.paths.dataset} has the tasks click, like given click; model 000001-\w+ "
        "in .* has click, conversion given click: preprocess or train again",
    ):
        plan_scoring(config)


def test_inputs_that_are_not_whole_are_refused(config: Config) -> None:
    dataset = Path(config.paths.dataset)
    with pytest.raises(InputError, match=r"no model at .*: run esmm_spark/train\.py"):
        plan_scoring(config)
    write_model(config)
    with pytest.raises(InputError, match=r"has no partition split=may: it has split=empty, split=new"):
        plan_scoring(
            config.model_copy(update={"score": config.score.model_copy(update={"partition": "split=may"})})
        )
    (dataset / "examples/split=test/part-00001.parquet").unlink()
    with pytest.raises(
        InputError, match=r"part-00001\.parquet is missing, .*dataset should have it: write .*dataset again"
    ):
        plan_scoring(config)
    (dataset / "_common_metadata").touch()
    with pytest.raises(UnsafeFileError, match="_common_metadata"):
        plan_scoring(config)
    (dataset / "_SUCCESS").unlink()
    with pytest.raises(IncompleteError, match="is half-written"):
        plan_scoring(config)


def test_examples_of_another_content_are_scored_again(config: Config) -> None:
    write_model(config)
    section = {"score": config.score.model_copy(update={"partition": "split=test"})}
    config = config.model_copy(update=section)
    before = plan_scoring(config).inputs
    assert plan_scoring(config).inputs == before
    # As after a backfill of labels: as many of all, of the same sizes, at the same time.
    dataset = Path(config.paths.dataset)
    partitions = read_manifest(str(dataset)).partitions
    partitions["split=test"].files[0].checksums[0] = "0123456789abcdef"
    write_dataset(dataset, partitions)
    assert plan_scoring(config).inputs != before
