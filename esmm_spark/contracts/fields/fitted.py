"""What is fitted for numeric fields on a training split, and then stays as it is: boundaries, mean, scale.

It stands in the manifest of the dataset that it was fitted for, in that of each that was made with it, and in
the models that were trained on them.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from esmm_spark.contracts.errors import SpecMismatchError


class FittedNumber(BaseModel):
    """What is fitted for one numeric field."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    boundaries: Annotated[
        list[float], Field(description="Of `quantile`: where all buckets but the first begin, ascending.")
    ] = []
    points: Annotated[
        list[float], Field(description="Of `transform: quantile`: values of the split, ascending ...")
    ] = []
    shares: Annotated[
        list[float],
        Field(description="... and the share of values below each; linear between them."),
    ] = []
    mean: Annotated[float, Field(description="Of the transformed values: what is subtracted ...")] = 0.0
    scale: Annotated[float, Field(description="... and what the rest is divided by.")] = 1.0


# Field -> what was fitted for it.
FittedNumbers = Mapping[str, FittedNumber]


def digest_of_fitted(fitted: FittedNumbers) -> str:
    """Returns 16 hex digits that two share only if they are alike."""
    content = {name: number.model_dump(mode="json") for name, number in fitted.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def require_same_fitted(ours: FittedNumbers, our_name: str, theirs: FittedNumbers, their_name: str) -> None:
    """Raises SpecMismatchError, naming both, unless the two place all numbers alike."""
    differing = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if differing:
        raise SpecMismatchError(
            f"{our_name} has fitted boundaries {digest_of_fitted(ours)}, {their_name} has "
            f"{digest_of_fitted(theirs)} (they differ in {', '.join(differing[:5])}): preprocess with "
            "samples.frozen_from, or train again"
        )
