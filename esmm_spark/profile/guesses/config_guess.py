"""The config of a profiled table: sections, and why each guess in them was made."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from esmm_spark.contracts.tables.column_source import ColumnSource
from esmm_spark.contracts.tables.labels import TableLabel
from esmm_spark.contracts.tables.table_config import TableLog
from esmm_spark.contracts.tasks import Task, Tasks
from esmm_spark.profile.counts.collisions import colliding_share
from esmm_spark.profile.counts.facts import FeatureGuess, TableFacts
from esmm_spark.profile.counts.roles import Roles
from esmm_spark.profile.guesses.config_text import Path, config_text
from esmm_spark.profile.guesses.role_guess import sql_is_missing, sql_name
from esmm_spark.profile.guesses.split_guess import split_rule

# Of the lines with label 1, those whose parent's isn't: above, the two are no funnel.
_MOST_ORPHANS = 0.2
_STEPS_PER_EPOCH = 200
_LEAST_BATCH, _MOST_BATCH = 256, 4096


class WrittenConfig(NamedTuple):
    """A config as text.

    Attributes:
        text: YAML.
        needed: what it lacks to be trained, a line each.
    """

    text: str
    needed: list[str]


def write_config(
    facts: TableFacts, roles: Roles, features: Sequence[FeatureGuess], table: TableLog, root: str
) -> WrittenConfig:
    """Returns the config of a table.

    Args:
        facts: of the table.
        roles: of its columns.
        features: of all columns.
        table: how it was read.
        root: the folder that holds what the stages write.
    """
    comments: dict[Path, str] = {}
    tasks = _tasks(facts, roles, comments)
    chosen = [guess for guess in features if guess.level is not None]
    needed = _needed(roles, chosen)
    content = {
        "paths": {name: f"{root}/{name}" if root else name for name in _STAGES},
        "logs": {
            "format": "table",
            "table": _table(facts, roles, chosen, table, comments),
        },
        "tasks": {name: {"given": task.given} if task.given else {} for name, task in tasks.root.items()}
        if tasks
        else {},
        "features": _features(chosen, comments),
        "samples": _samples(facts, roles, table, comments),
        "train": _train(facts, comments),
    }
    content = {name: section for name, section in content.items() if section}
    left_out = [f"{guess.column.name}: {guess.reason}" for guess in features if guess.level is None]
    head = [
        f"Guessed from {facts.lines:,} lines of {facts.path}; profile.html shows from what.",
        "Check the labels and the context key first, then what was left out:",
        *(f"  {each}" for each in left_out),
        *(f"NEEDED: {each}" for each in needed),
    ]
    return WrittenConfig(config_text(content, comments, head), needed)


_STAGES = ("dataset", "model", "scores", "report")


def _needed(roles: Roles, chosen: Sequence[FeatureGuess]) -> list[str]:
    needed = []
    if not roles.labels:
        needed.append(
            "a label: no column of 0 and 1 is called like one, so name it in logs.table.labels and in tasks, "
            "e.g. labels: {buy: bought} and tasks: {buy: {}}"
        )
    if not chosen:
        needed.append(
            "a feature: every column is left out, so name one in logs.table.features and in features"
        )
    return needed


def _tasks(facts: TableFacts, roles: Roles, comments: dict[Path, str]) -> Tasks | None:
    """Returns the tasks; a label that is often 1 where its parent's isn't is a root of its own."""
    if roles.tasks is None:
        return None
    found = {}
    for name in roles.tasks.names:
        given = roles.tasks.parent(name)
        if given is not None and _orphan_share(facts, name) > _MOST_ORPHANS:
            comments["tasks", name] = (
                f"{_orphan_share(facts, name):.0%} of its lines have {given} 0: it is not given {given}"
            )
            given = None
        found[name] = Task(given=given)
    return Tasks(found)


def _orphan_share(facts: TableFacts, task: str) -> float:
    orphans = facts.orphans.get(task, 0)
    return orphans / max(orphans + facts.labels.get(task, (0, 0))[0], 1)


def _table(
    facts: TableFacts,
    roles: Roles,
    chosen: Sequence[FeatureGuess],
    table: TableLog,
    comments: dict[Path, str],
) -> dict[str, Any]:
    here = ("logs", "table")
    # What a config says of the files, its own rules too.
    given = table.model_dump(mode="json", exclude_defaults=True, exclude={"features", "labels", "splits"})
    content: dict[str, Any] = {"path": table.path, "file_format": table.file_format, **given}
    for key in ("impression_id", "context_key", "time"):
        source = getattr(roles, key)
        content.pop(key, None)
        if source is not None:
            content[key] = _source(source)
        if key in roles.reasons:
            comments[*here, key] = roles.reasons[key]
    if roles.time is not None:
        content["time_unit"] = roles.time_unit
    if roles.context_key is not None and table.on_difference == "error":
        content["on_difference"] = "most_frequent"
        comments[*here, "on_difference"] = "a key whose lines differ in a context's field is counted"
    content["labels"] = {name: _label(label) for name, label in roles.labels.items()}
    for name in roles.labels:
        if f"labels.{name}" in roles.reasons:
            comments[*here, "labels", name] = roles.reasons[f"labels.{name}"]
    _leave_orphans_out(facts, roles, content, comments)
    content["features"] = {guess.column.name: guess.column.name for guess in chosen}
    for guess in chosen:
        comments[*here, "features", guess.column.name] = _described(guess)
    splits, comments[*here, "splits"] = split_rule(facts, roles)
    content["splits"] = splits.model_dump(mode="json", exclude_defaults=True)
    if splits.column is not None:
        content["splits"]["column"] = _source(splits.column)
    return content


def _leave_orphans_out(
    facts: TableFacts, roles: Roles, content: dict[str, Any], comments: dict[Path, str]
) -> None:
    """Filters lines whose label is 1 where their parent's isn't, of those that are a funnel else."""
    conditions = [content["where"]] if "where" in content else []
    for name in roles.tasks.names if roles.tasks else ():
        given, orphans = roles.tasks.parent(name) if roles.tasks else None, facts.orphans.get(name, 0)
        if given is None or not orphans or _orphan_share(facts, name) > _MOST_ORPHANS:
            continue
        label, parent = (_is_one(roles.labels[each]) for each in (name, given))
        conditions.append(f"not ({label} and not {parent})")
        comments["logs", "table", "where"] = f"{orphans:,} lines have {name} 1 and {given} 0: left out"
    if conditions:
        # In parentheses: an `or` of the config's own condition holds no further than itself.
        content["where"] = (
            conditions[0] if len(conditions) == 1 else " and ".join(f"({each})" for each in conditions)
        )


def _is_one(label: TableLabel) -> str:
    """Returns in SQL whether an event came, as far as its column tells."""
    source = label.flag or label.time
    assert source is not None
    text = _sql(source)
    if label.time is not None:
        return f"not {sql_is_missing(text)}"
    # A whole number may have a point, as pandas writes integers with a gap.
    return f"coalesce(cast({text} as string), '0') rlike '^(1([.]0+)?|[tT]rue)$'"


def _sql(source: ColumnSource) -> str:
    """Returns a source in Spark SQL."""
    if source.column is not None:
        return sql_name(source.column)
    if source.expr is not None:
        return f"({source.expr})"
    if source.concat is not None:
        return f"concat({f', {_literal(source.separator)}, '.join(map(_sql, source.concat))})"
    return _literal(source.constant)


def _literal(value: str | int | float | bool | None) -> str:
    if not isinstance(value, str):
        return str(value).lower()
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _described(guess: FeatureGuess) -> str:
    column = guess.column
    if guess.boundaries:
        ends = f"{column.quantiles[0]:g} to {column.quantiles[-1]:g}"
        return f"numbers from {ends}, in {len(guess.boundaries) + 1} buckets"
    what = {"value": "a value", "list": "a list", "weights": "values with weights"}[column.shape]
    missing = f", missing on {column.missing_share:.1%}" if column.missing else ""
    return f"{what}, {column.distinct:,} distinct{missing}"


def _features(chosen: Sequence[FeatureGuess], comments: dict[Path, str]) -> dict[str, Any]:
    if not chosen:
        return {}
    tables: dict[str, Any] = {}
    fields: list[dict[str, Any]] = []
    for guess in chosen:
        name = guess.column.name
        comments["features", "fields", name] = guess.reason
        if guess.boundaries:
            buckets = list(guess.boundaries)
            fields.append({"name": name, "level": guess.level, "kind": "numeric", "buckets": buckets})
            continue
        tables[name] = {"num_buckets": guess.num_buckets}
        share = colliding_share(guess.column.distinct, guess.num_buckets)
        comments["features", "tables", name] = f"{guess.column.distinct:,} values, {share:.1%} share a bucket"
        fields.append(
            {
                "name": name,
                "level": guess.level,
                "kind": "categorical",
                **({"multi": True} if guess.column.shape != "value" else {}),
                **({"weighted": True} if guess.column.shape == "weights" else {}),
                **({"min_count": guess.min_count} if guess.min_count > 1 else {}),
            }
        )
    return {"tables": tables, "fields": fields}


def _samples(facts: TableFacts, roles: Roles, table: TableLog, comments: dict[Path, str]) -> dict[str, Any]:
    """Returns that lines are kept whose label isn't known, where there are such lines or may be."""
    reasons = [f"{lines:,} lines don't tell {name}" for name, lines in facts.unknown.items() if lines]
    if table.immature == "unknown" and any(label.window_s for label in roles.labels.values()):
        reasons.append("labels of immature lines are unknown")
    if not reasons:
        return {}
    comments["samples", "unknown_labels"] = f"{', '.join(reasons)}: they train the other tasks"
    return {"unknown_labels": "keep"}


def _train(facts: TableFacts, comments: dict[Path, str]) -> dict[str, Any]:
    batch = min(max(1 << (facts.lines // _STEPS_PER_EPOCH).bit_length(), _LEAST_BATCH), _MOST_BATCH)
    comments["train", "epochs"] = "models of this kind begin to overfit in the second"
    return {"batch_size": batch, "epochs": 1, "learning_rate_decay": "linear"}


def _source(source: ColumnSource) -> Any:
    if source.column is not None:
        return source.column
    return source.model_dump(mode="json", exclude_defaults=True)


def _label(label: TableLabel) -> Any:
    if label.flag is not None:
        return _source(label.flag) if label.flag.column else {"flag": _source(label.flag)}
    assert label.time is not None
    return {"time": _source(label.time), **({"window_s": label.window_s} if label.window_s else {})}
