"""Ali-CCP's raw files to esmm_spark's grouped examples with Polars: the best on one machine.

The same columns with the same content, hashes included, of clean input that fits into memory; nothing is
rejected, counted or kept whole when it is killed. Writes impressions and CPU seconds of each round.

Legend: G groups, N impressions, F fields of a level, T tokens.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import polars_hash  # noqa: F401  registers .nchash
import pyarrow as pa
import pyarrow.parquet as pq

from bench.peers.raw_logs import (
    HASH_SEED,
    MAX_GROUP_SIZE,
    Field,
    common_features,
    converter_parser,
    read_fields,
    skeletons,
)

ROW_GROUP_ROWS = 1_000
_STRINGS = {"separator": ",", "has_header": False, "quote_char": None, "infer_schema": False}


@dataclass(frozen=True)
class Bags:
    """The tokens of some lines, field by field.

    Attributes:
        rows: [T] int32.
        weights: [T] float32.
        lengths: [lines, F] int32.
    """

    rows: npt.NDArray[Any]
    weights: npt.NDArray[Any]
    lengths: npt.NDArray[Any]

    @property
    def tokens(self) -> npt.NDArray[Any]:
        """[lines] tokens of each line."""
        tokens: npt.NDArray[Any] = self.lengths.sum(axis=1)
        return tokens


def parse_tokens(lines: pl.Series, fields: list[Field]) -> Bags:
    """Returns the tokens of the lines' token columns, those of one level's fields."""
    split = lines.fill_null("").str.split("\x01")
    owners = np.repeat(np.arange(len(lines), dtype=np.int32), split.list.len().to_numpy())
    names = [field.name for field in fields]
    tokens = (
        pl.LazyFrame({"owner": owners, "token": split.explode()})
        .with_columns(pl.col("token").str.split_exact("\x02", 1).struct.rename_fields(["name", "rest"]))
        .unnest("token")
        .with_columns(position=pl.col("name").replace_strict(names, list(range(len(names))), default=None))
        .filter(pl.col("position").is_not_null())
        .with_columns(pl.col("rest").str.split_exact("\x03", 1).struct.rename_fields(["value", "weight"]))
        .unnest("rest")
    )
    table = _of_field(fields, "table", pl.String)
    modulus = _of_field(fields, "num_buckets", pl.Int64) - 1
    value_hash = pl.concat_str(table, pl.lit("="), "value").nchash.xxhash64(seed=HASH_SEED)
    weighted = _of_field(fields, "weighted", pl.Boolean)
    parsed = tokens.select(
        "owner",
        "position",
        row=(
            _of_field(fields, "first_row", pl.Int64)
            + 1
            + ((value_hash.reinterpret(signed=True) % modulus) + modulus) % modulus
        ).cast(pl.Int32),
        weight=pl.when(weighted).then(pl.col("weight").cast(pl.Float32)).otherwise(1.0),
    ).collect()
    bag = parsed["owner"].to_numpy().astype(np.int64) * len(fields) + parsed["position"].to_numpy()
    order = np.argsort(bag, kind="stable")
    lengths = np.bincount(bag, minlength=len(lines) * len(fields)).astype(np.int32)
    return Bags(
        parsed["row"].to_numpy()[order],
        parsed["weight"].to_numpy().astype(np.float32)[order],
        lengths.reshape(len(lines), len(fields)),
    )


def _of_field(fields: list[Field], attribute: str, dtype: pl.DataType) -> pl.Expr:
    values = [getattr(field, attribute) for field in fields]
    return pl.col("position").replace_strict(list(range(len(fields))), values, return_dtype=dtype)


def convert(raw: Path, fields: list[Field], target: Path) -> int:
    """Writes the examples to the file `target` and returns the number of impressions."""
    contexts = (
        pl.scan_csv(common_features(raw), new_columns=["key", "count", "tokens"], **_STRINGS)
        .sort("key")
        .with_row_index("context")
        .collect()
    )
    names = ["id", "click", "conversion", "key", "count", "tokens"]
    impressions = (
        pl.scan_csv(skeletons(raw), new_columns=names, **_STRINGS)
        .join(contexts.lazy().select("key", "context"), on="key")
        .sort("context", "id")
        .with_columns(part=pl.int_range(pl.len()).over("context") // MAX_GROUP_SIZE)
        .collect()
    )
    groups = impressions.group_by("context", "part", maintain_order=True).agg(
        pl.col("key").first(), size=pl.len()
    )
    groups = groups.with_columns(
        hash=pl.concat_str("key", pl.lit("#"), "part")
        .nchash.xxhash64(seed=HASH_SEED)
        .reinterpret(signed=True)
    )
    context_bags = parse_tokens(contexts["tokens"], [field for field in fields if field.level == "context"])
    own_bags = parse_tokens(impressions["tokens"], [field for field in fields if field.level == "impression"])
    table = _table(groups, impressions, context_bags, own_bags)
    # As examples are written: the least work.
    pq.write_table(
        table.sort_by("group_hash"),
        target,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
        row_group_size=ROW_GROUP_ROWS,
    )
    return len(impressions)


def _table(groups: pl.DataFrame, impressions: pl.DataFrame, context: Bags, own: Bags) -> pa.Table:
    """Returns the examples, one row per group; impressions are in the order of their groups."""
    sizes = groups["size"].to_numpy().astype(np.int64)
    ends = np.cumsum(sizes)
    tokens_until = _offsets(own.tokens)
    own_tokens = tokens_until[ends] - tokens_until[ends - sizes]
    place = groups["context"].to_numpy()
    starts, lengths = _offsets(context.tokens)[place], context.tokens[place]
    chosen = np.repeat(starts - _offsets(lengths)[:-1], lengths) + np.arange(lengths.sum())
    num_context, num_own = context.lengths.shape[1], own.lengths.shape[1]
    return pa.table(
        {
            "group_key": groups["key"].to_arrow(),
            "group_hash": groups["hash"].to_numpy(),
            "impression_id": _lists(impressions["id"].to_arrow().cast(pa.string()), sizes),
            "click": _lists(impressions["click"].cast(pl.Int8).to_arrow(), sizes),
            "conversion": _lists(impressions["conversion"].cast(pl.Int8).to_arrow(), sizes),
            "context_rows": _lists(pa.array(context.rows[chosen]), lengths),
            "context_weights": _lists(pa.array(context.weights[chosen]), lengths),
            "context_lengths": _lists(
                pa.array(context.lengths[place].ravel()), np.full(len(sizes), num_context)
            ),
            "impression_rows": _lists(pa.array(own.rows), own_tokens),
            "impression_weights": _lists(pa.array(own.weights), own_tokens),
            "impression_lengths": _lists(pa.array(own.lengths.ravel()), sizes * num_own),
        }
    )


def _offsets(lengths: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate([[0], np.cumsum(lengths)])


def _lists(values: pa.Array, lengths: npt.NDArray[Any]) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(_offsets(lengths), pa.int32()), values)


def main() -> None:
    """Converts what the command line names, several times over."""
    arguments = converter_parser(__doc__).parse_args()
    fields = read_fields(arguments.fields)
    arguments.target.parent.mkdir(parents=True, exist_ok=True)
    runs, impressions = [], 0
    for _ in range(arguments.rounds):
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        impressions = convert(arguments.raw, fields, arguments.target)
        runs.append({"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s})
    arguments.out.write_text(json.dumps({"impressions": impressions, "runs": runs}))


if __name__ == "__main__":
    main()
