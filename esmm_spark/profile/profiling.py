"""Profiles a table in three passes over it, and publishes the page, the numbers and the config together."""

import json
import posixpath
from dataclasses import asdict, replace

import numpy as np
from pyspark.sql import SparkSession

from esmm_spark.contracts.schemas.layout import CONFIG_NAME
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.files import storage
from esmm_spark.files.replacing import replacing
from esmm_spark.profile.counts.columns import ReadTable, open_leaves
from esmm_spark.profile.counts.facts import TableFacts
from esmm_spark.profile.counts.frequent import NO_PERIODS, Periods, frequent_values, periods_of, with_counts
from esmm_spark.profile.counts.judging import judge, keys_of_several_lines
from esmm_spark.profile.counts.lines import profiled_lines
from esmm_spark.profile.counts.roles import Roles
from esmm_spark.profile.counts.sample import Sampled, sample_lines, to_arrays
from esmm_spark.profile.counts.statistics import count_columns
from esmm_spark.profile.guesses.config_guess import write_config
from esmm_spark.profile.guesses.features import guess_features
from esmm_spark.profile.guesses.role_guess import guess_roles
from esmm_spark.profile.guesses.split_guess import with_split_column
from esmm_spark.profile.page import profile_html
from esmm_spark.profile.result import Profile
from esmm_spark.reading.times import MICROSECONDS
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.steps import step

PAGE_NAME, NUMBERS_NAME = "profile.html", "profile.json"
_FILES = (CONFIG_NAME, PAGE_NAME, NUMBERS_NAME)


def profile_table(spark: SparkSession, table: TableLog, known: Roles | None, output: str) -> Profile:
    """Profiles a table and replaces the folder `output`: config.yaml, profile.html, profile.json.

    Args:
        spark: the session.
        table: how it is read.
        known: the roles that a config gives; None: they are guessed.
        output: the folder.

    Raises:
        InputError: no table; something else lies in `output`.
        TargetBusyError: another run writes it.
    """
    with (
        replacing(output, "--output", _FILES) as new,
        user_errors(spark, "write it again", f"--output {output}"),
    ):
        found = _profile(spark, table, known, posixpath.dirname(output.rstrip("/")))
        new.files = _FILES
        storage.write_text(storage.join(new.folder, CONFIG_NAME), found.config.text)
        storage.write_text(storage.join(new.folder, NUMBERS_NAME), numbers_json(found))
        storage.write_text(storage.join(new.folder, PAGE_NAME), profile_html(found))
    return found


def numbers_json(found: Profile) -> str:
    """Returns what was counted as JSON."""
    return json.dumps(asdict(found.facts), indent=1) + "\n"


def _profile(spark: SparkSession, table: TableLog, known: Roles | None, root: str) -> Profile:
    read = open_leaves(spark, table, is_guessed=known is None)
    with step(spark, "count the columns (pass 1 of 3)"):
        facts = count_columns(profiled_lines(read, Roles()), read)
    roles = known or guess_roles(facts)
    lines = profiled_lines(read, roles)
    names = roles.tasks.names if roles.tasks else ()
    parents = roles.tasks.parents if roles.tasks else ()
    sample = sample_lines(lines, facts.lines, len(read.leaves)).persist()
    try:
        with step(spark, "sample context keys (pass 2 of 3)"):
            sampled = to_arrays(sample, read.leaves, len(names))
        roles = _with_unique_ids(roles, read, sampled)
        facts = _with_sample(facts, sampled, roles)
        with step(spark, "count frequent values by label and day (pass 3 of 3)"):
            frequent = frequent_values(sample, read)
            facts = with_counts(facts, lines, read, (names, parents), _periods(sampled), frequent)
    finally:
        sample.unpersist()
    if known is None:
        roles = with_split_column(facts, roles)
    features = guess_features(facts, roles, read.table.day_folders)
    config = write_config(facts, roles, features, read.table, root)
    return Profile(facts, roles, features, read.table, config, read.unread)


def _with_unique_ids(roles: Roles, read: ReadTable, sampled: Sampled) -> Roles:
    """Returns the roles, the impression's id only if no two lines of the sample share one."""
    source = roles.impression_id
    if source is None or "impression_id" not in roles.reasons or source.column is None:
        return roles
    place = [leaf.name for leaf in read.leaves].index(source.column)
    num_lines = len(sampled.keys)
    repeated = num_lines - len(np.unique(sampled.hashes[place]))
    if not repeated:
        return roles
    reasons = {
        **roles.reasons,
        "impression_id": f"{repeated:,} of {num_lines:,} lines repeat a {source.column}",
    }
    return replace(roles, impression_id=None, reasons=reasons)


def _with_sample(facts: TableFacts, sampled: Sampled, roles: Roles) -> TableFacts:
    tasks = roles.tasks
    to_us = MICROSECONDS.get(roles.time_unit, 0) if roles.time is not None else 0
    found = judge(sampled, tasks.names if tasks else (), tasks.parents if tasks else (), to_us)
    return replace(
        facts,
        sample_lines=len(sampled.keys),
        sample_keys=keys_of_several_lines(sampled),
        samples={column.name: each for column, each in zip(facts.columns, found, strict=True)},
    )


def _periods(sampled: Sampled) -> Periods:
    known = sampled.days[~np.isnan(sampled.days)]
    return periods_of(int(known.min()), int(known.max())) if len(known) else NO_PERIODS
