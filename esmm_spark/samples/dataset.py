"""Raw logs to a dataset: examples and rejects of every split, the manifest, the marker of completeness."""

from collections.abc import Callable, Mapping

from pyspark.sql import SparkSession

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.errors import ConfigError, InputError, TooManyRejectsError
from esmm_spark.contracts.manifest import Manifest, PartitionCounts, SourceCounts
from esmm_spark.contracts.sample_config import Samples
from esmm_spark.contracts.schemas.layout import (
    EXAMPLES,
    MANIFEST_NAME,
    MARKER,
    PART_FILES,
    REJECTS,
    SPLIT_PREFIX,
    TRAIN_PARTITION,
    VALIDATION_PARTITION,
    VOCABULARY,
)
from esmm_spark.contracts.schemas.split_names import TRAIN, VALIDATION
from esmm_spark.files import seals, storage
from esmm_spark.files.manifest_file import write_manifest
from esmm_spark.files.replacing import Replacement, replacing
from esmm_spark.logs.formats import reader_of
from esmm_spark.logs.splits import OpenLog, SplitLines
from esmm_spark.samples.counting import account_for, require_accounted, require_counted
from esmm_spark.samples.examples import write_examples
from esmm_spark.samples.frozen import frozen_of, keep_vocabulary
from esmm_spark.samples.hashing.held_out import HeldOut
from esmm_spark.samples.plan import GroupingPlan
from esmm_spark.samples.vocabulary import write_vocabulary
from esmm_spark.spark.failures import user_errors
from esmm_spark.spark.steps import step

# What a dataset holds whose marker lists nothing, see `replacing.require_own_folder`.
_OURS = (
    MANIFEST_NAME,
    f"{EXAMPLES}/*/{PART_FILES}",
    f"{REJECTS}/*.parquet",
    f"{VOCABULARY}/*.parquet",
    f"{VOCABULARY}/{MARKER}",
    f"{VOCABULARY}/.*.crc",
)


# Opens a log for the dataset whose staging folder is given.
ReadLog = Callable[[SparkSession, Config, str], OpenLog]


def read_splits(spark: SparkSession, config: Config, folder: str) -> OpenLog:
    """Returns the splits of `logs.splits`, whose files are of `logs.format`; stages nothing in `folder`."""
    read_split = reader_of(config.logs.format)
    splits = [
        SplitLines(name, read_split(spark, logs), (logs.common_features, logs.skeleton))
        for name, logs in config.logs.splits.items()
    ]
    return OpenLog(splits, [], [])


def preprocess(spark: SparkSession, config: Config, read_log: ReadLog = read_splits) -> Manifest:
    """Writes the dataset of `config` in the place of what is there; returns its manifest.

    Until all of it is written, what was there before stays whole.

    Args:
        spark: the session.
        config: the config.
        read_log: opens its log.

    Raises:
        ConfigError: values are to be counted, but on nothing, or too many are frequent.
        InputError: a raw file is missing or empty, nothing is left to train on, or `paths.dataset` holds more
            than a dataset.
        SpecMismatchError: `samples.frozen_from` was made with another spec.
        TooManyRejectsError: a source has more bad lines than `logs.max_reject_fraction` allows.
        CountMismatchError: a line got lost.
    """
    target = config.paths.dataset
    with (
        replacing(target, "paths.dataset", _OURS) as new,
        user_errors(spark, "mend the raw files", f"paths.dataset {target}"),
    ):
        manifest = _write_dataset(spark, config, new, read_log)
    return manifest


def _write_dataset(spark: SparkSession, config: Config, new: Replacement, read_log: ReadLog) -> Manifest:
    staging = new.folder
    manifest = Manifest(
        feature_spec=config.features,
        feature_spec_digest=config.features.digest,
        tasks=config.tasks,
        carry=config.samples.carry,
        sources=[],
        partitions={},
        config=config.model_dump(mode="json"),
    )
    frozen = frozen_of(config)
    is_counted = config.features.needs_vocabulary and frozen is None
    if is_counted and config.logs.splits and TRAIN not in config.logs.splits:
        raise ConfigError(
            "features.fields have min_count > 1, which is counted on logs.splits.train: name its files"
        )
    log = read_log(spark, config, staging)
    rejects, splits = list(log.rejects_files), {split.name: split for split in log.splits}
    manifest.sources, manifest.fitted = _sources_of(log), dict(log.fitted)
    if frozen is not None:
        keep_vocabulary(frozen, staging)
        manifest.vocabulary_digest = frozen.vocabulary_digest
    # train first: the other splits need its vocabulary.
    for split in sorted(log.splits, key=lambda split: split.name != TRAIN):
        plan = grouping_plan(config, split.name, staging, VALIDATION in splits)
        if split.name == TRAIN and is_counted and plan.vocabulary is not None:
            with step(spark, f"count the values of {split.name}"):
                manifest.vocabulary_digest = write_vocabulary(
                    split.lines, plan.spec, plan.brought, plan.held_out, plan.vocabulary
                )
        written = write_examples(spark, split.lines, split.paths, plan, config.samples.num_files)
        if split.source is None:
            manifest.sources.extend(written.sources)
        else:
            account_for(split.source, written.sources)
        manifest.partitions.update(written.partitions)
        rejects += written.rejects_files
    require_accounted(_sources_of(log), manifest.partitions.values())
    for folder in log.scratch:
        storage.delete(folder)
    for source in manifest.sources:
        check_rejects(source, config.logs.max_reject_fraction)
    _require_training_groups(manifest.partitions, config.samples, splits.get(TRAIN))
    seals.seal(storage.join(staging, REJECTS), (".parquet",))
    write_manifest(staging, manifest)
    examples = require_counted(staging, manifest.partitions.values(), rejects, manifest.sources)
    vocabulary = [f"{VOCABULARY}/{name}" for name, _ in storage.list_files(storage.join(staging, VOCABULARY))]
    new.files = [MANIFEST_NAME, *examples, *rejects, f"{REJECTS}/{MARKER}", *vocabulary]
    return manifest


def _sources_of(log: OpenLog) -> list[SourceCounts]:
    """Returns what lines were made of, each source once."""
    found: list[SourceCounts] = []
    for split in log.splits:
        if split.source is not None and all(split.source is not source for source in found):
            found.append(split.source)
    return found


def _require_training_groups(
    partitions: Mapping[str, PartitionCounts], samples: Samples, train: SplitLines | None
) -> None:
    """Raises InputError if there is a train split, and no group of it is left to train on."""
    if train is None or TRAIN_PARTITION in partitions:
        return
    held_out = partitions.get(VALIDATION_PARTITION)
    if held_out is not None:
        where = "logs.splits.train" if train.source is None else "the train split"
        raise InputError(
            f"all {held_out.groups} groups of {where} are held out for validation, none is left to "
            f"train on: lower samples.validation_fraction = {samples.validation_fraction}, or set another "
            f"samples.seed than {samples.seed}"
        )
    contexts, impressions = train.paths
    raise InputError(
        f"nothing to train on: {impressions} has no impression of a context in {contexts} that is no reject"
    )


def grouping_plan(config: Config, split: str, dataset: str, has_validation: bool = False) -> GroupingPlan:
    """Returns how the lines of `split` become examples in the folder `dataset`.

    Groups of train are held out for validation, unless the log has a split for it.
    """
    samples, held_out = config.samples, None
    if split == TRAIN and samples.validation_fraction > 0 and not has_validation:
        held_out = HeldOut(VALIDATION_PARTITION, samples.validation_fraction, samples.seed)
    return GroupingPlan(
        spec=config.features,
        brought=config.brought,
        dataset=dataset,
        partition=f"{SPLIT_PREFIX}{split}",
        source=split,
        samples=samples,
        held_out=held_out,
        vocabulary=storage.join(dataset, VOCABULARY) if config.features.needs_vocabulary else None,
    )


def check_rejects(source: SourceCounts, max_reject_fraction: float) -> None:
    """Raises TooManyRejectsError if more than that fraction of the source's lines was rejected."""
    rejected = sum(source.rejects.values())
    if rejected > max_reject_fraction * source.lines_read:
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in sorted(source.rejects.items(), key=lambda item: -item[1])
        )
        raise TooManyRejectsError(
            f"{rejected} of {source.lines_read} lines of {source.name} ({source.path}) are bad ({reasons}): "
            f"{rejected / source.lines_read:.4%}, more than logs.max_reject_fraction={max_reject_fraction:g} "
            "allows: mend the log or allow more; nothing was replaced"
        )
