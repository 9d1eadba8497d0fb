"""Digests of the training and validation data, by which a run recognizes its own.

Both count. A model is the best so far on the validation data; on others its AUC would say nothing.
"""

from collections.abc import Mapping

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.contracts.selection import default_validation, partitions_of

_SHOWN = 3

# `data.train` or `data.validation` -> partition -> digest of its examples.
DataDigests = dict[str, dict[str, str]]


def digests_of_data(config: Config, manifest: Manifest) -> DataDigests:
    """Returns the digest of each partition that is trained or validated on: labels, tokens, their order."""
    train = config.data.train
    validation = config.data.validation or default_validation(manifest, train)
    selections = {"data.train": train, "data.validation": validation}
    return {
        key: {
            name: counts.digest
            for name, counts in partitions_of(manifest, selection, config.paths.dataset).items()
        }
        for key, selection in selections.items()
        if selection is not None
    }


def changes_of_data(before: DataDigests, now: DataDigests) -> str:
    """Returns which partitions differ, an empty text if none does.

    Example: `data.train: ds=2026-11-22 has changed, ds=2026-11-24 is new`.

    Args:
        before: the data of a checkpoint's run; empty in checkpoints of before, which don't tell.
        now: the data of this run.
    """
    if not before:
        return ""
    for key in ("data.train", "data.validation"):
        differing = _differences(before.get(key, {}), now.get(key, {}))
        if differing:
            more = f" and {len(differing) - _SHOWN} more" if differing[_SHOWN:] else ""
            return f"{key}: {', '.join(differing[:_SHOWN])}{more}"
    return ""


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns `ds=2026-11-23 has changed`, `... is new` or `... is gone`, partition by partition."""
    return [
        f"{name} {'is new' if name not in before else 'is gone' if name not in now else 'has changed'}"
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]
