"""The Spark session of the jobs, their Python workers, failures in one line, and what long steps show."""
