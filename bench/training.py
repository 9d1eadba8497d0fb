"""What training workers share: a trainer and batches made as `esmm_spark/train.py` makes them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.manifest import Manifest, PartitionCounts
from esmm_spark.contracts.schemas.layout import TRAIN_PARTITION
from esmm_spark.contracts.train_config import ReaderName
from esmm_spark.feed.batch import Batch
from esmm_spark.feed.groups import Layout
from esmm_spark.feed.plan import EpochPlan, default_num_streams, row_groups_of
from esmm_spark.feed.reader import open_feed
from esmm_spark.files.manifest_file import read_manifest
from esmm_spark.runtime.progress import Silence
from esmm_spark.training.build import build_trainer
from esmm_spark.training.loop import Trainer
from esmm_spark.training.progress import Progress
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.state import TrainState


class Session:
    """One rank's trainer over the train partition of a config's dataset.

    Args:
        config: the config.
        cluster: the ranks.

    Attributes:
        trainer: steps the model.
        counts: what the partition holds.
    """

    def __init__(self, config: Config, cluster: Cluster) -> None:
        self.config, self.cluster = config, cluster
        self.manifest: Manifest = read_manifest(config.paths.dataset)
        self.counts: PartitionCounts = self.manifest.partition(TRAIN_PARTITION, config.paths.dataset)
        quiet = {"tensorboard": False, "device": "cpu"}
        self.trainer: Trainer = build_trainer(
            config.model_copy(update={"train": config.train.model_copy(update=quiet)}), cluster
        )
        self.trainer.progress = Progress(Silence())

    def plan(self, epoch: int = 0, partition: str = TRAIN_PARTITION) -> EpochPlan:
        """Returns the steps of an epoch."""
        return EpochPlan(
            row_groups_of(self.manifest.partition(partition, self.config.paths.dataset)),
            num_streams=self.config.train.num_streams or default_num_streams(self.cluster.num_ranks),
            batch_size=self.config.train.batch_size,
            seed=self.config.train.seed,
            epoch=epoch,
        )

    @contextmanager
    def feed(
        self, epoch: int = 0, partition: str = TRAIN_PARTITION, reader: ReaderName | None = None
    ) -> Iterator[Iterator[Batch]]:
        """Yields this rank's batches of an epoch, as training reads them, or by another `reader`."""
        with open_feed(
            self.config.paths.dataset,
            Layout(self.config.features, self.config.trained),
            self.plan(epoch, partition),
            self.cluster.rank,
            self.cluster.num_ranks,
            reader_threads=self.config.train.reader_threads,
            reader=reader or self.config.train.reader,
        ) as batches:
            yield batches

    def prepared(self, count: int) -> list[Batch]:
        """Returns the first `count` batches of an epoch, in memory."""
        with self.feed() as batches:
            # The feed's end is checked when all was read; here it is left half-way on purpose.
            return list(islice(batches, count))

    def step_times(self, batches: Iterator[Batch], steps: int) -> list[float]:
        """Trains `steps` steps and returns the time at the end of each but the last, in seconds."""
        times: list[float] = []
        limit = {"max_steps": steps}
        self.trainer.config = self.config.model_copy(
            update={"train": self.config.train.model_copy(update=limit)}
        )
        state = TrainState(run_digest="bench", num_streams=1)
        self.trainer.train_epoch(
            batches, self.plan(), state, self.counts, lambda: times.append(time.perf_counter())
        )
        return times

    def rate(self, batches: Iterator[Batch], steps: int, warm_up: int) -> float:
        """Returns impressions/s over all ranks from the step `warm_up` on."""
        times = self.step_times(batches, steps)
        return self.config.train.batch_size * (len(times) - 1 - warm_up) / (times[-1] - times[warm_up])

    def validation_rate(self) -> float:
        """Returns impressions/s over all ranks of a validation pass, the loader included."""
        started = time.perf_counter()
        with self.feed() as batches:
            self.trainer.validate(batches, self.counts)
        return self.counts.impressions / (time.perf_counter() - started)
