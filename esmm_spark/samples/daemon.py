"""The parent of a preprocessing job's Python workers, which `spark.python.daemon.module` names.

It loads the kernels before workers are forked from it: that takes each process 2 s otherwise.
"""

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.samples.task import compile_kernels
from esmm_spark.spark.daemon import serve

# Kernels depend on a spec's type of rows alone. One that needs 2^31 rows is for its workers to load.
_ANY_SPEC = {
    "tables": {"any": {"num_buckets": 2}},
    "fields": [
        {"name": "context", "level": "context", "table": "any"},
        {"name": "impression", "level": "impression", "table": "any"},
    ],
}

if __name__ == "__main__":
    compile_kernels(FeatureSpec.model_validate(_ANY_SPEC))
    serve()
