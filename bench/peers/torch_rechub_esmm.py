"""Trains torch-rechub's ESMM with its own trainer and data generator. Writes impressions/s of each epoch."""

import json
import time
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.models.multi_task import ESMM
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator

from bench.peers.inputs import Inputs, peer_parser


def main() -> None:
    """Measures what the command line names."""
    parser = peer_parser(__doc__)
    arguments = parser.parse_args()
    inputs = Inputs.load(arguments.inputs)

    def feature(name: str) -> SparseFeature | SequenceFeature:
        options = {"vocab_size": inputs.num_buckets[name], "embed_dim": arguments.dim}
        if inputs.columns[name].ndim == 1:
            return SparseFeature(name, **options)
        return SequenceFeature(name, pooling="sum", padding_idx=0, **options)

    features = [feature(name) for name in inputs.columns]
    tower = {"dims": arguments.hidden_units, "activation": "prelu"}
    # Which of them are the user's makes no difference to its sum of work.
    half = len(features) // 2
    model = ESMM(features[:half], features[half:], cvr_params=tower, ctr_params=tower)
    # The order of its outputs: CVR, which it doesn't train on, CTR, CTCVR.
    labels = np.stack([inputs.conversion, inputs.click, inputs.click * inputs.conversion], axis=1)
    generator = DataGenerator(inputs.columns, labels)
    loader, _, _ = generator.generate_dataloader(
        x_val=inputs.columns,
        y_val=labels,
        x_test=inputs.columns,
        y_test=labels,
        batch_size=arguments.batch_size,
    )
    trainer = MTLTrainer(
        model,
        task_types=["classification"] * 3,
        optimizer_params={"lr": 1e-3, "weight_decay": 0.0},
        n_epoch=1,
        model_path=mkdtemp(),
    )
    rates = []
    for _ in range(arguments.rounds):
        started = time.perf_counter()
        trainer.train_one_epoch(loader)
        rates.append(len(labels) / (time.perf_counter() - started))
    Path(arguments.out).write_text(json.dumps({"rates": rates}))


if __name__ == "__main__":
    main()
