"""Trains DeepCTR-Torch's ESMM with its own `fit`. Writes impressions/s of each epoch."""

import json
import sys
import time
from types import ModuleType

import numpy as np

from bench.peers.inputs import Inputs, peer_parser

# Its import asks the package registry for a newer version: it finds no `requests` that could.
sys.modules["requests"] = ModuleType("requests")

from deepctr_torch.inputs import SparseFeat, VarLenSparseFeat  # noqa: E402
from deepctr_torch.models import ESMM  # noqa: E402


def main() -> None:
    """Measures what the command line names."""
    arguments = peer_parser(__doc__).parse_args()
    inputs = Inputs.load(arguments.inputs)
    columns = []
    for name, values in inputs.columns.items():
        sparse = SparseFeat(name, inputs.num_buckets[name], embedding_dim=arguments.dim)
        columns.append(
            sparse if values.ndim == 1 else VarLenSparseFeat(sparse, maxlen=values.shape[1], combiner="sum")
        )
    # Its regularisation of the whole embedding in every step is off: nobody else here has it.
    model = ESMM(
        columns,
        tower_dnn_hidden_units=arguments.hidden_units,
        l2_reg_embedding=0,
        l2_reg_linear=0,
        dnn_activation="prelu",
    )
    model.compile("adam", loss=["binary_crossentropy", "binary_crossentropy"])
    labels = np.stack([inputs.click, inputs.click * inputs.conversion], axis=1)
    rates = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        model.fit(dict(inputs.columns), labels, batch_size=arguments.batch_size, epochs=1, verbose=0)
        rates.append(len(labels) / (time.perf_counter() - started))
    arguments.out.write_text(json.dumps({"rates": rates}))


if __name__ == "__main__":
    main()
