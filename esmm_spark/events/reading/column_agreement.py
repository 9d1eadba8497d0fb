"""Checks that columns compared across logs (ids, both sides of a cross) have types that can be equal."""

from collections.abc import Mapping

from esmm_spark.contracts.events.history import History
from esmm_spark.contracts.funnel import IMPRESSIONS, Funnel
from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.reading.column_types import ColumnType
from esmm_spark.reading.columns import Placed, check_equal


def check_agreement(funnel: Funnel, types: Mapping[str, Mapping[str, ColumnType]]) -> None:
    """Raises ConfigError where the types of two columns that are compared can't be made equal.

    Args:
        funnel: the logs' config.
        types: table, `clicks` or `catalogs.0` -> key -> the type of its source. What isn't read is not looked
            at.
    """
    logs = funnel.events
    ids: dict[str, list[Placed]] = {}
    for name in funnel.logs:
        for key, source in funnel.ids_of(name).items():
            ids.setdefault(key, []).extend(_placed(funnel, name, funnel.key_of_id(name, key), source, types))
    for number, catalog in enumerate(logs.catalogs):
        key = f"{catalog.key}_id"
        ids.setdefault(key, []).extend(
            _placed(funnel, f"catalogs.{number}", "key_column", catalog.key_column, types)
        )
    for key, columns in ids.items():
        check_equal(key, columns)
    histories = {history.field: history for history in logs.history}
    for cross in logs.crosses:
        counted = _sources(funnel, histories[cross.history], types)
        shown = _attribute(funnel, IMPRESSIONS, cross.value, types) or _of_catalogs(
            funnel, cross.value, types
        )
        check_equal(f"cross {cross.field}", [*shown, *counted])


def _sources(funnel: Funnel, history: History, types: Mapping[str, Mapping[str, ColumnType]]) -> list[Placed]:
    """Returns where the values of a history stand."""
    return _attribute(funnel, history.of, history.value, types) or _of_catalogs(funnel, history.value, types)


def _attribute(
    funnel: Funnel, log: str, name: str, types: Mapping[str, Mapping[str, ColumnType]]
) -> list[Placed]:
    features: Mapping[str, ColumnSource] = funnel.logs[log].features
    return _placed(funnel, log, f"features.{name}", features[name], types) if name in features else []


def _of_catalogs(funnel: Funnel, name: str, types: Mapping[str, Mapping[str, ColumnType]]) -> list[Placed]:
    return [
        placed
        for number, catalog in enumerate(funnel.events.catalogs)
        if name in catalog.features
        for placed in _placed(funnel, f"catalogs.{number}", f"features.{name}", catalog.features[name], types)
    ]


def _placed(
    funnel: Funnel, table: str, key: str, source: ColumnSource, types: Mapping[str, Mapping[str, ColumnType]]
) -> list[Placed]:
    kind = types.get(table, {}).get(key)
    return [] if kind is None else [Placed(f"{funnel.key_of(table)}.{key}", str(source), kind)]
