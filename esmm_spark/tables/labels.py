"""Labels of a table's lines: flags as they stand, events by their time, window and `as_of`."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from esmm_spark.contracts.tables.labels import TableLabel
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.reading.times import MICROSECONDS, is_without_time, microseconds_of
from esmm_spark.reading.values import is_any, quoted, text_value

# Of a label, as canonical lines have it: not known, and none at all, which is rejected as `bad_label`.
UNKNOWN_FLAG, BAD_FLAG = "", "?"

_SECOND_US = MICROSECONDS["s"]


def label_columns_of(
    named: DataFrame, table: TableLog, tasks: Tasks, time_us: Column
) -> tuple[dict[str, Column], Column]:
    """Returns task -> its label as text, and whether the line is immature: a label isn't final yet.

    Worked example: a click's window of an hour ends after `as_of`, and no click is known by then: the line is
    immature. Its label, and with it the conversion's, is 0 where `immature` is `keep`, empty where `unknown`.

    Args:
        named: the table's sources as columns; of an unlabelled table without those of labels.
        table: the config.
        tasks: all of the config.
        time_us: the impression's time.
    """
    labels: dict[str, Column] = {}
    times: dict[str, Column] = {}
    immature: dict[str, Column] = {}
    for task in tasks.names:
        key = f"labels.{task}"
        if task not in table.labels or key not in named.columns:
            labels[task] = F.lit(UNKNOWN_FLAG)
            continue
        label, parent = table.labels[task], tasks.parent(task)
        if label.time is None:
            labels[task] = _flag(named, key)
            continue
        cause = times.get(parent, time_us) if parent is not None else time_us
        event = microseconds_of(named, key, table)
        is_event = _is_in_window(event, cause, label, table)
        times[task] = F.when(is_event, event)
        immature[task] = _is_immature(is_event, cause, label, table)
        if parent is not None:
            # Without its parent's event its own can't come.
            immature[task] &= labels[parent] != "0"
        is_bad = ~is_without_time(named, key) & event.isNull()
        known = F.when(is_event, "1").otherwise("0")
        if table.immature == "unknown":
            known = F.when(immature[task], UNKNOWN_FLAG).otherwise(known)
        labels[task] = F.when(is_bad, BAD_FLAG).otherwise(known)
    if table.immature == "unknown":
        labels = _without_known_children(labels, tasks)
    return labels, is_any(list(immature.values()))


def _flag(named: DataFrame, key: str) -> Column:
    kind = named.schema[key].dataType
    text = text_value(F.col(quoted(key)), kind)
    return (
        F.when(text.isNull(), UNKNOWN_FLAG)
        .when(text.isin("0", "1"), text)
        .when(text.isin("true", "True"), "1")
        .when(text.isin("false", "False"), "0")
        .otherwise(BAD_FLAG)
    )


def _is_in_window(event: Column, cause: Column, label: TableLabel, table: TableLog) -> Column:
    conditions = [event.isNotNull()]
    if label.window_s is not None:
        conditions += [event >= cause, event <= cause + label.window_s * _SECOND_US]
    if table.as_of_us is not None:
        conditions.append(event <= table.as_of_us)
    return F.coalesce(reduce(Column.__and__, conditions), F.lit(False))


def _is_immature(is_event: Column, cause: Column, label: TableLabel, table: TableLog) -> Column:
    """Returns whether the event may still come: its cause is known, and the window ends after `as_of`."""
    if table.as_of_us is None or label.window_s is None:
        return F.lit(False)
    return ~is_event & F.coalesce(cause + label.window_s * _SECOND_US > table.as_of_us, F.lit(False))


def _without_known_children(labels: Mapping[str, Column], tasks: Tasks) -> dict[str, Column]:
    """Returns the labels, those unknown whose parent's is."""
    found = dict(labels)
    for task in tasks.names:
        parent = tasks.parent(task)
        if parent is not None:
            found[task] = F.when(found[parent] == UNKNOWN_FLAG, UNKNOWN_FLAG).otherwise(found[task])
    return found
