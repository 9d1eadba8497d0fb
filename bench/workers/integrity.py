"""Reads an epoch and opens a model, with and without comparing checksums. Writes rates, seconds and bytes."""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil

from bench.training import Session
from esmm_spark.contracts.config_file import load_config
from esmm_spark.contracts.manifest import Manifest
from esmm_spark.files import filesystems, storage
from esmm_spark.model import directory
from esmm_spark.runtime.checksums import checksum_of
from esmm_spark.scoring.predictor import Predictor
from esmm_spark.training.ranks.cluster import Cluster


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("config")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    version = directory.find_model(config.paths.model)
    Predictor(version)
    start_s = time.time() - psutil.Process().create_time()
    info = directory.read_info(version)
    shards = [array for array in directory.open_rows(filesystems.absolute(version), info).shards]
    model_s = min(_seconds(lambda: [checksum_of(shard) for shard in shards]) for _ in range(arguments.rounds))
    session = Session(config, Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))
    with_checksums = session.manifest
    manifests = {"with": with_checksums, "without": without_checksums(with_checksums)}
    rates: dict[str, list[float]] = {name: [] for name in manifests}
    for epoch in range(arguments.rounds):
        for name, manifest in manifests.items():
            session.manifest = manifest
            seconds = _seconds(partial(_read_epoch, session, epoch))
            rates[name].append(session.counts.impressions / seconds)
    blocks = [
        (storage.join(config.paths.dataset, file.path), block)
        for file in session.counts.files
        for block in file.blocks
    ]
    content = [Path(path).read_bytes()[block.offset :][: block.num_bytes] for path, block in blocks]
    rounds = range(arguments.rounds)
    checksums_s = min(_seconds(lambda: [checksum_of(part) for part in content]) for _ in rounds)
    result = {
        "rates": rates,
        "impressions": session.counts.impressions,
        "bytes": sum(map(len, content)),
        "checksums_s": checksums_s,
        "scorer_start_s": start_s,
        "model_bytes": sum(shard.nbytes for shard in shards),
        "model_checksums_s": model_s,
    }
    arguments.out.write_text(json.dumps(result))


def without_checksums(manifest: Manifest) -> Manifest:
    """Returns the manifest as those of before were: its files are read without comparing anything."""
    found = manifest.model_copy(deep=True)
    for counts in found.partitions.values():
        for file in counts.files:
            file.num_bytes, file.checksums = [], []
    return found


def _read_epoch(session: Session, epoch: int) -> None:
    with session.feed(epoch) as batches:
        for _ in batches:
            pass


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
