"""Contexts and labelled impressions of a day as canonical lines."""

from pyspark.sql import functions as F

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.impressions import ImpressionColumns
from esmm_spark.events.features.features import Featured
from esmm_spark.logs.raw_files import CanonicalLines
from esmm_spark.reading.attributes import all_tokens, impression_line


def canonical_lines(featured: Featured, spec: FeatureSpec, brought: ImpressionColumns) -> CanonicalLines:
    """Returns the lines of a day.

    Args:
        featured: with a label, 0 or 1, of each task in the impressions.
        spec: which attributes become tokens.
        brought: the tasks, and which attributes are carried.

    Raises:
        InputError: a carried attribute is a list or a map; one of a field that isn't pooled is a map.
    """
    context_tokens = all_tokens(featured.contexts, spec.context_fields)
    key = F.col("context_key")
    return CanonicalLines(
        contexts=featured.contexts.select(
            key.alias("key"), F.concat_ws(",", key, *context_tokens).alias("line")
        ),
        impressions=featured.impressions.select(
            key.alias("key"), impression_line(featured.impressions, spec, brought).alias("line")
        ),
    )
