"""Runs a command for several lists of arguments, one after the other in one process: it starts once.

python -m bench.workers.runs_in_turn OUT esmm_spark/train.py ARGUMENTS.json

Writes the wall seconds of each run. A run that fails ends them all.
"""

import argparse
import json
import time
from pathlib import Path

from bench.workers.warm_job import keep_session, module_at


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("script", type=Path, help="with a function `main(arguments)`")
    parser.add_argument("arguments", type=Path, help="a JSON list of lists of arguments")
    arguments = parser.parse_args()
    command = module_at(arguments.script)
    keep_session()
    seconds = []
    for run in json.loads(arguments.arguments.read_text()):
        started = time.perf_counter()
        command.main(run)
        seconds.append(time.perf_counter() - started)
    arguments.out.write_text(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
