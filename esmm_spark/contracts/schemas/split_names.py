"""The splits of a log that isn't dated: each is a partition of the dataset."""

from typing import Final, Literal

SplitName = Literal["train", "validation", "test"]
TRAIN: Final[SplitName] = "train"
VALIDATION: Final[SplitName] = "validation"
TEST: Final[SplitName] = "test"
