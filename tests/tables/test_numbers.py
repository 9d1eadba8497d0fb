"""Numbers of a table, in buckets and as weights, against numpy on the same numbers."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import InputError, SpecMismatchError
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.samples.dataset import preprocess
from esmm_spark.samples.vocabulary import load_vocabulary
from esmm_spark.scoring.scoring import plan_scoring, score
from esmm_spark.tables.table_log import read_table
from tests.events.small_logs import row_of
from tests.scoring.random_model import write_model
from tests.tables.small_tables import Line, impressions_of, table_config, write_table

pytestmark = pytest.mark.spark

# 'rare', missing and scaled come before the buckets.
MISSING, SCALED, FIRST = 1, 2, 3


def lines_of_numbers(values: list[Any]) -> list[Line | str]:
    return [
        {"id": f"i{place:04}", "user": f"u{place % 7}", "age": str(place % 7), "item": "1", "x": value}
        | {"click": place % 2, "order": 0, "part": "test" if place % 5 == 0 else "train"}
        for place, value in enumerate(values)
    ]


def config_of(tmp_path: Path, path: str, fields: list[str | Line], **table: Any) -> Config:
    splits = {"column": "part", "values": {"train": ["train"], "test": ["test"]}}
    names = [field if isinstance(field, str) else field["name"] for field in fields]
    features = {name.removeprefix("+"): "x" for name in names}
    return table_config(tmp_path, path, fields, **{"features": features, "splits": splits, **table})


def run(spark: SparkSession, config: Config) -> tuple[Manifest, list[Line]]:
    manifest = preprocess(spark, config, read_table)
    found = [row for split in ("train", "test") for row in impressions_of(spark, config, manifest, split)]
    return manifest, sorted(found, key=lambda row: str(row["impression_id"]))


def train_values(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    is_train = np.arange(len(values)) % 5 != 0
    found: npt.NDArray[np.float64] = values[is_train]
    return found[~np.isnan(found)]


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_buckets_are_those_of_searchsorted_and_what_is_no_number_is_missing_and_counted(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    numbers = [-5, -0.0, 0, 0.5, 1, 9.99, 10, 1e30, 123456789012, None]
    texts = [] if suffix == "parquet" else ["inf", "dear", "1e39", "-1e400"]
    path = write_table(tmp_path / f"log.{suffix}", lines_of_numbers([*numbers, *texts]))
    boundaries = [0, 1, 10]
    fields: list[str | Line] = [
        {"name": "own", "kind": "numeric", "buckets": boundaries},
        {"name": "zero", "kind": "numeric", "buckets": boundaries, "missing": "zero"},
        {"name": "clipped", "kind": "numeric", "buckets": boundaries, "clip": [0.5, 2]},
    ]
    with caplog.at_level("WARNING"):
        manifest, found = run(spark, config_of(tmp_path, path, fields))
    known = np.array([math.nan if x is None else x for x in numbers] + [math.nan] * len(texts))
    filled = np.nan_to_num(known, posinf=0)
    for row, number, full in zip(found, known, filled, strict=True):
        place = int(np.searchsorted(boundaries, number, side="right"))
        clipped = int(np.searchsorted(boundaries, np.clip(number, 0.5, 2), side="right"))
        is_missing = math.isnan(number)
        assert row["own"] == [MISSING if is_missing else FIRST + place]
        assert row["zero"] == [FIRST + int(np.searchsorted(boundaries, full, side="right"))]
        assert row["clipped"] == [MISSING if is_missing else FIRST + clipped]
    # They follow from the config: nothing is fitted.
    assert manifest.fitted == {}
    lost = {f"no_number_{name}": len(texts) for name in ("own", "zero", "clipped") if texts}
    assert manifest.sources[0].notes == lost
    told = f"field own: {len(texts)} lines have a value that is no finite number: it counts as missing"
    assert (told in caplog.text) == bool(texts)


def test_quantiles_are_fitted_on_train_alone_and_place_all_numbers_as_numpy_does(
    spark: SparkSession, tmp_path: Path
) -> None:
    random = np.random.default_rng(4)
    values = np.round(random.lognormal(0, 2, 400), 2)
    values[::3], values[::11] = 0.0, math.nan
    logged = [None if math.isnan(value) else float(value) for value in values]
    path = write_table(tmp_path / "log.parquet", lines_of_numbers(logged))
    fields: list[str | Line] = [
        {"name": "own", "level": "impression", "kind": "numeric", "quantile": 8},
        {"name": "both", "kind": "numeric", "quantile": 8, "scaled": True, "transform": "log1p"},
        {"name": "shared", "kind": "numeric", "transform": "quantile", "clip": [0, 50]},
        {"name": "context", "level": "context", "kind": "numeric", "clip": [-100, 10], "missing": "zero"},
    ]
    # Each line is a context of its own, so that a context's number is the line's.
    manifest, found = run(spark, config_of(tmp_path, path, fields, context_key=None))
    train = train_values(values)
    shares = np.arange(1, 8) / 8
    expected = np.unique(np.quantile(train, shares, method="inverted_cdf"))
    # A third of all numbers is 0: several quantiles are one boundary.
    assert len(expected) < 7
    assert manifest.fitted["own"].boundaries == manifest.fitted["both"].boundaries == expected.tolist()
    logs = np.log1p(train)
    np.testing.assert_allclose(manifest.fitted["both"].mean, logs.mean(), rtol=1e-10)
    np.testing.assert_allclose(manifest.fitted["both"].scale, logs.std(), rtol=1e-10)
    clipped = np.clip(np.nan_to_num(values[np.arange(400) % 5 != 0]), -100, 10)
    np.testing.assert_allclose(manifest.fitted["context"].mean, clipped.mean(), rtol=1e-10)

    weights = weights_of(spark, config_of(tmp_path, path, fields, context_key=None), manifest)
    points, levels = _numpy_curve(np.clip(train, 0, 50))
    for row, value in zip(found, values, strict=True):
        place = FIRST + int(np.searchsorted(expected, value, side="right"))
        is_missing = math.isnan(value)
        assert row["own"] == [MISSING if is_missing else place]
        assert row["both"] == ([MISSING] if is_missing else [SCALED, place])
        assert row["shared"] == [MISSING if is_missing else SCALED]
        own = weights[row["impression_id"]]
        if not is_missing:
            z = (np.log1p(value) - logs.mean()) / logs.std()
            np.testing.assert_allclose(own["both"], [z, 1], rtol=1e-5, atol=1e-6)
            share = (np.interp(np.clip(value, 0, 50), points, levels) - 0.5) * math.sqrt(12)
            np.testing.assert_allclose(own["shared"], [share], rtol=1e-5, atol=1e-6)
        number = np.clip(0.0 if is_missing else value, -100, 10)
        z = (number - clipped.mean()) / clipped.std()
        np.testing.assert_allclose(own["context"], [z], rtol=1e-5, atol=1e-6)


def _numpy_curve(train: npt.NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """Returns the points of the empirical distribution, and the middle of the shares at each."""
    quantiles = np.quantile(train, np.arange(101) / 100, method="inverted_cdf")
    points = np.unique(quantiles)
    return points.tolist(), [np.flatnonzero(quantiles == point).mean() / 100 for point in points]


def weights_of(spark: SparkSession, config: Config, manifest: Manifest) -> dict[str, dict[str, list[float]]]:
    """Returns impression id -> field -> weights, of groups of one."""
    found = {}
    fields = [*config.features.context_fields, *config.features.impression_fields]
    for row in pq.read_table(f"{config.paths.dataset}/examples", partitioning=None).to_pylist():
        (identifier,) = row["impression_id"]
        lengths = [*row["context_lengths"], *row["impression_lengths"]]
        weights = iter([*row["context_weights"], *row["impression_weights"]])
        own = {f.name: [next(weights) for _ in range(n)] for f, n in zip(fields, lengths, strict=True)}
        found[identifier] = own
    return found


def test_a_scored_table_is_placed_by_the_model_and_a_dataset_of_other_boundaries_is_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    values = [float(value) for value in range(30)]
    fields: list[str | Line] = [{"name": "x", "kind": "numeric", "quantile": 4, "scaled": True}]
    path = write_table(tmp_path / "log.parquet", lines_of_numbers(values))
    config = config_of(tmp_path, path, fields, model={"dim": 4, "hidden_units": [8]})
    manifest = preprocess(spark, config, read_table)
    write_model(config, fitted=manifest.fitted)
    of_examples = {
        row["impression_id"]: row["pctcvr"]
        for split in ("train", "test")
        for row in scores_of(spark, config, partition=f"split={split}")
    }
    # Of fewer lines other quantiles would be fitted.
    today = write_table(tmp_path / "today.parquet", lines_of_numbers(values)[20:])
    raw = scores_of(spark, config, source="raw", table=today, partition="ds=today")
    assert len(raw) == 10
    for row in raw:
        np.testing.assert_allclose(row["pctcvr"], of_examples[row["impression_id"]], rtol=1e-6)

    write_table(tmp_path / "log.parquet", lines_of_numbers([2 * value for value in values]))
    preprocess(spark, config, read_table)
    message = r"dataset .* has fitted boundaries \w{16}, model .* has \w{16} \(they differ in x\)"
    with pytest.raises(SpecMismatchError, match=message):
        scores_of(spark, config, partition="split=train")


def scores_of(spark: SparkSession, config: Config, **section: Any) -> list[Line]:
    wanted = config.model_copy(update={"score": config.score.model_copy(update=section)})
    rows: list[Line] = pq.read_table(score(spark, plan_scoring(wanted)).folder, partitioning=None).to_pylist()
    return rows


def test_groups_held_out_for_validation_are_not_fitted_on(spark: SparkSession, tmp_path: Path) -> None:
    values = [float(value) for value in range(200)]
    path = write_table(tmp_path / "log.parquet", lines_of_numbers(values))
    fields: list[str | Line] = [{"name": "x", "kind": "numeric", "quantile": 2}]
    samples = {"validation_fraction": 0.5}
    config = config_of(tmp_path, path, fields, context_key=None, splits={}, samples=samples)
    manifest = preprocess(spark, config, read_table)
    examples = pq.read_table(f"{config.paths.dataset}/examples/split=train", partitioning=None)
    ids = [identifier for group in examples["impression_id"].to_pylist() for identifier in group]
    train = sorted(float(identifier[1:]) for identifier in ids)
    assert 50 < len(train) < 150
    assert manifest.fitted["x"].boundaries == [np.quantile(train, 0.5, method="inverted_cdf")]


def test_a_categorical_field_of_fractions_is_told_unless_the_config_says_so(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_table(tmp_path / "log.csv", lines_of_numbers([1, "2.0", 2.5, "a.b", None, 3.25]))
    fields: list[str | Line] = ["unsaid", {"name": "said", "kind": "categorical"}]
    with caplog.at_level("WARNING"):
        run(spark, config_of(tmp_path, path, fields))
    assert "field unsaid: 2 lines have numbers with fractions" in caplog.text
    assert "field said" not in caplog.text


def test_whole_numbers_are_told_where_the_field_is_called_like_an_amount_and_has_many(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ids are whole numbers, too: no warning says so of each of them."""
    path = write_table(tmp_path / "log.csv", lines_of_numbers([100 * value for value in range(200)]))
    said = {"name": "fee", "kind": "categorical"}
    fields: list[str | Line] = ["item_id", "price_cents", "numViews", said]
    config = config_of(tmp_path, path, fields)
    assert config.logs.table is not None
    few = {**config.logs.table.features, "numViews": ColumnSource(expr="cast(x as int) % 20")}
    table = config.logs.table.model_copy(update={"features": few})
    with caplog.at_level("WARNING"):
        run(spark, config.model_copy(update={"logs": config.logs.model_copy(update={"table": table})}))
    (told,) = [record.getMessage() for record in caplog.records if "field " in record.getMessage()]
    number = re.fullmatch(r"field price_cents: it is called like an amount, .* about (\d+) distinct .*", told)
    assert number is not None
    assert 160 <= int(number[1]) <= 240


def test_a_number_of_several_values_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = write_table(tmp_path / "log.parquet", lines_of_numbers([[1.0], [2.0]]))
    fields: list[str | Line] = [{"name": "x", "kind": "numeric", "buckets": [1]}]
    with pytest.raises(InputError, match="field x is of kind numeric, but its attribute is array of values"):
        run(spark, config_of(tmp_path, path, fields))


def vector_lines(num_lines: int, size: int) -> tuple[list[Line | str], list[list[float]]]:
    random = np.random.default_rng(6)
    vectors = random.normal(size=(num_lines, size)).astype(np.float32).astype(float).tolist()
    lines = lines_of_numbers(vectors)
    for place, line in enumerate(lines):
        assert isinstance(line, dict)
        # A user's own vector, which is the context's.
        line["own"] = vectors[place % 7]
    return lines, vectors


def test_a_vector_is_stored_as_it_is_and_one_of_another_size_is_missing_and_counted(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines, vectors = vector_lines(14, 3)
    for place, bad in ((3, [1.0, 2.0]), (5, [1.0, math.nan, 2.0]), (6, [1.0, math.inf, 2.0]), (8, None)):
        line = lines[place]
        assert isinstance(line, dict)
        line["x"], vectors[place] = bad, []
    fields: list[str | Line] = [
        {"name": "own", "level": "context", "kind": "vector", "size": 3},
        {"name": "x", "kind": "vector", "size": 3},
    ]
    path = write_table(tmp_path / "log.parquet", lines)
    config = config_of(tmp_path, path, fields, features={"own": "own", "x": "x"}, splits={})
    manifest = preprocess(spark, config, read_table)
    assert manifest.sources[0].notes == {"no_number_x": 3}
    offsets = config.features.offsets
    groups = pq.read_table(f"{config.paths.dataset}/examples", partitioning=None).to_pylist()
    assert len(groups) == 7
    for group in groups:
        assert group["context_rows"] == [offsets["own"] + 1 + place for place in range(3)]
        assert group["context_weights"] == vectors[int(group["group_key"][1:])] or group["group_key"] in (
            "u3",
            "u5",
            "u6",
            "u1",
        )
        weights = iter(group["impression_weights"])
        for identifier, length in zip(group["impression_id"], group["impression_lengths"], strict=True):
            expected = vectors[int(identifier[1:])]
            assert [next(weights) for _ in range(length)] == expected


def test_vectors_of_a_raw_table_score_as_those_of_its_examples(spark: SparkSession, tmp_path: Path) -> None:
    lines, _ = vector_lines(14, 3)
    line = lines[3]
    assert isinstance(line, dict)
    line["x"] = None
    fields: list[str | Line] = [
        {"name": "own", "level": "context", "kind": "vector", "size": 3},
        {"name": "x", "kind": "vector", "size": 3},
    ]
    path = write_table(tmp_path / "log.parquet", lines)
    columns = {"own": "own", "x": "x"}
    model = {"dim": 4, "hidden_units": [8]}
    config = config_of(tmp_path, path, fields, features=columns, splits={}, model=model)
    manifest = preprocess(spark, config, read_table)
    write_model(config, fitted=manifest.fitted)
    of_examples = {row["impression_id"]: row for row in scores_of(spark, config, partition="split=train")}
    raw = scores_of(spark, config, source="raw", table=path, partition="ds=today")
    assert {row["impression_id"] for row in raw} == {*of_examples}
    assert len({row["pctcvr"] for row in raw}) == 14
    for row in raw:
        for name in ("pctr", "pcvr", "pctcvr"):
            np.testing.assert_allclose(row[name], of_examples[row["impression_id"]][name], rtol=1e-6)


def test_a_later_table_takes_boundaries_and_frequent_values_from_an_earlier_dataset(
    spark: SparkSession, tmp_path: Path
) -> None:
    fields: list[str | Line] = [
        {"name": "x", "kind": "numeric", "quantile": 4},
        {"name": "item", "level": "impression", "min_count": 2},
    ]
    columns = {"x": "x", "item": "item"}
    lines = lines_of_numbers([float(value) for value in range(20)])
    path = write_table(tmp_path / "log.parquet", lines)
    first = config_of(tmp_path, path, fields, features=columns, splits={})
    fitted = preprocess(spark, first, read_table).fitted

    # Other numbers, and an item that is frequent now and wasn't then.
    later_lines = [{**line, "x": 100.0, "item": "2"} for line in lines if isinstance(line, dict)]
    later_path = write_table(tmp_path / "later.parquet", [*later_lines[:3], {**later_lines[3], "item": "1"}])
    samples = {"frozen_from": first.paths.dataset}
    later = config_of(tmp_path / "later", later_path, fields, features=columns, splits={}, samples=samples)
    manifest = preprocess(spark, later, read_table)
    assert manifest.fitted == fitted
    found = impressions_of(spark, later, manifest, "train")
    assert [row["x"] for row in found] == [[FIRST + 3]] * 4
    frequent = row_of(later, "item", "1") - later.features.offsets["item"]
    assert [row["item"] for row in found] == [[0], [0], [0], [frequent]]
    # It is complete by itself: who trains on it needs no other.
    assert load_vocabulary(f"{later.paths.dataset}/vocabulary", later.features)["item"].size == 1

    other = config_of(tmp_path / "other", path, ["item"], features=columns, splits={}, samples=samples)
    with pytest.raises(SpecMismatchError, match=r"the config has .*, samples\.frozen_from .* has"):
        preprocess(spark, other, read_table)
