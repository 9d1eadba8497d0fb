"""Checks that no output path of a config overlaps another of its paths."""

import os
from itertools import combinations, product
from typing import NamedTuple

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.locations import Place, glob_characters, overlap, place_of
from esmm_spark.contracts.sample_config import SplitLogs
from esmm_spark.contracts.schemas.run_record import record_uri, runs_folder
from esmm_spark.contracts.tables.table_config import TableLog

FROZEN_FROM = "samples.frozen_from"
# They are replaced as a whole, by renaming.
_REPLACED = ("paths.dataset", "paths.report", FROZEN_FROM)
# A baseline is scored by the config that is evaluated against it: then it is what that run writes.
_MAY_BE_EQUAL = {"paths.scores", "evaluate.baseline_scores"}


class ConfigPath(NamedTuple):
    """A path that a config names.

    Attributes:
        key: of the config, e.g. `logs.splits.train.skeleton`.
        value: what it names.
        is_output: whether a command writes there; else all only read.
        is_glob: whether it may match several files or folders.
    """

    key: str
    value: str
    is_output: bool = False
    is_glob: bool = False


def paths_of(config: Config) -> list[ConfigPath]:
    """Returns every path of a config, outputs first."""
    paths = [
        ConfigPath(f"paths.{name}", getattr(config.paths, name), is_output=True)
        for name in type(config.paths).model_fields
    ]
    if config.samples.frozen_from is not None:
        # Of event logs `--fit` writes it.
        is_output = config.logs.format == "events"
        paths.append(ConfigPath(FROZEN_FROM, config.samples.frozen_from, is_output))
    for split, logs in config.logs.splits.items():
        paths += _of_split(f"logs.splits.{split}", logs)
    if (events := config.logs.events) is not None:
        funnel = config.funnel
        for name, log in funnel.logs.items():
            paths.append(ConfigPath(f"{funnel.key_of(name)}.path", log.path))
        for number, catalog in enumerate(events.catalogs):
            paths.append(ConfigPath(f"logs.events.catalogs.{number}.path", catalog.path))
    paths += _of_table(config.logs.table)
    if config.score.raw is not None:
        paths += _of_split("score.raw", config.score.raw)
    if config.score.table is not None:
        paths.append(ConfigPath("score.table", config.score.table))
    for name in ("truth", "baseline_scores"):
        if (value := getattr(config.evaluate, name)) is not None:
            paths.append(ConfigPath(f"evaluate.{name}", value))
    return paths


def require_disjoint(config: Config) -> None:
    """Raises unless each output is a place of its own, in which nothing else that the config names lies.

    Inputs may be the same or lie in each other: they are only read. Links, `.` and `..` are resolved.

    Raises:
        ConfigError: naming both keys and values; also where an output can't be replaced, since it holds the
            folder that the command runs in.
    """
    paths = paths_of(config)
    places = {path.key: place_of(path.value, path.is_glob and _is_glob(path)) for path in paths}
    for output in (path for path in paths if path.is_output):
        _require_replaceable(output, places[output.key])
    for first, second in combinations(paths, 2):
        if not first.is_output:
            break
        _require_apart(first, second, places[first.key], places[second.key])
    records = [record for path in paths if path.is_output for record in _records_of(path)]
    for record, path in product(records, paths):
        _require_apart(record, path, place_of(record.value), places[path.key])


def _records_of(output: ConfigPath) -> list[ConfigPath]:
    """Returns where the records of the runs go that write an output: beside it."""
    what = f"a run that writes {output.key}"
    return [
        ConfigPath(f"the record of {what}", record_uri(output.value, None), is_output=True),
        ConfigPath(f"the records of {what}", runs_folder(output.value), is_output=True),
    ]


def _of_table(table: TableLog | None) -> list[ConfigPath]:
    if table is None:
        return []
    own = {f"logs.table.splits.paths.{split}": path for split, path in table.splits.paths.items()}
    return [ConfigPath(key, path) for key, path in {"logs.table.path": table.path, **own}.items()]


def _of_split(key: str, logs: SplitLogs) -> list[ConfigPath]:
    return [
        ConfigPath(f"{key}.{name}", getattr(logs, name), is_glob=True)
        for name in ("skeleton", "common_features")
    ]


def _is_glob(path: ConfigPath) -> bool:
    return path.is_glob and bool(glob_characters(path.value))


def _require_apart(first: ConfigPath, second: ConfigPath, one: Place, other: Place) -> None:
    if not overlap(one, other, (False, _is_glob(second))):
        return
    deeper = len(one.parts) - len(other.parts)
    if deeper == 0 and {first.key, second.key} == _MAY_BE_EQUAL:
        return
    if _is_glob(second):
        relation = "overlaps what is matched by"
    else:
        relation = "is the same place as" if deeper == 0 else "lies in" if deeper > 0 else "holds"
    raise ConfigError(
        f"{_named(first, one)} {relation} {_named(second, other)}: one would be replaced or read with the "
        "other, so give each a place of its own"
    )


def _named(path: ConfigPath, place: Place) -> str:
    """Returns `key = value`, with the resolved path where that is another one."""
    resolved = "/" + "/".join(place.parts)
    leads_elsewhere = place.store == "local" and not _is_glob(path) and resolved != _absolute(path)
    return f"{path.key} = {path.value}" + (f" (which is {resolved})" if leads_elsewhere else "")


def _absolute(path: ConfigPath) -> str:
    return os.path.join(os.getcwd(), path.value)


def _require_replaceable(output: ConfigPath, place: Place) -> None:
    if output.key in _REPLACED and not place.parts:
        raise ConfigError(
            f"{output.key} = {output.value} is a root, and would be replaced: name a folder in it"
        )
    if place.store != "local":
        return
    if found := glob_characters(_absolute(output)):
        raise ConfigError(
            f"{output.key} = {output.value} is {_absolute(output)}, which holds {found}, for Spark a glob: "
            "name a folder without it"
        )
    for what, folder in (
        ("folder that this command runs in", os.getcwd()),
        ("home folder", os.path.expanduser("~")),
    ):
        inner = place_of(folder)
        if output.key in _REPLACED and len(place.parts) <= len(inner.parts) and overlap(place, inner):
            raise ConfigError(
                f"{output.key} = {output.value} is or holds the {what}, and would be replaced: name another"
            )
