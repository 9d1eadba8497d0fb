"""Writes impressions as the peers take them: an .npz with a column per field, padded, and the labels.

Keys: `f_<field>` [N] or [N, L] int32 buckets, 0 where missing; `rows_<field>` the table's buckets; `click`,
`conversion` [N] float32.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.flat import fields_in_order, flatten, mean_lengths, padded
from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.training.ranks.cluster import Cluster


def main() -> None:
    """Writes what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("target", type=Path)
    parser.add_argument("--impressions", type=int, required=True)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    spec = config.features
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    count = -(-arguments.impressions // config.train.batch_size)
    flats = [flatten(batch, spec) for batch in session.prepared(count)]
    columns: dict[str, npt.NDArray[Any]] = {}
    lengths = mean_lengths(flats)
    for place, field in enumerate(fields_in_order(spec)):
        column = padded(flats, spec, place, lengths[place])
        columns[f"f_{field.name}"] = column if field.multi else column[:, 0]
        columns[f"rows_{field.name}"] = np.array(spec.tables[field.table_name].num_buckets)
    columns["click"] = np.concatenate([flat.click for flat in flats])
    columns["conversion"] = np.concatenate([flat.conversion for flat in flats])
    arguments.target.parent.mkdir(parents=True, exist_ok=True)
    np.savez(arguments.target, **columns)
    arguments.out.write_text(json.dumps({"impressions": len(columns["click"]), "tokens": sum(lengths)}))


if __name__ == "__main__":
    main()
