"""The lines of a table as the profile counts them.

c0, c1, ...   string | array<string> | map<string, double>   the columns, null where empty
malformed     string    the line where it could not be parsed
key           bigint    hash of the context key; of the whole line where there is none
time_us       bigint    the impression's time
day           int       its day, since 1970; of the folder where the table lies in day folders
label_0, ...  double    1, 0 or null, in the order of the tasks
"""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.tables.labels import TableLabel
from esmm_spark.profile.counts.columns import FOLDER_DAY, TABLE_KEY, ReadTable, leaf_columns, text_columns
from esmm_spark.profile.counts.roles import Roles
from esmm_spark.reading.local_days import day_number
from esmm_spark.reading.raw_columns import CORRUPT
from esmm_spark.reading.sources import source_column
from esmm_spark.reading.times import is_without_time, microseconds_of
from esmm_spark.reading.values import quoted, text_value
from esmm_spark.tables.lines import check_type


def profiled_lines(read: ReadTable, roles: Roles) -> DataFrame:
    """Returns all lines, as above.

    Raises:
        ConfigError: a role names a column that isn't there, or one that can't be what it is named for.
    """
    return reduce(DataFrame.unionByName, [_part_lines(raw, file, read, roles) for raw, file in read.parts])


def _part_lines(raw: DataFrame, file: str, read: ReadTable, roles: Roles) -> DataFrame:
    known = {f"labels.{task}": label.flag or label.time for task, label in roles.labels.items()}
    known |= {"context_key": roles.context_key, "impression_id": roles.impression_id, "time": roles.time}
    known["splits.column"] = roles.splits.column if roles.splits is not None else None
    sources = {key: source for key, source in known.items() if source is not None}
    named = raw.select(
        *leaf_columns(raw, read.leaves),
        CORRUPT,
        FOLDER_DAY,
        *(
            source_column(raw, source, f"{TABLE_KEY}.{key}", file).alias(key)
            for key, source in sources.items()
        ),
    )
    for name, source in sources.items():
        check_type(named.schema[name].dataType, f"{TABLE_KEY}.{name} = {source}", file)
    time_us = F.lit(None).cast("bigint")
    if roles.time is not None:
        in_unit = read.table.model_copy(update={"time_unit": roles.time_unit})
        time_us = microseconds_of(named, "time", in_unit).cast("bigint")
    day = day_number(time_us, read.table.time_zone)
    if read.table.day_folders is not None:
        day = F.unix_date(FOLDER_DAY)
    key = F.xxhash64(*(f"c{number}" for number, leaf in enumerate(read.leaves) if leaf.shape == "value"))
    if roles.context_key is not None:
        key = F.xxhash64(text_value(F.col("context_key"), named.schema["context_key"].dataType))
    return named.select(
        *text_columns(named, read.leaves),
        F.col(CORRUPT).alias("malformed"),
        key.alias("key"),
        time_us.alias("time_us"),
        day.alias("day"),
        *(
            _label(named, f"labels.{task}", label).alias(f"label_{number}")
            for number, (task, label) in enumerate(roles.labels.items())
        ),
    )


def _label(named: DataFrame, key: str, label: TableLabel) -> Column:
    """Returns a label as 1, 0 or null; of an event's time whether there is one, whatever its window."""
    text = text_value(F.col(quoted(key)), named.schema[key].dataType)
    if label.time is not None:
        return (~is_without_time(named, key)).cast("double")
    return F.when(text.isin(*_ONES), 1.0).when(text.isin(*_ZEROS), 0.0)


_ONES, _ZEROS = ("1", "true", "True"), ("0", "false", "False")


def is_one(text: Column) -> Column:
    """Returns whether a flag's text is 1 or true."""
    return text.isin(*_ONES)


def is_flag_text(text: Column) -> Column:
    """Returns whether a text is 0, 1, true or false."""
    return text.isin(*_ONES, *_ZEROS)


def parent_labels(parents: Sequence[int]) -> list[Column]:
    """Returns for each task whether a line is judged: its parent's label is 1 and its own is known."""
    return [
        (F.lit(True) if parent < 0 else F.coalesce(F.col(f"label_{parent}") == 1, F.lit(False)))
        & F.col(f"label_{number}").isNotNull()
        for number, parent in enumerate(parents)
    ]
