"""Writes simulated logs, of fields that have one value alone, as one flat table and as Ali-CCP has them.

    python -m bench.workers.flat_table OUT RAW TARGET CONFIG

TARGET gets `sample_skeleton.csv`, `common_features.csv`, `parquet/` and `csv/`: the same impressions in the
same order, in the table with their context on each line. OUT says how many values stand in each.
"""

import argparse
import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.peers.raw_logs import common_features, skeletons
from esmm_spark.contracts.config_file import load_config

Values = dict[str, str]

IDS = ("impression_id", "context", "click", "conversion")
_LINES_PER_FILE = 500_000


def main() -> None:
    """Writes what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("out", "raw", "target", "config"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    fields = load_config(str(arguments.config)).features.fields
    context = {field.name for field in fields if field.level == "context"}
    names = [field.name for field in fields]
    target: Path = arguments.target
    for folder in ("parquet", "csv"):
        (target / folder).mkdir(parents=True)
    contexts: dict[str, Values] = {}
    raw_values = 0
    with (target / "common_features.csv").open("w", encoding="utf-8") as file:
        for key, values in _lines(common_features(arguments.raw), 2, context):
            contexts[key] = values
            raw_values += len(values)
            file.write(f"{key},{_tokens(values)}\n")
    flat_values, lines = 0, []
    with (target / "sample_skeleton.csv").open("w", encoding="utf-8") as file:
        impressions = _lines(skeletons(arguments.raw), 5, {*names} - context)
        for number, (head, values) in enumerate(impressions):
            file.write(f"{head},{_tokens(values)}\n")
            identifier, click, conversion, key = head.split(",")
            row = contexts[key] | values
            raw_values, flat_values = raw_values + len(values), flat_values + len(row)
            lines.append([identifier, key, click, conversion, *(row.get(name) for name in names)])
            if len(lines) == _LINES_PER_FILE:
                _write(target, number // _LINES_PER_FILE, names, lines)
                lines = []
    if lines:
        _write(target, number // _LINES_PER_FILE, names, lines)
    found = {"impressions": number + 1, "raw_values": raw_values, "flat_values": flat_values}
    arguments.out.write_text(json.dumps(found))


def _lines(files: Iterable[Path], num_columns: int, fields: set[str]) -> Iterator[tuple[str, Values]]:
    """Yields of each line what stands before its tokens, and the values of some fields."""
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            *head, _, tokens = line.split(",", num_columns)
            found = {}
            for token in tokens.split("\x01"):
                name, _, rest = token.partition("\x02")
                if name in fields:
                    found[name] = rest.partition("\x03")[0]
            yield ",".join(head), found


def _tokens(values: Values) -> str:
    return f"{len(values)}," + "\x01".join(f"{name}\x02{value}\x031.0" for name, value in values.items())


def _write(target: Path, number: int, names: list[str], lines: list[list[str | None]]) -> None:
    columns = [*IDS, *names]
    arrays = [pa.array(column) for column in zip(*lines, strict=True)]
    pq.write_table(
        pa.table(arrays, names=columns), target / "parquet" / f"part-{number:05d}.parquet", compression="zstd"
    )
    with (target / "csv" / f"part-{number:05d}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(lines)


if __name__ == "__main__":
    main()
