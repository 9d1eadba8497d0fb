"""The parent of a scoring job's Python workers, which `spark.python.daemon.module` names.

It imports what all workers need before they are forked from it. An import of torch and its like leaves 180 MB
in a process, which forked workers share; and a worker is ready at once.
"""

import esmm_spark.scoring.task  # noqa: F401, that is the purpose
from esmm_spark.spark.daemon import serve

if __name__ == "__main__":
    serve()
