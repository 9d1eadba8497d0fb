"""Runs esmm_spark/train.py and writes when its first training step was done, in seconds since the epoch.

python -m bench.workers.first_step OUT --config conf/X.yaml
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from esmm_spark import train


class FirstStepDoneError(Exception):
    """The first step is done: nothing more is of interest."""


def main() -> None:
    """Trains one step."""
    out, arguments = Path(sys.argv[1]), sys.argv[2:]
    import torch

    adam_step = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *positional: Any, **named: Any) -> Any:
        adam_step(self, *positional, **named)
        raise FirstStepDoneError

    torch.optim.Adam.step = step  # type: ignore[method-assign]
    try:
        train.main(arguments)
    except FirstStepDoneError:
        out.write_text(json.dumps({"done_s": time.time()}))


if __name__ == "__main__":
    main()
