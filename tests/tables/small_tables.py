"""Small tables on disk, and a config that reads them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.samples.view import samples_view
from esmm_spark.tables.files import open_table
from esmm_spark.tables.lines import Wanted, read_lines

Line = dict[str, Any]

COLUMNS: dict[str, Any] = {
    "impression_id": "id",
    "context_key": "user",
    "labels": {"click": "click", "conversion": "order"},
    "features": {"age": "age", "item": "item"},
}


def write_table(path: Path, lines: Sequence[Line | str], delimiter: str = ",") -> str:
    """Writes a file of the format that its suffix names; texts are lines as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(lines)), path)
    elif path.suffix == ".json":
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(f"{text}\n" for text in texts))
    else:
        header = next(line for line in lines if not isinstance(line, str))
        rows = [
            line
            if isinstance(line, str)
            else delimiter.join("" if v is None else str(v) for v in line.values())
            for line in lines
        ]
        path.write_text("".join(f"{row}\n" for row in [delimiter.join(header), *rows]))
    return str(path)


def _csv_row(line: Line, delimiter: str) -> str:
    return delimiter.join("" if value is None else str(value) for value in line.values())


def table_config(folder: Path, path: str, fields: Sequence[str | Line] = (), **table: Any) -> Config:
    """Returns a config that writes below `folder`: COLUMNS and keys of `logs.table` in their place.

    Args:
        folder: where it writes.
        path: of the table.
        fields: feature fields, by name or as the config has them; names of a context's begin with `+`. By
            default age, of a context, and item.
        table: keys of `logs.table`, and the sections `tasks`, `samples`, `score`, `model`, `logs`.
    """
    sections = {name: table.pop(name) for name in ("tasks", "samples", "score", "model") if name in table}
    logs = table.pop("logs", {})
    specs = [_field(field) for field in fields or ("+age", "item")]
    file_format = {"csv": "csv", "tsv": "csv", "json": "json"}.get(path.rpartition(".")[2], "parquet")
    return Config.model_validate(
        {
            "paths": {name: str(folder / "out" / name) for name in ("dataset", "model", "scores", "report")},
            "logs": {
                "format": "table",
                "max_reject_fraction": 1,
                "table": {"path": path, "file_format": file_format, **COLUMNS, **table},
                **logs,
            },
            "features": {
                "tables": {
                    field["name"]: {"num_buckets": 1000}
                    for field in specs
                    if field.get("kind") not in ("numeric", "vector")
                },
                "fields": specs,
            },
            "samples": {"validation_fraction": 0, "num_files": 2, **sections.pop("samples", {})},
            **sections,
        }
    )


def _field(field: str | Line) -> Line:
    if not isinstance(field, str):
        return {"level": "impression", **field}
    level = "context" if field.startswith("+") else "impression"
    return {"name": field.removeprefix("+"), "level": level}


def impressions_of(spark: SparkSession, config: Config, manifest: Manifest, split: str) -> list[Line]:
    """Returns the examples of a split as people see them, a row per impression, sorted by id."""
    examples = spark.read.parquet(f"{config.paths.dataset}/examples/split={split}")
    view = samples_view(examples, manifest.feature_spec, manifest.brought)
    return sorted((row.asDict() for row in view.collect()), key=lambda row: str(row["impression_id"]))


def lines_of(spark: SparkSession, config: Config, is_scored: bool = False) -> list[Line]:
    """Returns the lines of the table, sorted by id: what `read_lines` makes of them."""
    table = config.logs.table
    assert table is not None
    wanted = Wanted(table, config.tasks, "raw" if is_scored else None, is_scored)
    rows = read_lines(open_table(spark, table, table.path), wanted).collect()
    return sorted((row.asDict() for row in rows), key=lambda row: str(row["impression_id"]))


def column(lines: Sequence[Line], name: str) -> list[Any]:
    """Returns a column of lines."""
    return [line[name] for line in lines]
