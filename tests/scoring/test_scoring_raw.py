"""Raw files scored: what preprocess would have made of them, scored as its examples are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, InputError, TooManyRejectsError
from esmm_spark.contracts.manifest import SourceCounts
from esmm_spark.files import seals
from esmm_spark.samples.dataset import preprocess
from esmm_spark.scoring.scoring import Scored, plan_scoring, score
from esmm_spark.scoring.sources import read_by_spark, why_nothing_is_left
from tests.flipped_bits import flips_of
from tests.scoring.random_model import write_model
from tests.synthetic_examples import Group

PROBABILITIES = ("pctr", "pcvr", "pctcvr")

FEATURES = {
    "tables": {"101": {"num_buckets": 50}, "cat": {"num_buckets": 40}, "205": {"num_buckets": 60}},
    "fields": [
        {"name": "101", "level": "context"},
        {"name": "109_14", "level": "context", "table": "cat", "weighted": True, "multi": True},
        {"name": "205", "level": "impression", "min_count": 2},
        {"name": "210", "level": "impression", "table": "cat", "multi": True, "pooling": "mean"},
    ],
}


def line(*columns: object, tokens: list[tuple[str, str, float]]) -> str:
    text = "\x01".join(f"{field}\x02{value}\x03{weight}" for field, value, weight in tokens)
    return ",".join([*map(str, columns), str(len(tokens)), text])


def write_split(folder: Path, split: str, seed: int, labelled: bool = True) -> None:
    """Writes 20 contexts with up to 6 impressions; some values stand on one line of the split only."""
    random = np.random.default_rng(seed)
    contexts: list[str] = []
    impressions: list[str] = []
    for context in range(20):
        key = f"{split}-{context}"
        history = [
            ("109_14", str(random.integers(30)), round(float(random.random()) + 0.1, 3))
            for _ in range(random.integers(0, 4))
        ]
        contexts.append(line(key, tokens=[("101", str(random.integers(40)), 1.0), *history]))
        for _ in range(random.integers(1, 7)):
            click = int(random.integers(2))
            labels = click, click * int(random.integers(2))
            item = [("205", str(random.integers(80)), 1.0)]
            others = [("210", str(random.integers(30)), 1.0) for _ in range(random.integers(0, 3))]
            number = f"{split}-{len(impressions)}"
            # Of every other one the click is known, and its conversion not yet.
            unknown = ("", "") if len(impressions) % 2 else (click, "")
            shown = labels if labelled else unknown
            impressions.append(line(number, *shown, key, tokens=item + others))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"skeleton_{split}.csv").write_text("\n".join(impressions) + "\n")
    (folder / f"common_{split}.csv").write_text("\n".join(contexts) + "\n")


def raw_files(folder: Path, split: str) -> dict[str, str]:
    return {
        "skeleton": str(folder / f"skeleton_{split}.csv"),
        "common_features": str(folder / f"common_{split}.csv"),
    }


@pytest.fixture
def config(tmp_path: Path) -> Config:
    raw = tmp_path / "raw"
    write_split(raw, "train", seed=1)
    write_split(raw, "test", seed=2)
    return Config.model_validate(
        {
            "paths": {name: str(tmp_path / name) for name in ("dataset", "model", "scores", "report")},
            "logs": {"splits": {split: raw_files(raw, split) for split in ("train", "test")}},
            "features": FEATURES,
            "samples": {"num_files": 2, "max_group_size": 4},
            "model": {"dim": 4, "hidden_units": [8]},
            "score": {"partition": "split=raw", "source": "raw", "raw": raw_files(raw, "test")},
        }
    )


@pytest.fixture
def run(spark: SparkSession) -> Callable[..., Scored]:
    def run(config: Config, **section: Any) -> Scored:
        wanted = {"score": config.score.model_copy(update=section)}
        return score(spark, plan_scoring(config.model_copy(update=wanted)))

    return run


def rows_of(folder: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder, partitioning=None).to_pylist()
    return sorted(rows, key=lambda row: row["impression_id"])


def assert_same_scores(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Holds the rows against each other, probabilities to the rounding of float32."""

    def rest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in row.items() if key not in PROBABILITIES} for row in rows]

    assert rest(found) == rest(expected)
    for name in PROBABILITIES:
        np.testing.assert_allclose([row[name] for row in found], [row[name] for row in expected], rtol=1e-5)


def examples_of(dataset: str, partition: str) -> list[Group]:
    groups: list[Group] = pq.read_table(f"{dataset}/examples/{partition}", partitioning=None).to_pylist()
    return groups


@pytest.mark.spark
def test_raw_files_score_as_their_examples_do_with_or_without_labels(
    spark: SparkSession, config: Config, run: Callable[..., Scored], tmp_path: Path
) -> None:
    preprocess(spark, config)
    model = write_model(config, vocabulary=f"{config.paths.dataset}/vocabulary")
    of_examples = rows_of(run(config, source="examples", partition="split=test").folder)

    assert plan_scoring(config).done_before() is None
    scored = run(config)
    assert plan_scoring(config).done_before() is not None

    assert_same_scores(rows_of(scored.folder), of_examples)
    assert {row["click"] for row in of_examples} == {0, 1}
    groups = examples_of(config.paths.dataset, "split=test")
    ids = [i for group in groups for i in group["impression_id"]]
    expected = dict(zip(ids, model.own_output(groups).T, strict=True))
    np.testing.assert_allclose(
        [[row[name] for name in PROBABILITIES] for row in of_examples],
        [expected[row["impression_id"]] for row in of_examples],
        rtol=2e-5,
    )
    # Rare items and frequent ones: the vocabulary of the model was used.
    rows = [row for group in groups for row in group["impression_rows"]]
    assert 0 < rows.count(config.features.offsets["205"]) < len(ids)
    assert scored.record.rejects == {}
    assert [path.name for path in Path(config.paths.scores).iterdir() if path.name[0] == "."] == []

    write_split(tmp_path / "new", "test", seed=2, labelled=False)
    new = config.model_dump()
    new["score"]["raw"] = raw_files(tmp_path / "new", "test")
    unlabelled = Config.model_validate(new)
    assert plan_scoring(unlabelled).done_before() is None
    without_labels = [
        {
            **row,
            "click": None if int(row["impression_id"].partition("-")[2]) % 2 else row["click"],
            "conversion": None,
        }
        for row in of_examples
    ]
    assert_same_scores(rows_of(run(unlabelled).folder), without_labels)


@pytest.mark.spark
def test_plain_paths_are_this_hosts_whatever_file_system_spark_takes_for_its_default(
    spark_elsewhere: SparkSession, config: Config, run: Callable[..., Scored]
) -> None:
    logs = config.logs.model_copy(update={"max_reject_fraction": 1.0})
    config = config.model_copy(update={"logs": logs})
    skeleton = Path(logs.splits["train"].skeleton)
    # A repeated sample, so that the list of those is written and read, too.
    skeleton.write_text(skeleton.read_text() + skeleton.read_text().splitlines()[0] + "\n")
    preprocess(spark_elsewhere, config)
    write_model(config, vocabulary=f"{config.paths.dataset}/vocabulary")
    of_examples = run(config, source="examples", partition="split=test")
    assert_same_scores(rows_of(run(config).folder), rows_of(of_examples.folder))


@pytest.mark.spark
def test_bad_lines_are_counted_and_kept_beside_the_scores(
    config: Config, run: Callable[..., Scored], tmp_path: Path
) -> None:
    # No field counts its values, so that the model needs no vocabulary.
    content = config.model_dump()
    content["features"]["fields"][2]["min_count"] = 1
    config = Config.model_validate(content)
    write_model(config)
    skeleton = tmp_path / "raw/skeleton_test.csv"
    num_good = len(skeleton.read_text().splitlines())
    bad = ["x1,0,0,nowhere,0,", "x2,0,1,test-0,0,", "x3,0"]
    with skeleton.open("a") as file:
        file.write("\n".join(bad) + "\n")

    with pytest.raises(TooManyRejectsError, match=rf"3 of {num_good + 3} lines of raw\.skeleton"):
        run(config)
    assert not Path(config.paths.scores, "split=raw").exists()
    assert list(Path(config.paths.scores).glob(".*-examples")) == []

    scored = run(
        config.model_copy(update={"logs": config.logs.model_copy(update={"max_reject_fraction": 0.5})})
    )
    assert scored.record.impressions == num_good == len(rows_of(scored.folder))
    assert scored.record.rejects == {
        "unknown_context": 1,
        "conversion_without_click": 1,
        "too_few_columns": 1,
    }
    rejects = pq.read_table(f"{scored.folder}/_rejects", partitioning=None).to_pylist()
    assert sorted(row["line"].decode() for row in rejects) == sorted(bad)
    assert "3 lines rejected" in str(scored)
    lines = next(Path(scored.folder, "_rejects").glob("*.parquet"))
    for _ in flips_of(lines, 25):
        with pytest.raises(InputError, match=rf"^\S+/{lines.name} has another SHA-256 than in .*: mend it$"):
            seals.verify_listed(str(lines.parent), "mend it")


def test_where_no_impression_is_left_the_reason_of_most_rejects_is_told() -> None:
    contexts = SourceCounts(
        name="raw.common_features", path="c.csv", lines_read=3, lines_accepted=1, rejects={"bad_token": 2}
    )
    labels = SourceCounts(
        name="raw.skeleton",
        path="s.csv",
        lines_read=9,
        lines_accepted=0,
        rejects={"unknown_context": 2, "bad_label": 7},
    )
    told = why_nothing_is_left(contexts, labels)
    assert told.startswith("no impression of s.csv can be scored: 7 of 9 lines are rejected as bad_label: ")
    unknown = labels.model_copy(update={"rejects": {"unknown_context": 9}})
    told = why_nothing_is_left(contexts, unknown)
    assert "unknown_context, their index stands in no good line of c.csv (bad_token 2)" in told
    blank = labels.model_copy(update={"rejects": {}})
    assert why_nothing_is_left(contexts, blank) == "s.csv holds blank lines alone: there is nothing to score"


@pytest.mark.spark
def test_raw_files_whose_labels_are_all_bad_are_told_so(
    config: Config, run: Callable[..., Scored], tmp_path: Path
) -> None:
    content = config.model_dump()
    content["features"]["fields"][2]["min_count"] = 1
    content["logs"]["max_reject_fraction"] = 1.0
    config = Config.model_validate(content)
    write_model(config)
    skeleton = tmp_path / "raw/skeleton_test.csv"
    lines = [line.split(",", 2) for line in skeleton.read_text().splitlines()]
    skeleton.write_text("".join(f"{number},7,{rest}\n" for number, _, rest in lines))
    with pytest.raises(
        InputError, match=rf"{len(lines)} of {len(lines)} lines are rejected as bad_label: docs/"
    ):
        run(config)


def test_raw_files_that_are_missing_or_of_another_format_are_refused(config: Config, tmp_path: Path) -> None:
    write_model(config)
    (tmp_path / "raw/common_test.csv").unlink()
    with pytest.raises(InputError, match=r"no file at .*common_test\.csv"):
        plan_scoring(config)
    events = config.logs.model_copy(update={"format": "events"})
    with pytest.raises(ConfigError, match=r"score\.source is raw, which reads files of aliccp, "):
        plan_scoring(config.model_copy(update={"logs": events}))


@pytest.mark.spark
def test_a_model_without_the_vocabulary_that_its_spec_needs_is_refused(
    config: Config, run: Callable[..., Scored]
) -> None:
    write_model(config)
    with pytest.raises(InputError, match=r"no vocabulary at .*versions/000001-\w+/vocabulary"):
        run(config)


def test_of_examples_spark_reads_nothing_whatever_raw_files_the_config_names(config: Config) -> None:
    assert [path.key for path in read_by_spark(config)] == ["score.raw.skeleton", "score.raw.common_features"]
    examples = config.score.model_copy(update={"source": "examples"})
    assert read_by_spark(config.model_copy(update={"score": examples})) == []
