"""esmm_spark: a Spark-based large-scale batch trainer for ESMM, the Entire Space Multi-task Model."""

__version__ = "0.2.0"
