"""The parent of a scoring job's Python workers, which `spark.python.daemon.module` names.

It imports what all workers need before they are forked from it. An import of torch and its like leaves 180 MB
in a process, which forked workers share; and a worker is ready at once.
"""

import gc

from pyspark.daemon import manager

import esmm_spark.scoring.predictor  # noqa: F401, that is the purpose

if __name__ == "__main__":
    # A worker's garbage collection would write to the pages that it shares, and so copy them.
    gc.freeze()
    manager()  # type: ignore[no-untyped-call]
