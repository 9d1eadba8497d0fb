"""Small raw files for tests, and the spec that reads them."""

from collections.abc import Sequence
from pathlib import Path

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.sample_config import SplitLogs

SPEC = FeatureSpec.model_validate(
    {
        "tables": {"user": {"num_buckets": 100}, "item": {"num_buckets": 50}, "pos": {"num_buckets": 10}},
        "fields": [
            {"name": "101", "level": "context", "table": "user"},
            {"name": "109", "level": "context", "table": "item", "weighted": True, "multi": True},
            {"name": "205", "level": "impression", "table": "item"},
            {"name": "301", "level": "impression", "table": "pos", "multi": True},
        ],
    }
)


def token(field: str, value: str, weight: str = "1.0") -> bytes:
    return f"{field}\x02{value}\x03{weight}".encode()


def context(key: str, *tokens: bytes, count: int | str | None = None) -> bytes:
    return f"{key},{len(tokens) if count is None else count},".encode() + b"\x01".join(tokens)


def impression(
    impression_id: str,
    key: str,
    *tokens: bytes,
    click: int | str = 0,
    conversion: int | str = 0,
    count: int | str | None = None,
) -> bytes:
    columns = f"{impression_id},{click},{conversion},{key},{len(tokens) if count is None else count},"
    return columns.encode() + b"\x01".join(tokens)


def write_lines(path: Path, lines: Sequence[bytes]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def write_split(folder: Path, contexts: Sequence[bytes], impressions: Sequence[bytes]) -> SplitLogs:
    return SplitLogs(
        common_features=write_lines(folder / "common_features.csv", contexts),
        skeleton=write_lines(folder / "skeleton.csv", impressions),
    )


def config_for(
    folder: Path, splits: dict[str, SplitLogs], spec: FeatureSpec = SPEC, **sections: dict[str, object]
) -> Config:
    """Returns a config that writes below `folder`; by default no line is too bad, nothing is held out."""
    files = {name: split.model_dump() for name, split in splits.items()}
    logs = {"splits": files, "max_reject_fraction": 1}
    return Config.model_validate(
        {
            "paths": {
                name: str(folder / name.replace("dataset", "out/dataset"))
                for name in ("dataset", "model", "scores", "report")
            },
            "logs": logs | sections.pop("logs", {}),
            "features": spec.model_dump(),
            "samples": {"validation_fraction": 0, "num_files": 2} | sections.pop("samples", {}),
            **sections,
        }
    )
