"""A parser of raw lines that shares no code with the writer, and what the simulated folder is made of."""

from dataclasses import dataclass
from pathlib import Path

from esmm_spark.simulation.simulate import Summary

NUM_GROUPS = 1_201
SEED = 7

Token = tuple[str, str, str]


@dataclass(frozen=True)
class RawLog:
    """One split, parsed.

    Attributes:
        contexts: [index, tokens] in the order of the lines.
        impressions: [sample id, click, conversion, index, tokens] in the order of the lines.
    """

    contexts: list[tuple[str, list[Token]]]
    impressions: list[tuple[str, int, int, str, list[Token]]]


def parse_tokens(num_tokens: str, text: str) -> list[Token]:
    tokens = []
    for token in text.split("\x01"):
        field, rest = token.split("\x02")
        value, weight = rest.split("\x03")
        tokens.append((field, value, weight))
    assert len(tokens) == int(num_tokens)
    return tokens


def read_lines(folder: Path) -> list[str]:
    lines: list[str] = []
    for file in sorted(folder.iterdir()):
        content = file.read_bytes().decode("ascii")
        assert content.endswith("\n")
        lines += content[:-1].split("\n")
    return lines


def read_split(folder: Path, split: str) -> RawLog:
    contexts = []
    for line in read_lines(folder / f"common_features_{split}"):
        index, num_tokens, text = line.split(",")
        contexts.append((index, parse_tokens(num_tokens, text)))
    impressions = []
    for line in read_lines(folder / f"sample_skeleton_{split}"):
        sample_id, click, conversion, index, num_tokens, text = line.split(",")
        tokens = parse_tokens(num_tokens, text)
        impressions.append((sample_id, int(click), int(conversion), index, tokens))
    return RawLog(contexts, impressions)


def read_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@dataclass(frozen=True)
class Simulated:
    """A simulation and what it says of itself."""

    folder: Path
    summary: Summary
