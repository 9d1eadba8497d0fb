"""Raw lines mutated at random, through the whole of preprocess, against preprocessing in plain Python.

Each batch is a split of its own: contexts and impressions of few keys, ids, fields and values, so that
duplicates and unknown contexts are common, each line then mutated or not. Every line must end up in the same
group with the same tokens, or in the rejects with the same reason, as tests/samples/join_oracle.py says.
"""

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from bench.workspace import say
from esmm_spark.samples.dataset import preprocess
from tests.samples.join_oracle import BLANK, group, groups_of
from tests.samples.raw_lines import SPEC, config_for, context, impression, token, write_split

LINES_PER_BATCH = 50_000
_MUTATED = 0.5
_MAX_GROUP_SIZE = 7
_PIECES = (
    b"\x01", b"\x02", b"\x03", b",", b"\r", b"\xff", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\x00", b"-", b".",
    b"e", b"E+9", b"inf", b"nan", b"0x1", b"1_0", b" ", b"\t", b'"', b"1e39", b"3.4028235e38", b"0" * 400,
    b"9" * 25, b"\xe2\x80\xa8",
)  # fmt: skip
_WEIGHTS = ("1", "0.5", "1e-3", "2.5E+1", ".5", "5.", "-0.69315")


def fuzz_lines(spark: SparkSession, folder: Path, lines: int, seed: int) -> dict[str, Any]:
    """Returns counts of lines, and of batches that differ from the oracle, with their seeds.

    Args:
        spark: the session.
        folder: emptied before each batch.
        lines: at least.
        seed: of the lines; batch b's is `<seed>-<b>`.
    """
    read, rejected, kept, differ = 0, Counter[str](), 0, []
    batch = 0
    while read < lines:
        number, found = f"{seed}-{batch}", _batch(spark, folder, f"{seed}-{batch}")
        read, kept, batch = read + found["lines"], kept + found["kept"], batch + 1
        rejected.update(found["rejected"])
        if found["differ"]:
            differ.append(f"{number}: {found['differ']}")
        say(f"fuzz: {read:,} of {lines:,} lines, {len(differ)} batches differ")
    return {"lines": read, "impressions": kept, "rejects": dict(sorted(rejected.items())), "differ": differ}


def _batch(spark: SparkSession, folder: Path, seed: str) -> dict[str, Any]:
    """Returns what came of one batch; `differ` says where it isn't the oracle's."""
    draw = random.Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    contexts, impressions = mutated_lines(draw, LINES_PER_BATCH)
    split = write_split(folder, contexts, impressions)
    config = config_for(folder, {"train": split}, samples={"max_group_size": _MAX_GROUP_SIZE})
    manifest = preprocess(spark, config)
    expected, rejects = group(contexts, impressions, SPEC, _MAX_GROUP_SIZE)
    dataset = Path(config.paths.dataset)
    files = sorted((dataset / "examples" / "split=train").glob("*.parquet"))
    groups = groups_of(pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]))
    lines = pq.read_table(f"{dataset}/rejects", partitioning=None).to_pylist()
    found = Counter((line["line"], line["source"].removeprefix("train."), line["reason"]) for line in lines)
    differ = []
    if groups != expected:
        keys = [key for key in groups.keys() | expected.keys() if groups.get(key) != expected.get(key)]
        differ.append(f"groups {sorted(keys)[:3]}")
    if found != rejects:
        differ.append(f"rejects {[*((found - rejects) + (rejects - found))][:3]}")
    read = sum(source.lines_read for source in manifest.sources)
    given = sum(line not in BLANK for line in [*contexts, *impressions])
    if read != given:
        differ.append(f"{read} lines read of {given}")
    return {
        "lines": len(contexts) + len(impressions),
        "kept": sum(len(one["impression_id"]) for one in expected.values()),
        "rejected": Counter(reason for (_, _, reason), times in rejects.items() for _ in range(times)),
        "differ": "; ".join(differ),
    }


def mutated_lines(draw: random.Random, lines: int) -> tuple[list[bytes], list[bytes]]:
    """Returns contexts and impressions, a tenth and nine tenths of `lines`; every other is mutated."""
    keys = [f"k{number}" for number in range(lines // 15)]
    contexts = [_context(draw, draw.choice(keys)) for _ in range(lines // 10)]
    impressions = [_impression(draw, draw.choice(keys), lines) for _ in range(lines - len(contexts))]
    return _mutated(draw, contexts), _mutated(draw, impressions)


def _context(draw: random.Random, key: str) -> bytes:
    users = [token("101", str(draw.randrange(50)))] * (draw.random() < 0.9)
    items = [token("109", str(draw.randrange(99)), draw.choice(_WEIGHTS)) for _ in range(draw.randrange(5))]
    return context(key, *users, *items)


def _impression(draw: random.Random, key: str, ids: int) -> bytes:
    click = int(draw.random() < 0.3)
    items = [token("205", draw.choice(("7", "34,5", "caf\u00e9")))] * (draw.random() < 0.9)
    places = [token("301", str(draw.randrange(4))) for _ in range(draw.randrange(3))]
    conversion = int(click and draw.random() < 0.3)
    return impression(str(draw.randrange(ids)), key, *items, *places, click=click, conversion=conversion)


def _mutated(draw: random.Random, lines: list[bytes]) -> list[bytes]:
    """Returns the lines, some of them changed in one to three places; a line feed stands in none."""
    found = []
    for line in lines:
        if draw.random() < _MUTATED:
            for _ in range(draw.randrange(1, 4)):
                line = _mutate(draw, line, lines)
        found.append(line.replace(b"\n", b""))
    return found


def _mutate(draw: random.Random, line: bytes, others: list[bytes]) -> bytes:
    at, to = sorted(draw.randrange(len(line) + 1) for _ in range(2))
    how = draw.randrange(7)
    if how == 0:
        return line[:at] + draw.choice(_PIECES) + line[at:]
    if how == 1:
        return line[:at] + line[at + 1 :]
    if how == 2:
        return line[:at] + bytes([draw.randrange(256)]) + line[at + 1 :]
    if how == 3:
        return line[:to] + line[at:]
    if how == 4:
        return line[:at]
    if how == 5:
        return line[:at] + draw.choice(others)[at:]
    columns = line.split(b",")
    draw.shuffle(columns)
    return b",".join(columns)
