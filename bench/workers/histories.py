"""Times a step on batches of long histories, drawn here: attention to them, pooled, or flat in plain PyTorch.

Writes milliseconds a step (look-up, network, loss, backward, both optimizers) and MiB that the steps took
beyond what stood before them. `flat` has din's attention on a copy of the history for each impression: the
four parts of a pair side by side, through the layers, as public versions have it.
"""

import argparse
import json
import resource
import time
from itertools import cycle, islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.objective import resolve
from esmm_spark.contracts.tasks import DEFAULT_TASKS
from esmm_spark.contracts.train_config import Model
from esmm_spark.feed.batch import TokenBatch
from esmm_spark.model.embedding.arena import EmbeddingArena
from esmm_spark.model.embedding.batch import embed_batch
from esmm_spark.model.embedding.embedded import ValueSequence
from esmm_spark.model.embedding.row_optimizer import RowOptimizer
from esmm_spark.model.esmm import build_esmm
from esmm_spark.model.networks.attention import TargetAttention
from esmm_spark.model.networks.hidden import Prelu
from esmm_spark.runtime.memory import keep_freed_memory

_DIM, _GROUPS, _IMPRESSIONS_OF_GROUP, _FIELDS, _BUCKETS = 12, 70, 58, 8, 200_000


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("network", choices=("mlp", "din", "flat"))
    parser.add_argument("values", type=int, help="of each history")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--groups", type=int, default=_GROUPS)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    if arguments.network == "flat":
        TargetAttention.forward = _flat_attention  # type: ignore[assignment, method-assign]
        Prelu.forward = nn.PReLU.forward  # type: ignore[assignment, method-assign]
    spec = _spec(arguments.values, is_pooled=arguments.network == "mlp")
    batches = [_batch(spec, arguments.values, arguments.groups, seed) for seed in range(4)]
    times, before = _times(spec, batches, arguments.network, arguments.steps)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "ms_per_step": 1000 * min(times),
        "mib": (peak - before) / 1024,
        "impressions": arguments.groups * _IMPRESSIONS_OF_GROUP,
    }
    arguments.out.write_text(json.dumps(found))


def _times(spec: FeatureSpec, batches: list[TokenBatch], network: str, steps: int) -> tuple[list[float], int]:
    """Returns seconds of each step but the first two, and KiB of memory before them all."""
    settings = Model(network="mlp" if network == "mlp" else "din", dim=_DIM)
    torch.manual_seed(1)
    esmm = build_esmm(settings, spec, resolve(settings, [], DEFAULT_TASKS))
    arena = EmbeddingArena(spec.num_rows, _DIM, optimizer=RowOptimizer(0.02), init_range=0.01, seed=1)
    adam = torch.optim.Adam(esmm.parameters(), fused=True)
    before, times = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, []
    for batch in islice(cycle(batches), steps + 2):
        started = time.perf_counter()
        count = int(batch.group_sizes.sum())
        labels = (torch.arange(count) % torch.tensor([[5], [25]]) == 0).float()
        adam.zero_grad()
        esmm.training_loss(embed_batch(arena, batch, spec), labels, 1 / count).backward()
        adam.step()
        times.append(time.perf_counter() - started)
    return times[2:], before


def _spec(values: int, is_pooled: bool) -> FeatureSpec:
    """Returns a history and an item of one table, and single-valued fields of others."""
    unpooled = {} if is_pooled else {"pooling": "none", "max_length": values}
    names = [f"{level}_{number}" for level in ("context", "impression") for number in range(_FIELDS)]
    single = [{"name": name, "level": name.partition("_")[0]} for name in names]
    history = {"name": "history", "level": "context", "table": "item", "multi": True, **unpooled}
    fields = [history, {"name": "item", "level": "impression"}, *single]
    tables = {name: {"num_buckets": _BUCKETS} for name in ("item", *names)}
    return FeatureSpec.model_validate({"tables": tables, "fields": fields})


def _batch(spec: FeatureSpec, values: int, groups: int, seed: int) -> TokenBatch:
    generator = torch.Generator().manual_seed(seed)
    impressions = groups * _IMPRESSIONS_OF_GROUP

    def rows(tables: list[str], owners: int) -> Tensor:
        """Returns [owners * tables] rows, the smaller buckets of a table more often."""
        firsts = torch.tensor([spec.offsets[table] for table in tables]).repeat(owners)
        drawn = torch.rand(len(firsts), generator=generator) ** 3 * _BUCKETS
        return (firsts + drawn.long()).int()

    names = [field.table_name for field in spec.impression_fields]
    context = ["item"] * values + [field.table_name for field in spec.context_fields[1:]]
    return TokenBatch(
        rows(context, groups),
        torch.ones(groups * len(context)),
        torch.tensor([values] + [1] * _FIELDS, dtype=torch.int32).repeat(groups),
        rows(names, impressions),
        torch.ones(impressions * len(names)),
        torch.ones(impressions * len(names), dtype=torch.int32),
        torch.full((groups,), _IMPRESSIONS_OF_GROUP),
    )


def _flat_attention(
    unit: TargetAttention, sequence: ValueSequence, query: Tensor, group_index: Tensor
) -> Tensor:
    keys, mask = sequence.values[group_index], sequence.mask[group_index]
    queries = query[:, None].expand_as(keys)
    pairs = torch.cat([keys, queries, keys - queries, keys * queries], dim=2)
    hidden = F.linear(pairs.flatten(0, 1), unit.first.weight, unit.first.bias)
    scores: Tensor = unit.rest(hidden).view(mask.shape) * mask
    return (scores[:, :, None] * keys).sum(1)


if __name__ == "__main__":
    main()
