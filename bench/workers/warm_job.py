"""Runs a Spark job several times in one process: warm, all but the first time.

    python -m bench.workers.warm_job OUT jobs/preprocess.py --rounds 3 -- --config conf/X.yaml

Writes of every round the wall seconds and the CPU seconds of the whole process tree.
"""

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil
from pyspark.sql import SparkSession


def tree_cpu_s() -> float:
    """Returns the CPU seconds of this process, its living descendants and those that they have reaped."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def module_at(path: Path) -> ModuleType:
    """Returns the module of a command's file."""
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None, path
    assert module_spec.loader is not None, path
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def keep_session() -> None:
    """Keeps Spark's session open after a job, which ends it; the next should find it as a long-lived one."""
    SparkSession.stop = lambda self: None  # type: ignore[method-assign]


def main() -> None:
    """Measures what the command line names."""
    separator = sys.argv.index("--")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("job", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args(sys.argv[1:separator])
    job_arguments = sys.argv[separator + 1 :]
    job = module_at(arguments.job)
    keep_session()
    runs = []
    for _ in range(arguments.rounds):
        cpu_s, wall_s = tree_cpu_s(), time.perf_counter()
        job.main(job_arguments)
        runs.append({"cpu_s": tree_cpu_s() - cpu_s, "wall_s": time.perf_counter() - wall_s})
    arguments.out.write_text(json.dumps({"runs": runs}))


if __name__ == "__main__":
    main()
