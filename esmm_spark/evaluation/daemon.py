"""The parent of an evaluation's Python workers, which `spark.python.daemon.module` names.

It imports what all workers need, and loads the kernels, before they are forked from it: that takes each
process 0.8 s otherwise. They keep the memory that they free: each part needs as much again.
"""

import esmm_spark.evaluation.measure.running  # noqa: F401, that is the purpose
from esmm_spark.evaluation.kernels.loading import load_kernels
from esmm_spark.runtime.memory import keep_freed_memory
from esmm_spark.spark.daemon import serve

if __name__ == "__main__":
    keep_freed_memory()
    load_kernels()
    serve()
