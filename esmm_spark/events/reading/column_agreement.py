"""Whether what is compared across logs can be equal: ids, and the two sides of a cross."""

from collections.abc import Mapping

from esmm_spark.contracts.event_config import EventLogs, History
from esmm_spark.events.reading.column_types import ColumnType
from esmm_spark.events.reading.columns import Placed, check_equal
from esmm_spark.events.reading.lines import mapped_ids

_LOGS = ("impressions", "clicks", "conversions")


def check_agreement(logs: EventLogs, types: Mapping[str, Mapping[str, ColumnType]]) -> None:
    """Raises ConfigError where the types of two columns that are compared can't be made equal.

    Args:
        logs: the logs' config.
        types: table, `clicks` or `catalogs.0` -> column -> its type. Tables and columns that are not read are
            not looked at.
    """
    ids: dict[str, list[Placed]] = {}
    for name in _LOGS:
        for key, column in mapped_ids(getattr(logs, name)).items():
            ids.setdefault(key, []).extend(_placed(name, key, column, types))
    for number, catalog in enumerate(logs.catalogs):
        key = f"{catalog.key}_id"
        ids.setdefault(key, []).extend(_placed(f"catalogs.{number}", "key_column", catalog.key_column, types))
    for key, columns in ids.items():
        check_equal(key, columns)
    histories = {history.field: history for history in logs.history}
    for cross in logs.crosses:
        counted = _sources(logs, histories[cross.history], types)
        shown = _attribute(logs, "impressions", cross.value, types) or _of_catalogs(logs, cross.value, types)
        check_equal(f"cross {cross.field}", [*shown, *counted])


def _sources(
    logs: EventLogs, history: History, types: Mapping[str, Mapping[str, ColumnType]]
) -> list[Placed]:
    """Returns where the values of a history stand."""
    return _attribute(logs, history.of, history.value, types) or _of_catalogs(logs, history.value, types)


def _attribute(
    logs: EventLogs, log: str, name: str, types: Mapping[str, Mapping[str, ColumnType]]
) -> list[Placed]:
    features: Mapping[str, str] = getattr(logs, log).features
    return _placed(log, f"features.{name}", features[name], types) if name in features else []


def _of_catalogs(logs: EventLogs, name: str, types: Mapping[str, Mapping[str, ColumnType]]) -> list[Placed]:
    return [
        placed
        for number, catalog in enumerate(logs.catalogs)
        if name in catalog.features
        for placed in _placed(f"catalogs.{number}", f"features.{name}", catalog.features[name], types)
    ]


def _placed(table: str, key: str, column: str, types: Mapping[str, Mapping[str, ColumnType]]) -> list[Placed]:
    kind = types.get(table, {}).get(column)
    return [] if kind is None else [Placed(f"logs.events.{table}.{key}", column, kind)]
