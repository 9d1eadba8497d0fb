"""The parent of an evaluation's Python workers, which `spark.python.daemon.module` names.

It imports what all workers need, numba above all, before they are forked from it.
"""

import esmm_spark.evaluation.measure.running  # noqa: F401, that is the purpose
from esmm_spark.spark.daemon import serve

if __name__ == "__main__":
    serve()
