"""Boundaries and frequent values of event logs: fitted on a range of days, the same for every day."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pyspark.sql import SparkSession

from esmm_spark.commands.command import run_command
from esmm_spark.contracts.config import Config
from esmm_spark.contracts.disjoint_paths import ConfigPath
from esmm_spark.contracts.errors import ConfigError, InputError, MissingLogError, SpecMismatchError
from esmm_spark.events.days import build_days
from esmm_spark.events.fit_days import fit_days
from esmm_spark.events.reading.day import parse_day
from esmm_spark.files.manifest_file import read_manifest
from tests.events.small_logs import DAYS, at, config, event, impression, row_of, rows_of, write_log

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.timeout(600)]

RARE = ("clicks", "conversions")


def write_days(logs: Path, prices: Sequence[float]) -> None:
    """Writes a day for each half of the prices, and a third with the first of them once more."""
    half = len(prices) // 2
    impressions = [
        impression(f"{day}-{place}", at(day, 1 + place / 100), f"u{place}", f"i{place % 3}", price=price)
        for day, own in enumerate((prices[:half], prices[half:], prices[:4]))
        for place, price in enumerate(own)
    ]
    # Of one line alone, and so not frequent.
    impressions.append(impression("2-rare", at(2, 2), "v", "rare", price=prices[0]))
    write_log(logs / "impressions", impressions)
    for log in RARE:
        write_log(logs / log, [event(at(day, 20), "nobody") for day in range(3)])


def priced(tmp_path: Path, **files: Any) -> Config:
    """Returns a config whose field price is fitted; `files`: keys of all logs."""
    features = {"age": "age", "item": "item_id", "category": "category", "price": "price"}
    small = config(
        tmp_path, impressions={"features": features, **files}, **{log: dict(files) for log in RARE}
    )
    content: dict[str, Any] = small.model_dump(mode="json")
    fields = content["features"]["fields"]
    kept = [field for field in fields if field["name"] in ("age", "item")]
    kept[1]["min_count"] = 2
    kept.append({"name": "price", "level": "impression", "kind": "numeric", "quantile": 4, "scaled": True})
    tables = {name: {"num_buckets": 1000} for name in ("age", "item")}
    content["features"] = {"tables": tables, "fields": kept}
    content["logs"]["events"] |= {"history": [], "crosses": []}
    content["samples"]["frozen_from"] = str(tmp_path / "frozen")
    return Config.model_validate(content)


def fit(spark: SparkSession, made: Config, days: Sequence[str]) -> None:
    fit_days(spark, made, parse_day(days[0], None), parse_day(days[-1], None), RARE)


@pytest.mark.usefixtures("only_named_jobs")
def test_days_are_placed_by_what_was_fitted_on_earlier_days_and_by_nothing_else(
    spark: SparkSession, tmp_path: Path
) -> None:
    prices = np.random.default_rng(5).lognormal(size=24).tolist()
    write_days(tmp_path / "logs", prices)
    made = priced(tmp_path)
    fit(spark, made, DAYS[:2])
    build_days(spark, made, parse_day(DAYS[2], None), 0, RARE)

    expected = np.quantile(prices, [0.25, 0.5, 0.75], method="inverted_cdf")
    fitted = read_manifest(made.paths.dataset).fitted["price"]
    assert fitted.boundaries == expected.tolist()
    np.testing.assert_allclose([fitted.mean, fitted.scale], [np.mean(prices), np.std(prices)], rtol=1e-10)
    offsets, found = made.features.offsets, {}
    for row in rows_of(made, "examples", DAYS[2]):
        (identifier,) = row["impression_id"]
        found[identifier] = row["impression_rows"], row["impression_weights"]
    assert len(found) == 5
    for place, price in enumerate(prices[:4]):
        rows, weights = found[f"2-{place}"]
        bucket = 3 + int(np.searchsorted(expected, price, side="right"))
        assert rows == [
            row_of(made, "item", f"i{place % 3}"),
            offsets["price"] + 2,
            offsets["price"] + bucket,
        ]
        z = (price - np.mean(prices)) / np.std(prices)
        np.testing.assert_allclose(weights, [1, z, 1], rtol=1e-5)
    # Bucket 0: it stood on no line of the days that were counted.
    assert found["2-rare"][0][0] == offsets["item"]

    # The same days again are the same; others are another vocabulary or other boundaries, and refused.
    fit(spark, made, DAYS[:2])
    build_days(spark, made, parse_day(DAYS[2], None), 0, RARE)
    fit(spark, made, DAYS[1:2])
    with pytest.raises(SpecMismatchError, match=r"samples\.frozen_from .* has fitted boundaries") as told:
        build_days(spark, made, parse_day(DAYS[2], None), 0, RARE)
    assert "\n" not in str(told.value)


def fit_by_command(made: Config, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Runs `jobs/preprocess.py --fit`, allowing clicks and conversions to be missing."""
    from jobs import preprocess as job

    path = Path(made.paths.dataset).parent / "config.yaml"
    path.write_text(yaml.safe_dump(made.model_dump(mode="json")))
    command = ["jobs/preprocess.py", "--config", str(path), "--allow-missing", ",".join(RARE)]
    monkeypatch.setattr("sys.argv", [*command, "--fit", *arguments])
    run_command(job.main)


@pytest.mark.usefixtures("spark")
def test_days_to_fit_on_and_as_of_are_of_the_logs_time_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In Shanghai a day begins at 16:00 UTC of the day before.
    times = (at(-2, 15.9), at(-2, 16), at(-1, 15.9), at(-1, 16), at(0, 11.9), at(0, 12.1))
    shown = [impression(str(place), time_us, price=2**place) for place, time_us in enumerate(times)]
    write_log(tmp_path / "logs/impressions", shown, key=None)
    for log in RARE:
        write_log(tmp_path / "logs" / log, [event(at(0, 1), "nobody")], key=None)
    made = priced(tmp_path, day_folders=None)
    content = made.model_dump(mode="json")
    content["logs"]["events"]["time_zone"] = "Asia/Shanghai"
    as_of = "2026-11-23T20:00:00"
    fit_by_command(Config.model_validate(content), monkeypatch, "2026-11-22", "2026-11-23", "--as-of", as_of)
    assert made.samples.frozen_from is not None
    assert read_manifest(made.samples.frozen_from).fitted["price"].mean == (2 + 4 + 8 + 16) / 4


@pytest.mark.parametrize(
    ("files", "clicks", "error", "message"),
    [
        ({"time_unit": "ms"}, 1, MissingLogError, "hardly anything of ds=2026-11-23, none of the 12 lines"),
        ({}, 100, InputError, "0 of 100 clicks of ds=2026-11-23 .*fewer than logs.events.min_match_rate"),
    ],
)
def test_logs_of_which_no_day_would_be_built_are_not_fitted_on(
    spark: SparkSession,
    tmp_path: Path,
    files: dict[str, Any],
    clicks: int,
    error: type[Exception],
    message: str,
) -> None:
    write_days(tmp_path / "logs", range(24))
    write_log(tmp_path / "logs/clicks", [event(at(0, 20), "nobody")] * clicks)
    made = priced(tmp_path, **files)
    with pytest.raises(error, match=message):
        fit(spark, made, DAYS[:1])
    assert not (tmp_path / "frozen").exists()


def test_what_a_day_would_warn_of_is_told_when_it_is_fitted_on(
    spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = [impression(str(place), at(0, place), price=price) for place, price in enumerate(("1", "dear"))]
    write_log(tmp_path / "logs/impressions", shown)
    for log in RARE:
        write_log(tmp_path / "logs" / log, [event(at(0, 20), "nobody")])
    fit(spark, priced(tmp_path), DAYS[:1])
    told = [record.message for record in caplog.records if record.name == "esmm_spark.events.fit_days"]
    assert [text.partition(":")[0] for text in told] == [
        "logs.events.clicks",
        "field price",
    ]
    assert "1 lines have a value that is no finite number" in told[-1]


def test_spark_is_asked_to_serve_the_place_that_is_fitted_and_not_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def note(_name: str, paths: Sequence[ConfigPath], _options: Any) -> None:
        asked.extend(path.key for path in paths)
        raise ConfigError("that is all")

    monkeypatch.setattr("esmm_spark.spark.session.job_session", note)
    with pytest.raises(SystemExit):
        fit_by_command(priced(tmp_path), monkeypatch, *DAYS[:2])
    assert asked == ["samples.frozen_from", *(f"logs.events.{log}.path" for log in ("impressions", *RARE))]
