"""Preprocessing in plain Python, as slow and as obvious as can be: what the kernel is held against."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from esmm_spark.contracts.features import FeatureSpec

_NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")

# (group key, part) -> what the group holds, in lists
Groups = dict[tuple[str, int], dict[str, Any]]
# (line, source, reason) -> number of lines
Rejects = Counter[tuple[bytes, str, str]]

BLANK = (b"", b"\r")


class Rejected(Exception):  # noqa: N818
    """Carries the reason of a line."""


class Impression(NamedTuple):
    key: bytes
    line: bytes
    id: bytes
    click: int | None
    conversion: int | None
    bags: list[list[tuple[int, float]]]


def signed_hash(text: bytes) -> int:
    return int(np.uint64(xxhash.xxh64_intdigest(text, seed=42)).astype(np.int64))


def parse_bags(text: bytes, count: bytes, spec: FeatureSpec, level: str) -> list[list[tuple[int, float]]]:
    """Returns the (row, weight) of each field of a level."""
    tokens = []
    for part in text.split(b"\x01") if text else []:
        pieces = re.split(rb"[\x02\x03]", part)
        if re.sub(rb"[^\x02\x03]", b"", part) != b"\x02\x03" or not all(pieces):
            raise Rejected("bad_token")
        field, value, weight = pieces
        if not _NUMBER.fullmatch(weight):
            raise Rejected("bad_token")
        with np.errstate(over="ignore"):
            number = np.float32(float(weight))
        if not np.isfinite(number):
            raise Rejected("bad_token")
        tokens.append((field.decode(), value, float(number)))
    if not re.fullmatch(rb"[0-9]+", count) or int(count) != len(tokens):
        raise Rejected("token_count_mismatch")
    bags = []
    for field in spec.fields:
        if field.level != level:
            continue
        mine = [(value, weight) for name, value, weight in tokens if name == field.name]
        if len(mine) > 1 and not field.multi:
            raise Rejected("several_values")
        table = spec.tables[field.table_name]
        offset = spec.offsets[field.table_name]
        bags.append(
            [
                (
                    offset
                    + 1
                    + signed_hash(field.table_name.encode() + b"=" + value) % (table.num_buckets - 1),
                    weight if field.weighted else 1.0,
                )
                for value, weight in mine
            ]
        )
    return bags


def columns_of(line: bytes, number: int) -> list[bytes]:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        raise Rejected("invalid_utf8") from None
    columns = line.removesuffix(b"\r").split(b",", number - 1)
    if len(columns) < number:
        raise Rejected("too_few_columns")
    return columns


def parse_context(line: bytes, spec: FeatureSpec) -> tuple[bytes, list[list[tuple[int, float]]]]:
    key, count, text = columns_of(line, 3)
    if not key:
        raise Rejected("missing_id")
    return key, parse_bags(text, count, spec, "context")


def parse_impression(line: bytes, spec: FeatureSpec, labels_required: bool) -> Impression:
    impression_id, click, conversion, key, count, text = columns_of(line, 6)
    if not impression_id or not key:
        raise Rejected("missing_id")
    missing = (b"", b"") if not click else (click, b"")
    if (click, conversion) == missing and not labels_required:
        known = [label for label in (click, conversion) if label]
    else:
        known = [click, conversion]
    if set(known) - {b"0", b"1"}:
        raise Rejected("bad_label")
    if known == [b"0", b"1"]:
        raise Rejected("conversion_without_click")
    clicked, converted = [*map(int, known), None, None][:2]
    bags = parse_bags(text, count, spec, "impression")
    return Impression(key, line, impression_id, clicked, converted, bags)


def group(
    contexts: Sequence[bytes],
    impressions: Sequence[bytes],
    spec: FeatureSpec,
    max_group_size: int,
    labels_required: bool = True,
) -> tuple[Groups, Rejects]:
    """Returns the groups of two files and their rejects; blank lines are neither."""
    rejects: Rejects = Counter()
    bags_of_key = judge_contexts(contexts, spec, rejects)
    accepted = judge_impressions(impressions, set(bags_of_key), spec, labels_required, rejects)
    kept: dict[bytes, Impression] = {}
    for parsed in sorted(accepted, key=lambda parsed: (parsed.key, parsed.line)):
        if parsed.id in kept:
            rejects[parsed.line, "skeleton", "duplicate_impression"] += 1
        else:
            kept[parsed.id] = parsed
    members: dict[bytes, list[Impression]] = {}
    for parsed in kept.values():
        members.setdefault(parsed.key, []).append(parsed)
    groups: Groups = {}
    for key, of_key in members.items():
        of_key.sort(key=lambda parsed: parsed.line)
        for part in range(-(-len(of_key) // max_group_size)):
            of_part = of_key[part * max_group_size : (part + 1) * max_group_size]
            groups[key.decode(), part] = describe(key, part, bags_of_key[key], of_part)
    return groups, rejects


def judge_contexts(
    contexts: Sequence[bytes], spec: FeatureSpec, rejects: Rejects
) -> dict[bytes, list[list[tuple[int, float]]]]:
    """Returns key -> bags of the contexts that are accepted."""
    bags_of_key: dict[bytes, list[list[tuple[int, float]]]] = {}
    for line in sorted(line for line in contexts if line not in BLANK):
        try:
            key, bags = parse_context(line, spec)
            if key in bags_of_key:
                raise Rejected("duplicate_context")
            bags_of_key[key] = bags
        except Rejected as reason:
            rejects[line, "common_features", str(reason)] += 1
    return bags_of_key


def judge_impressions(
    impressions: Sequence[bytes],
    keys: set[bytes],
    spec: FeatureSpec,
    labels_required: bool,
    rejects: Rejects,
) -> list[Impression]:
    """Returns the impressions that would be accepted, did no other have their id."""
    accepted: list[Impression] = []
    for line in impressions:
        if line in BLANK:
            continue
        try:
            parsed = parse_impression(line, spec, labels_required)
            if parsed.key not in keys:
                raise Rejected("unknown_context")
            accepted.append(parsed)
        except Rejected as reason:
            rejects[line, "skeleton", str(reason)] += 1
    return accepted


def describe(
    key: bytes, part: int, context: list[list[tuple[int, float]]], impressions: list[Impression]
) -> dict[str, Any]:
    """Returns a row of the examples."""
    bags = [bag for parsed in impressions for bag in parsed.bags]
    return {
        "group_key": key.decode(),
        "group_hash": signed_hash(key + f"#{part}".encode()),
        "impression_id": [parsed.id.decode() for parsed in impressions],
        "click": [parsed.click for parsed in impressions],
        "conversion": [parsed.conversion for parsed in impressions],
        "context_rows": [row for bag in context for row, _ in bag],
        "context_weights": [weight for bag in context for _, weight in bag],
        "context_lengths": [len(bag) for bag in context],
        "impression_rows": [row for bag in bags for row, _ in bag],
        "impression_weights": [weight for bag in bags for _, weight in bag],
        "impression_lengths": [len(bag) for bag in bags],
    }


def groups_of(examples: pa.Table) -> Groups:
    """Returns the rows of examples by (key, part); the parts of a key by their hashes."""
    groups: Groups = {}
    for row in examples.to_pylist():
        part = next(
            part
            for part in range(1000)
            if signed_hash(f"{row['group_key']}#{part}".encode()) == row["group_hash"]
        )
        assert (row["group_key"], part) not in groups, row
        groups[row["group_key"], part] = row
    return groups
