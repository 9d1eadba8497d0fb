"""A small dataset of examples, written with pyarrow, and the config that trains on it.

Clicks follow the item and the user, conversions the item: so a model learns something from it.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.manifest import ExamplesFile, Manifest, PartitionCounts
from esmm_spark.contracts.schemas.layout import EXAMPLES
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.files import seals
from esmm_spark.files.examples_file import BlockStream
from esmm_spark.files.manifest_file import write_manifest

NUM_ITEMS, NUM_USERS, NUM_TAGS = 200, 80, 40

SPEC = FeatureSpec.model_validate(
    {
        "tables": {
            "user": {"num_buckets": NUM_USERS},
            "tag": {"num_buckets": NUM_TAGS},
            "item": {"num_buckets": NUM_ITEMS},
        },
        "fields": [
            {"name": "user", "level": "context"},
            {"name": "tags", "level": "context", "table": "tag", "weighted": True, "multi": True},
            {
                "name": "history",
                "level": "context",
                "table": "item",
                "weighted": True,
                "multi": True,
                "pooling": "mean",
            },
            {"name": "item", "level": "impression"},
            {"name": "labels", "level": "impression", "table": "tag", "multi": True, "pooling": "mean"},
        ],
    }
)

# The same examples where the history isn't pooled: it reaches the network value by value.
UNPOOLED = FeatureSpec.model_validate(
    {
        "tables": SPEC.model_dump()["tables"],
        "fields": [
            {**field, "pooling": "none", "max_length": 5} if field["name"] == "history" else field
            for field in SPEC.model_dump()["fields"]
        ],
    }
)

SCHEMA = pa.schema(
    [
        ("group_key", pa.string()),
        ("group_hash", pa.int64()),
        ("impression_id", pa.list_(pa.string())),
        ("click", pa.list_(pa.int8())),
        ("conversion", pa.list_(pa.int8())),
        ("context_rows", pa.list_(pa.int32())),
        ("context_weights", pa.list_(pa.float32())),
        ("context_lengths", pa.list_(pa.int32())),
        ("impression_rows", pa.list_(pa.int32())),
        ("impression_weights", pa.list_(pa.float32())),
        ("impression_lengths", pa.list_(pa.int32())),
    ]
)

Group = dict[str, Any]


def random_groups(num_groups: int, seed: int, max_size: int = 9) -> list[Group]:
    """Returns groups with 1 to `max_size` impressions, as rows of SCHEMA; some fields are missing."""
    random = np.random.default_rng(seed)
    item_effect = np.random.default_rng(1).normal(0, 1.2, NUM_ITEMS)
    user_effect = np.random.default_rng(2).normal(0, 0.8, NUM_USERS)
    offsets = SPEC.offsets
    groups = []
    for index in range(num_groups):
        key = f"context-{seed}-{index}"
        size = int(random.integers(1, max_size + 1))
        user = int(random.integers(1, NUM_USERS))
        num_tags, num_history = int(random.integers(0, 4)), int(random.integers(0, 5))
        rows = [offsets["user"] + user]
        rows += [offsets["tag"] + int(t) for t in random.integers(1, NUM_TAGS, num_tags)]
        rows += [offsets["item"] + int(t) for t in random.integers(1, NUM_ITEMS, num_history)]
        weights = [1.0, *random.uniform(0.2, 2.0, num_tags + num_history)]
        items = random.integers(1, NUM_ITEMS, size)
        clicked = random.random(size) < 1 / (1 + np.exp(-(item_effect[items] + user_effect[user] - 0.5)))
        converted = clicked & (random.random(size) < 1 / (1 + np.exp(-2 * item_effect[items])))
        impression_rows, impression_weights, lengths = [], [], []
        for item in items:
            num_labels = int(random.integers(0, 3))
            impression_rows += [offsets["item"] + int(item)]
            impression_rows += [offsets["tag"] + int(t) for t in random.integers(1, NUM_TAGS, num_labels)]
            impression_weights += [1.0] * (1 + num_labels)
            lengths += [1, num_labels]
        groups.append(
            {
                "group_key": key,
                "group_hash": int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big", signed=True),
                "impression_id": [f"{key}-{i}" for i in range(size)],
                "click": clicked.astype(int).tolist(),
                "conversion": converted.astype(int).tolist(),
                "context_rows": rows,
                "context_weights": weights,
                "context_lengths": [1, num_tags, num_history],
                "impression_rows": impression_rows,
                "impression_weights": impression_weights,
                "impression_lengths": lengths,
            }
        )
    return groups


def write_partition(
    dataset: Path,
    partition: str,
    groups: Sequence[Group],
    row_groups: Sequence[Sequence[int]],
    schema: pa.Schema = SCHEMA,
    tasks: Sequence[str] = DEFAULT_TASKS.names,
) -> PartitionCounts:
    """Writes a partition and returns its counts.

    Args:
        dataset: its folder.
        partition: `split=train`.
        groups: all groups.
        row_groups: per file, the groups of each of its row groups; they add up to all groups.
        schema: of the examples.
        tasks: whose labels the groups have, None where unknown.
    """
    left = list(groups)
    files = []
    for number, sizes in enumerate(row_groups):
        path = f"{EXAMPLES}/{partition}/part-{number:05d}.parquet"
        (dataset / path).parent.mkdir(parents=True, exist_ok=True)
        impressions = []
        with pa.OSFile(str(dataset / path), "wb") as file:
            blocks = BlockStream(file)
            with pq.ParquetWriter(blocks, schema, compression="zstd") as writer:
                for size in sizes:
                    rows, left = left[:size], left[size:]
                    writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=max(size, 1))
                    blocks.end_block()
                    impressions.append(sum(len(row["click"]) for row in rows))
            blocks.end_block()
        files.append(
            ExamplesFile(
                path=path,
                groups=list(sizes),
                impressions=impressions,
                num_bytes=blocks.num_bytes,
                checksums=blocks.checksums,
            )
        )
    assert not left, len(left)
    hash_sum = sum(group["group_hash"] for group in groups)
    return PartitionCounts(
        groups=len(groups),
        impressions=sum(len(group["click"]) for group in groups),
        positives={task: sum(group[task].count(1) for group in groups) for task in tasks},
        unknown={task: count for task in tasks if (count := sum(g[task].count(None) for g in groups))},
        context_tokens=sum(len(group["context_rows"]) for group in groups),
        impression_tokens=sum(len(group["impression_rows"]) for group in groups),
        group_hash_sum=(hash_sum + 2**63) % 2**64 - 2**63,
        files=files,
    )


def of_before(counts: PartitionCounts) -> PartitionCounts:
    """Returns the counts without checksums, as in datasets of before: a test may write a file of its own."""
    files = [file.model_copy(update={"num_bytes": [], "checksums": []}) for file in counts.files]
    return counts.model_copy(update={"files": files})


def rewrite(record: Path, content: str) -> None:
    """Writes a file whose folder's marker then lists none, as in folders of before."""
    record.write_text(content)
    record.with_name("_SUCCESS").write_text("")


def write_dataset(
    dataset: Path, partitions: dict[str, PartitionCounts], spec: FeatureSpec = SPEC, **other: Any
) -> Manifest:
    """Completes a dataset of partitions that `write_partition` wrote; `other` goes into the manifest."""
    manifest = Manifest(
        feature_spec=spec,
        feature_spec_digest=spec.digest,
        sources=[],
        partitions=partitions,
        config={},
        **other,
    )
    write_manifest(str(dataset), manifest)
    seals.seal(str(dataset), (".json",))
    return manifest


def write_small_dataset(dataset: Path, num_groups: int = 400, spec: FeatureSpec = SPEC) -> Manifest:
    """Writes a dataset with `split=train` in 7 uneven row groups of 3 files, and `split=validation` in 2."""
    tenth = num_groups // 10
    uneven = [[tenth * 3, tenth], [tenth // 2, tenth * 2, tenth // 3], [tenth]]
    rest = num_groups - sum(map(sum, uneven))
    uneven[2].append(rest)
    train = write_partition(dataset, "split=train", random_groups(num_groups, 1), uneven)
    num_validation = num_groups // 2
    validation = write_partition(
        dataset,
        "split=validation",
        random_groups(num_validation, 2),
        [[num_validation // 3], [num_validation - num_validation // 3]],
    )
    return write_dataset(dataset, {"split=train": train, "split=validation": validation}, spec)


def config_content(folder: Path, **train: Any) -> dict[str, Any]:
    """Returns the config of a small run below `folder`, with `train` keys set."""
    return {
        "paths": {
            name: str(folder / name.replace("_", "-")) for name in ("dataset", "model", "scores", "report")
        },
        "logs": {"format": "aliccp", "splits": {"train": {"skeleton": "none", "common_features": "none"}}},
        "features": json.loads(SPEC.model_dump_json()),
        "model": {"dim": 4, "hidden_units": [16, 8]},
        "train": {
            "batch_size": 128,
            "epochs": 2,
            "learning_rate": 0.01,
            "embedding_learning_rate": 0.1,
            "num_streams": 4,
            "threads": 1,
            "tensorboard": False,
            **train,
        },
    }


def write_config(folder: Path, **train: Any) -> Path:
    """Writes that config to `folder`/config.yaml and returns its path."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config_content(folder, **train), sort_keys=False))
    return path


def small_config(folder: Path, **train: Any) -> Config:
    """Returns that config."""
    return Config.model_validate(config_content(folder, **train))
