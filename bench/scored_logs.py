"""Scored partitions for the evaluate stage, drawn directly: a model's scores, a baseline's, and the truth.

    scores/split=test/part-*.parquet    as jobs/score.py writes them
    base/split=test/part-*.parquet      the same impressions, scored worse
    truth.parquet/part-*.parquet        these impressions and as many of another split

In Ali-CCP's shape: 58 impressions share a context, 4% are clicked, 0.6% of the clicks convert.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from esmm_spark.contracts.impressions import DEFAULT_COLUMNS
from esmm_spark.contracts.schemas.layout import MARKER
from esmm_spark.scoring.score_file import ScoreFile, score_schema

PARTITION = "split=test"
_ROWS_PER_FILE = 1_000_000
_ROWS_PER_BATCH = 125_000
_MEAN_GROUP = 58
_CLICK_LOGIT, _CONVERSION_LOGIT, _SPREAD = -3.7, -5.5, 1.0
_NOISE = {"scores": 0.5, "base": 0.9}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Drawn:
    """What a file's impressions have in common, whoever scores them; arrays [N]."""

    impression_id: pa.Array
    group: npt.NDArray[np.int64]
    click_logit: Floats
    conversion_logit: Floats
    click: npt.NDArray[np.int8]
    conversion_if_clicked: npt.NDArray[np.int8]


def write_scored(folder: Path, num_impressions: int, seed: int) -> None:
    """Writes all of it below `folder`; the same arguments give the same rows."""
    for name in (*_NOISE, "truth.parquet"):
        (folder / name / (PARTITION if name in _NOISE else "")).mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, num_impressions, _ROWS_PER_FILE)):
        count = min(_ROWS_PER_FILE, num_impressions - start)
        random = np.random.default_rng([seed, number])
        drawn = _draw(random, start, count)
        for name, noise in _NOISE.items():
            _write_scores(folder / name / PARTITION / f"part-{number:05d}.parquet", drawn, random, noise)
        _write_truth(folder / "truth.parquet" / f"part-test-{number:05d}.parquet", drawn)
        # Ids of the other split: the truth is one folder for both.
        other = _draw(random, start, count, "train")
        _write_truth(folder / "truth.parquet" / f"part-train-{number:05d}.parquet", other)
    for name in _NOISE:
        (folder / name / PARTITION / MARKER).touch()


def _draw(random: np.random.Generator, start: int, count: int, split: str = "test") -> _Drawn:
    group = (start + np.arange(count)) // _MEAN_GROUP
    numbers = pa.array(start + np.arange(count)).cast(pa.string())
    context = random.standard_normal(group[-1] - group[0] + 1)[group - group[0]]
    shared = 0.5 * context + 0.5 * random.standard_normal(count)
    click_logit = _CLICK_LOGIT + _SPREAD * shared
    conversion_logit = _CONVERSION_LOGIT + _SPREAD * (0.8 * shared + 0.6 * random.standard_normal(count))
    uniform = random.random((2, count))
    return _Drawn(
        pc.binary_join_element_wise(f"{split}-", numbers, ""),
        group,
        click_logit,
        conversion_logit,
        (uniform[0] < _sigmoid(click_logit)).astype(np.int8),
        (uniform[1] < _sigmoid(conversion_logit)).astype(np.int8),
    )


def _write_scores(path: Path, drawn: _Drawn, random: np.random.Generator, noise: float) -> None:
    count = len(drawn.group)
    pctr = _sigmoid(drawn.click_logit + noise * random.standard_normal(count)).astype(np.float32)
    pcvr = _sigmoid(drawn.conversion_logit + noise * random.standard_normal(count)).astype(np.float32)
    first = drawn.group[0]
    keys = pc.binary_join_element_wise(
        "context-", pa.array(np.arange(first, drawn.group[-1] + 1)).cast(pa.string()), ""
    )
    columns = [
        drawn.impression_id,
        pa.DictionaryArray.from_arrays(pa.array((drawn.group - first).astype(np.int32)), keys),
        pa.array(pctr),
        pa.array(pcvr),
        pa.array(pctr * pcvr),
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array(["000001-bench"])),
        pa.array(drawn.click),
        pa.array(drawn.click * drawn.conversion_if_clicked),
    ]
    file = ScoreFile(str(path), DEFAULT_COLUMNS)
    table = pa.Table.from_arrays(columns, schema=score_schema(DEFAULT_COLUMNS))
    for batch in table.to_batches(max_chunksize=_ROWS_PER_BATCH):
        file.write(batch)
    file.close()


def _write_truth(path: Path, drawn: _Drawn) -> None:
    columns = {
        "impression_id": drawn.impression_id,
        "pctr": _sigmoid(drawn.click_logit),
        "pcvr": _sigmoid(drawn.conversion_logit),
        "conversion_if_clicked": drawn.conversion_if_clicked,
    }
    pq.write_table(pa.table(columns), path, compression="zstd", row_group_size=_ROWS_PER_BATCH)


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-logits))
