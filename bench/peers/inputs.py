"""The peers' input, as bench/workers/flatten.py writes it."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Inputs:
    """N impressions.

    Attributes:
        columns: field -> [N] or [N, L] int32 buckets.
        num_buckets: field -> buckets of its table.
        click: [N] float32.
        conversion: [N] float32.
    """

    columns: dict[str, npt.NDArray[Any]]
    num_buckets: dict[str, int]
    click: npt.NDArray[Any]
    conversion: npt.NDArray[Any]

    @classmethod
    def load(cls, path: Path) -> "Inputs":
        """Returns the content of the .npz at `path`."""
        with np.load(path) as content:
            fields = [name.removeprefix("f_") for name in content.files if name.startswith("f_")]
            return cls(
                {field: content[f"f_{field}"] for field in fields},
                {field: int(content[f"rows_{field}"]) for field in fields},
                content["click"],
                content["conversion"],
            )


def peer_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns the command line that both training peers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path)
    parser.add_argument("inputs", type=Path)
    parser.add_argument("--dim", type=int, default=12)
    parser.add_argument("--hidden-units", type=int, nargs="+", default=[200, 80])
    parser.add_argument("--batch-size", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser
