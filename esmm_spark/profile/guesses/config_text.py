"""A config as YAML for people: each guess with its reason beside it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

_MOST_COLUMNS = 118
# Where each item of a list or map has a line of its own.
_BLOCKS = (
    *((name,) for name in ("paths", "logs", "tasks", "features", "samples", "train", "evaluate")),
    ("logs", "table"),
    *(("logs", "table", name) for name in ("features", "labels")),
    ("features", "tables"),
    ("features", "fields"),
)

Path = tuple[str, ...]


def config_text(content: Mapping[str, Any], comments: Mapping[Path, str], head: Sequence[str]) -> str:
    """Returns the YAML.

    Args:
        content: sections.
        comments: path of a key, or of a field by its name, -> what stands beside it.
        head: lines of comment at the top.
    """
    lines = [f"# {line}".rstrip() for line in head]
    for name in content:
        lines += ["", *_lines({name: content[name]}, comments, (), 0)]
    return "\n".join(lines) + "\n"


def _lines(content: Mapping[str, Any], comments: Mapping[Path, str], path: Path, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in content.items():
        here = (*path, key)
        name, comment = _scalar(key), comments.get(here)
        if here not in _BLOCKS or not value:
            yield from _with_comment(f"{indent}{name}: {_scalar(value)}", comment, indent)
            continue
        yield from _with_comment(f"{indent}{name}:", comment, indent)
        if isinstance(value, Mapping):
            yield from _lines(value, comments, here, depth + 1)
        else:
            for item in value:
                yield from _with_comment(
                    f"{indent}  - {_scalar(item)}", comments.get((*here, item["name"])), f"{indent}  "
                )


def _with_comment(line: str, comment: str | None, indent: str) -> Iterator[str]:
    """Yields a line and its comment, beside it where there is room, else above."""
    if comment is None:
        yield line
    elif len(line) + len(comment) + 4 <= _MOST_COLUMNS:
        yield f"{line}  # {comment}"
    else:
        yield f"{indent}# {comment}"
        yield line


def _scalar(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").rstrip()
