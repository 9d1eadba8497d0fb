"""Contexts and labelled impressions of a day as canonical lines."""

from pyspark.sql import functions as F

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.fitted import FittedNumbers
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.events.features.features import Featured
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.reading.attributes import impression_head
from esmm_spark.reading.numbers import with_numbers, with_places
from esmm_spark.reading.tokens import all_tokens


def canonical_lines(
    featured: Featured, spec: FeatureSpec, brought: ImpressionColumns, fitted: FittedNumbers
) -> CanonicalLines:
    """Returns the lines of a day.

    Args:
        featured: with a label, 0 or 1, of each task in the impressions.
        spec: which attributes become tokens.
        brought: the tasks, and which attributes are carried.
        fitted: what places the numbers.

    Raises:
        InputError: a carried attribute is a list or a map; one of a field that isn't pooled is a map; a
            number has several values.
    """
    contexts, impressions = (
        with_places(with_numbers(frame, fields), fields, fitted)
        for frame, fields in (
            (featured.contexts, spec.context_fields),
            (featured.impressions, spec.impression_fields),
        )
    )
    context_tokens = all_tokens(contexts, spec.context_fields, fitted)
    impression_tokens = all_tokens(impressions, spec.impression_fields, fitted)
    key, head = F.col("context_key"), impression_head(impressions, brought)
    return CanonicalLines(
        contexts=contexts.select(key.alias("key"), F.concat_ws(",", key, *context_tokens).alias("line")),
        impressions=impressions.select(
            key.alias("key"), F.concat_ws(",", head, *impression_tokens).alias("line")
        ),
    )
