"""Fits boundaries, means and scales, and counts frequent values, on a range of days of event logs."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date, timedelta
from functools import reduce

from pyspark.sql import DataFrame, SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.disjoint_paths import FROZEN_FROM
from esmm_spark.contracts.errors import ConfigError, InputError
from esmm_spark.contracts.fields.fitted import FittedNumber
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.contracts.schemas.layout import MANIFEST_NAME, MARKER, VOCABULARY
from esmm_spark.events.day_lines import canonical_lines
from esmm_spark.events.features.features import Featured
from esmm_spark.events.join.sources import choose_files
from esmm_spark.events.labelled_day import counted_features, labelled_day
from esmm_spark.events.reading.day import Day
from esmm_spark.files import filesystems, storage
from esmm_spark.files.manifest_file import write_manifest
from esmm_spark.files.replacing import replacing
from esmm_spark.reading.fitting import fit_numbers
from esmm_spark.reading.numbers import with_numbers
from esmm_spark.samples.vocabulary import write_vocabulary
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.steps import step

_log = logging.getLogger(__name__)

_OURS = (MANIFEST_NAME, f"{VOCABULARY}/*.parquet", f"{VOCABULARY}/{MARKER}", f"{VOCABULARY}/.*.crc")
_CONTEXTS, _IMPRESSIONS = "day-contexts", "day-impressions"


def fit_days(
    spark: SparkSession, config: Config, first: Day, last: Day, allowed_missing: Collection[str] = ()
) -> Manifest:
    """Writes a dataset without examples in the place of `samples.frozen_from`; returns its manifest.

    Each day is joined as it is when it is built, and all of its impressions and contexts count.

    Args:
        spark: the session.
        config: the config.
        first: the first day.
        last: the last day; both of one zone, and as of the same time.
        allowed_missing: logs that may lack days.

    Raises:
        ConfigError: the last day is before the first.
        MissingLogError, TooManyRejectsError, InputError: as `labelled_day`; also where no impression is left,
            or `samples.frozen_from` holds more than such a dataset.
    """
    target = config.samples.frozen_from
    assert target is not None
    num_days = (last.date - first.date).days + 1
    if num_days < 1:
        raise ConfigError(f"--fit {first.date} {last.date}: the last day is before the first")
    days = [replace(first, date=first.date + timedelta(days=number)) for number in range(num_days)]
    with (
        replacing(target, FROZEN_FROM, _OURS) as new,
        user_errors(spark, "mend the logs", f"{FROZEN_FROM} {target}"),
    ):
        staged = _stage(spark, config, days, new.folder, allowed_missing)
        contexts, impressions = (
            _read(spark, [storage.join(new.folder, name, day) for day in staged])
            for name in (_CONTEXTS, _IMPRESSIONS)
        )
        manifest = Manifest(
            feature_spec=config.features,
            feature_spec_digest=config.features.digest,
            tasks=config.tasks,
            carry=config.samples.carry,
            fitted=_fit(config, contexts, impressions),
            sources=[],
            partitions={},
            config=config.model_dump(mode="json"),
        )
        if config.features.needs_vocabulary:
            lines = canonical_lines(Featured(contexts, impressions), config.features, config.brought, {})
            vocabulary = storage.join(new.folder, VOCABULARY)
            with step(spark, f"count the values of {num_days} days"):
                manifest.vocabulary_digest = write_vocabulary(
                    lines, config.features, config.brought, None, vocabulary
                )
        for name in (_CONTEXTS, _IMPRESSIONS):
            storage.delete(storage.join(new.folder, name))
        write_manifest(new.folder, manifest)
        words = storage.list_files(storage.join(new.folder, VOCABULARY))
        new.files = [MANIFEST_NAME, *(f"{VOCABULARY}/{name}" for name, _ in words)]
    return manifest


def _stage(
    spark: SparkSession, config: Config, days: Sequence[Day], folder: str, allowed_missing: Collection[str]
) -> list[str]:
    """Writes the attributes of each day's contexts and impressions; returns the days that have any."""
    told: set[str] = set()
    for day in days:
        for warning in _stage_day(spark, config, day, folder, allowed_missing):
            if warning not in told:
                _log.warning(warning)
                told.add(warning)
    staged = storage.list_directories(storage.join(folder, _CONTEXTS))
    if not staged:
        raise InputError(
            f"--fit {days[0].date} {days[-1].date}: no impression of these days is left to fit on: name "
            "other days, or a later --as-of; nothing was replaced"
        )
    return staged


def _stage_day(
    spark: SparkSession, config: Config, day: Day, folder: str, allowed_missing: Collection[str]
) -> list[str]:
    """Writes the attributes of a day's contexts and impressions, if it has any; returns warnings."""

    def is_excused(log: str, _: date) -> bool:
        return log in allowed_missing

    files = choose_files(config.funnel, day, with_features=True, is_excused=is_excused)
    with labelled_day(spark, config, day, files, is_excused) as joined:
        if joined.report["impressions"]["total"] == 0:
            return joined.warnings
        with step(spark, f"{day.name}: join features"), counted_features(config, joined) as counted:
            for name, frame in zip((_CONTEXTS, _IMPRESSIONS), counted.featured, strict=True):
                frame.write.parquet(filesystems.spark_path(storage.join(folder, name, day.name)))
            warnings, _ = counted.counts()
        return [*joined.warnings, *warnings]


def _read(spark: SparkSession, folders: Sequence[str]) -> DataFrame:
    # Spark finds a day's schema in a footer.
    with step(spark, f"look at {len(folders)} days"):
        frames = [spark.read.parquet(filesystems.spark_source(folder)) for folder in folders]
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)


def _fit(config: Config, contexts: DataFrame, impressions: DataFrame) -> dict[str, FittedNumber]:
    fitted: dict[str, FittedNumber] = {}
    for frame, level in ((contexts, "context"), (impressions, "impression")):
        fields = [field for field in config.features.fitted_fields if field.level == level]
        if fields:
            with step(frame.sparkSession, f"fit the numbers of each {level}"):
                fitted |= fit_numbers(with_numbers(frame, fields), fields)
    return fitted
