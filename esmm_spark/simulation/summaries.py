"""The end of every simulation: its files hold what was drawn, and its summary says so."""

import json
from collections.abc import Mapping

from esmm_spark.contracts.schemas.layout import SIMULATION_NAME
from esmm_spark.files import storage
from esmm_spark.files.footers import require_count


def require_records(root: str, expected: Mapping[str, int]) -> None:
    """Raises CountMismatchError unless the Parquet files of each folder below `root` hold so many records."""
    for folder, count in expected.items():
        paths = [f"{folder}/{name}" for name, _ in storage.list_files(storage.join(root, folder))]
        require_count(root, paths, count, folder)


def write_summary(root: str, summary: Mapping[str, object]) -> None:
    """Writes `simulation.json` into the folder `root`."""
    storage.write_text(storage.join(root, SIMULATION_NAME), json.dumps(summary, indent=2) + "\n")
