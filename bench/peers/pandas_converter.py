"""Ali-CCP's raw files to flat Parquet with pandas, the way people write it: one process, one row at a time.

Writes impressions and CPU seconds of the conversion.
"""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
import xxhash

from bench.peers.raw_logs import HASH_SEED, Field, common_features, converter_parser, read_fields, skeletons

CHUNK_ROWS = 10_000

Features = dict[str, tuple[list[int], list[float]]]


def parse_tokens(tokens: str, fields: dict[str, Field]) -> Features:
    r"""Returns field -> rows and weights of `field \x02 value \x03 weight` joined by \x01."""
    features: Features = defaultdict(lambda: ([], []))
    if not tokens:
        return features
    for token in tokens.split("\x01"):
        name, _, rest = token.partition("\x02")
        value, _, weight = rest.partition("\x03")
        field = fields.get(name)
        if field is None:
            continue
        value_hash = xxhash.xxh64_intdigest(f"{field.table}={value}".encode(), seed=HASH_SEED)
        signed = value_hash - 2**64 if value_hash >= 2**63 else value_hash
        rows, weights = features[name]
        rows.append(field.first_row + 1 + signed % (field.num_buckets - 1))
        weights.append(float(weight) if field.weighted else 1.0)
    return features


def convert(raw: Path, fields: dict[str, Field], target: Path) -> int:
    """Writes flat Parquet below `target` and returns the number of impressions."""
    contexts = {}
    for path in common_features(raw):
        table = pd.read_csv(path, header=None, names=["key", "count", "tokens"], dtype=str, quoting=3)
        for key, tokens in zip(table["key"], table["tokens"].fillna(""), strict=True):
            contexts[key] = parse_tokens(tokens, fields)
    num_impressions = 0
    names = ["id", "click", "conversion", "key", "count", "tokens"]
    for path in skeletons(raw):
        chunks = pd.read_csv(path, header=None, names=names, dtype=str, quoting=3, chunksize=CHUNK_ROWS)
        for number, chunk in enumerate(chunks):
            rows = []
            for line in chunk.fillna("").itertuples(index=False):
                features = {**contexts[line.key], **parse_tokens(line.tokens, fields)}
                row: dict[str, Any] = {
                    "impression_id": line.id,
                    "click": int(line.click),
                    "conversion": int(line.conversion),
                }
                for name in fields:
                    row[f"{name}_rows"], row[f"{name}_weights"] = features.get(name, ([], []))
                rows.append(row)
            pd.DataFrame(rows).to_parquet(target / f"{path.parent.name}-{path.stem}-{number}.parquet")
            num_impressions += len(rows)
    return num_impressions


def main() -> None:
    """Converts what the command line names."""
    arguments = converter_parser(__doc__).parse_args()
    fields = {field.name: field for field in read_fields(arguments.fields)}
    arguments.target.mkdir(parents=True, exist_ok=True)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    impressions = convert(arguments.raw, fields, arguments.target)
    runs = [{"cpu_s": time.process_time() - cpu_s, "wall_s": time.perf_counter() - wall_s}]
    arguments.out.write_text(json.dumps({"impressions": impressions, "runs": runs}))


if __name__ == "__main__":
    main()
