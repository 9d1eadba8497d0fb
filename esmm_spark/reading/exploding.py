"""A line per item of a list: nested request logs as a table of impressions."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.reading.raw_columns import CORRUPT
from esmm_spark.reading.sources import source_column

# Whether a line is an item; one without any, or one that could not be parsed, stays one line.
HAS_ITEM = "__has_item"


def exploded(raw: DataFrame, path: str, key: str, where: str) -> DataFrame:
    """Returns a line per item of the list at `path`, in the place of its last name, and `<name>_position`.

    Worked example: {"request": 1, "items": [{"id": 7}, {"id": 8}]} becomes request 1, items.id 7,
    items_position 0, and request 1, items.id 8, items_position 1.

    Args:
        raw: the raw columns of files of one layout.
        path: to the list.
        key: where the config has it: `logs.table.explode`.
        where: one of the files, for messages.

    Raises:
        ConfigError: nothing stands at the path, or no list.
    """
    found = source_column(raw, ColumnSource(column=path), key, where)
    kind = raw.select(found.alias("list")).schema["list"].dataType
    if not isinstance(kind, ArrayType):
        raise ConfigError(f"{key} = {path!r} is {kind.simpleString()} in {where}, and must be a list")
    name = item_name(path)
    position = position_of(path)
    others = [F.col(f"`{column}`") for column in raw.columns if column not in (name, position)]
    items = raw.select(*others, F.posexplode_outer(found).alias(position, name))
    is_item = F.col(f"`{position}`").isNotNull() | F.col(CORRUPT).isNotNull()
    return items.withColumn(HAS_ITEM, is_item)


def item_name(path: str) -> str:
    """Returns the column of an item."""
    return path.rpartition(".")[2]


def position_of(path: str) -> str:
    """Returns the column of an item's place in its list, from 0 on."""
    return f"{item_name(path)}_position"
