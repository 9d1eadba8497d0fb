"""The frequent values of fields with min_count > 1, by the hash that makes their bucket.

    <dataset>/vocabulary/*.parquet     field string, value_hash bigint

A value that isn't in it goes to bucket 0, 'rare'. Every process that hashes holds it in memory, 8 bytes a
value; what MAX_VALUES allows is 512 MiB.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmm_spark import storage
from esmm_spark.errors import InputError
from esmm_spark.features import FeatureSpec
from esmm_spark.logs.arrays import Int64s

MAX_VALUES = 1 << 26
VOCABULARY_SCHEMA = pa.schema([("field", pa.string()), ("value_hash", pa.int64())])


def load_vocabulary(folder: str, spec: FeatureSpec) -> dict[str, Int64s]:
    """Returns field name -> int64, ascending: its frequent values' hashes, for fields with min_count > 1.

    Args:
        folder: URI of the vocabulary of a dataset or a model directory.
        spec: their feature spec.

    Raises:
        InputError: there is no vocabulary at `folder`.
    """
    files = storage.list_files(folder, ".parquet")
    if not files:
        raise InputError(f"no vocabulary at {folder}, which fields with min_count > 1 need: preprocess again")
    filesystem, root = storage.filesystem_of(folder)
    hashes: dict[str, list[Int64s]] = {field.name: [] for field in spec.fields if field.min_count > 1}
    for path, _ in files:
        table = pq.read_table(f"{root}/{path}", filesystem=filesystem, schema=VOCABULARY_SCHEMA)
        for name, found in hashes.items():
            found.append(table.filter(pc.equal(table["field"], name))["value_hash"].to_numpy())
    return {name: np.sort(np.concatenate(found)) for name, found in hashes.items()}
