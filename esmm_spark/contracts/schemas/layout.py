"""Names of the files and folders that commands write and others read.

    <paths.dataset>/
        _SUCCESS               the dataset is complete
        manifest.json          manifest.Manifest
        examples/split=train/part-*.parquet, split=validation, split=test    columns.example_columns
        rejects/*.parquet      columns.REJECT_COLUMNS
        vocabulary/*.parquet   only if a field has min_count > 1

A dataset of event logs has a partition per day instead, each replaced for itself:

    <paths.dataset>/
        inputs.json    which files each day's labels were found in, for backfills; may be deleted
        examples/ds=2026-11-23/part-*.parquet, partition.json (DayPartition: what the manifest has of the day)
        labels/ds=2026-11-23/*.parquet    columns.label_columns, a record per impression
        rejects/ds=2026-11-23/*.parquet   columns.REJECT_COLUMNS

docs/architecture.md shows the models folder, the scores and the report. What one room alone writes and reads,
such as a checkpoint's `state.json`, has its name there.
"""

from esmm_spark.contracts.schemas import split_names

# In every folder that is complete; see files/replacing.py.
MARKER = "_SUCCESS"
# The Parquet files that tasks write, for globs.
PART_FILES = "part-*.parquet"

# A dataset.
MANIFEST_NAME = "manifest.json"
DAY_PARTITION = "partition.json"
DAY_INPUTS = "inputs.json"
EXAMPLES = "examples"
REJECTS = "rejects"
LABELS = "labels"
VOCABULARY = "vocabulary"

# Partitions of the examples, and of the scores.
SPLIT_PREFIX = "split="
TRAIN_PARTITION = f"{SPLIT_PREFIX}{split_names.TRAIN}"
VALIDATION_PARTITION = f"{SPLIT_PREFIX}{split_names.VALIDATION}"
TEST_PARTITION = f"{SPLIT_PREFIX}{split_names.TEST}"
DAY_PREFIX = "ds="

# A models folder.
VERSIONS = "versions"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"

# A model version.
MODEL_NAME = "model.json"
CONFIG_NAME = "config.yaml"
HISTORY_NAME = "history.json"
DENSE_NAME = "dense.safetensors"
EMBEDDING = "embedding"
# Its validation metrics; in a report, all numbers.
METRICS_NAME = "metrics.json"
REPORT_NAME = "report.html"

# A scored partition. Spark and pyarrow read only what begins with neither `_` nor `.`.
SCORE_NAME = "_score.json"
SCORE_REJECTS = "_rejects"

# A simulation.
SIMULATION_NAME = "simulation.json"
TRUTH = "truth.parquet"
ITEMS = "items"
