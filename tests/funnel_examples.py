"""A small dataset of a funnel of three tasks with unknown labels and carried columns, and its config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from esmm_spark.contracts.impressions import CarriedKind, ImpressionColumns
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.contracts.tasks import Tasks
from esmm_spark.feed.groups import Layout
from esmm_spark.files.schemas import arrow_schema
from tests.synthetic_examples import (
    SPEC,
    Group,
    config_content,
    random_groups,
    write_dataset,
    write_partition,
)

TASKS: dict[str, Any] = {
    "click": {},
    "conversion": {"given": "click"},
    "repurchase": {"given": "conversion"},
}
FUNNEL = Tasks.model_validate(TASKS)
CARRY: dict[str, CarriedKind] = {"price": "float", "seen": "float", "place": "int", "segment": "string"}
LAYOUT = Layout(SPEC, ImpressionColumns(FUNNEL, CARRY), for_scoring=True)


def groups_of_three_tasks(num_groups: int, seed: int) -> list[Group]:
    """Returns groups whose conversions are bought again by half; a tenth of all that may be 1 is unknown.

    Some places and segments are missing, no number that a loss reads.
    """
    random = np.random.default_rng(seed)
    groups = random_groups(num_groups, seed)
    for group in groups:
        again = [own * int(random.random() < 0.5) for own in group["conversion"]]
        size = len(again)
        group["repurchase"] = [
            None if own and random.random() < 0.1 else label
            for own, label in zip(group["conversion"], again, strict=True)
        ]
        group["price"] = random.uniform(0.5, 2.0, size).tolist()
        group["seen"] = random.uniform(0.1, 0.9, size).tolist()
        group["place"] = [None if place % 3 == 2 else 2**60 + place for place in range(size)]
        group["segment"] = [("new", None, "known, long")[place % 3] for place in range(size)]
    return groups


def write_funnel(
    dataset: Path, partitions: dict[str, tuple[list[Group], Sequence[Sequence[int]]]]
) -> Manifest:
    """Writes a dataset: partition -> its groups, and per file the groups of each of its row groups."""
    schema = arrow_schema(LAYOUT.columns)
    counts = {
        name: write_partition(dataset, name, groups, row_groups, schema, FUNNEL.names)
        for name, (groups, row_groups) in partitions.items()
    }
    return write_dataset(dataset, counts, tasks=FUNNEL, carry=CARRY)


def funnel_content(folder: Path) -> dict[str, Any]:
    """Returns a config of 2 epochs whose paths lie in `folder`; its logs are never read."""
    log = {"path": str(folder / "none"), "time": "time", "user_id": "u", "item_id": "i"}
    names = [field.name for field in SPEC.fields] + list(CARRY)
    features = {name: name for name in names}
    impressions = {**log, "path": str(folder / "impressions"), "impression_id": "id", "features": features}
    repurchase = {**log, "path": str(folder / "repurchases"), "event_id": "id", "window_s": 60}
    logs = {
        "format": "events",
        "events": {
            "impressions": impressions,
            "clicks": {**log, "path": str(folder / "clicks")},
            "conversions": {**log, "path": str(folder / "conversions")},
            "tasks": {"repurchase": repurchase},
            "attribution": {"click_window_s": 60, "conversion_window_s": 60},
        },
    }
    samples = {"carry": dict(CARRY), "unknown_labels": "keep"}
    return {**config_content(folder), "logs": logs, "tasks": TASKS, "samples": samples}
