"""Checks that all ranks train the same: config, data, code and libraries."""

import functools
import hashlib
import importlib
import inspect
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError
from esmm_spark.contracts.manifest import PartitionCounts
from esmm_spark.training.ranks.cluster import Cluster

_PACKAGE = Path(__file__).resolve().parents[2]
_SHOWN = 4


def require_agreement(config: Config, data: PartitionCounts, cluster: Cluster) -> None:
    """Raises ConfigError, on the first rank, if a rank differs in what it is about to train.

    All ranks call this together. One digest each is exchanged; only where they differ, all that they are of.

    Args:
        config: the whole config, as this rank read it.
        data: the training partition, as this rank read it in the manifest.
        cluster: the ranks.

    Raises:
        ConfigError: naming the ranks and what differs; FailedElsewhereError on the other ranks.
    """
    if cluster.num_ranks == 1:
        return
    facts = json.dumps(_facts(config, data), sort_keys=True)
    digests = cluster.texts(hashlib.sha256(facts.encode()).hexdigest(), "agreement.digest")
    if len(set(digests)) == 1:
        return
    of_ranks = [json.loads(text) for text in cluster.texts(facts, "agreement.facts")]

    def tell() -> None:
        if cluster.is_first:
            raise ConfigError(disagreement(of_ranks))

    cluster.together(tell, "agreement")


def disagreement(of_ranks: list[dict[str, Any]]) -> str:
    """Returns the message that names the first ranks and keys that differ from the first rank's.

    Args:
        of_ranks: each rank's facts, by dotted key.
    """
    first = of_ranks[0]
    told = []
    for rank, facts in enumerate(of_ranks):
        told += [
            f"{key} is {facts.get(key)!r} on rank {rank} and {first.get(key)!r} on rank 0"
            for key in {**first, **facts}
            if facts.get(key) != first.get(key)
        ]
    more = f" (and {len(told) - _SHOWN} more)" if len(told) > _SHOWN else ""
    return (
        f"the ranks don't train the same: {', '.join(told[:_SHOWN])}{more}: start all of them with one "
        "command, from one environment"
    )


def _facts(config: Config, data: PartitionCounts) -> dict[str, Any]:
    return {
        **_flat(config.model_dump(mode="json")),
        "the dataset's manifest (digest)": _digest(data.model_dump_json().encode()),
        "esmm_spark's code (digest)": _code_digest(),
        "the network's code (digest)": _module_digest(config.model.network),
        "the loss's code (digest)": _module_digest(config.model.objective),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _flat(content: Any, key: str = "") -> dict[str, Any]:
    """Returns nested dicts as one with dotted keys: {a: {b: 1}} gives {"a.b": 1}."""
    if not isinstance(content, dict) or not content:
        return {key: content}
    return {
        name: value
        for part, inner in content.items()
        for name, value in _flat(inner, f"{key}.{part}" if key else part).items()
    }


@functools.cache
def _code_digest() -> str:
    files = sorted(_PACKAGE.rglob("*.py"))
    return _digest(b"".join(str(path.relative_to(_PACKAGE)).encode() + path.read_bytes() for path in files))


def _module_digest(name: str) -> str:
    """Returns the digest of the file of `package.module:Name`, empty for what is built in.

    What is wrong with it is reported where the model is built.
    """
    module, separator, _ = name.partition(":")
    if not separator:
        return ""
    try:
        return _digest(inspect.getsource(importlib.import_module(module)).encode())
    except Exception:
        return "unknown"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
