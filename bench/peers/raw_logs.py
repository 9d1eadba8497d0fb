"""The raw files and the feature spec, as the converters read them: no esmm_spark in this venv."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

MAX_GROUP_SIZE = 256
HASH_SEED = 42


@dataclass(frozen=True)
class Field:
    """One field of the feature spec.

    Attributes:
        name: in the log.
        level: `context` or `impression`.
        table: what its values are hashed with.
        first_row: of its table in the arena.
        num_buckets: of its table.
        weighted: whether the tokens' weights count.
    """

    name: str
    level: str
    table: str
    first_row: int
    num_buckets: int
    weighted: bool


def read_fields(path: Path) -> list[Field]:
    """Returns the fields of a feature spec, as the preprocess stage writes them for the peers."""
    return [Field(**field) for field in json.loads(path.read_text())]


def skeletons(raw: Path) -> list[Path]:
    """Returns the files of impressions, both splits."""
    return sorted(raw.glob("sample_skeleton_*/part-*.csv"))


def common_features(raw: Path) -> list[Path]:
    """Returns the files of contexts, both splits."""
    return sorted(raw.glob("common_features_*/part-*.csv"))


def converter_parser(description: str | None) -> argparse.ArgumentParser:
    """Returns the command line that both converters have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path)
    parser.add_argument("raw", type=Path)
    parser.add_argument("fields", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    return parser
