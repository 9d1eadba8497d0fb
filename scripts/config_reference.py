"""Writes docs/config.md, the reference of all config keys, from the models in esmm_spark/contracts/.

python scripts/config_reference.py           writes it
python scripts/config_reference.py --check   exits with 1 if the file is not what would be written
"""

import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, RootModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.section import Needs
from esmm_spark.contracts.tables.column_source import ColumnSource

# Stands in many places, and in itself: described once, at the end.
SHARED = (ColumnSource,)
TARGET = Path(__file__).resolve().parent.parent / "docs" / "config.md"

HEADER = """# Config reference

One YAML file holds one section per stage; an unknown key is an error. Any key can be set on the command
line by its dotted path, an item of a list by its number from 0 on: `train.batch_size=8192`,
`features.fields.0.min_count=2`. A value is read as YAML; where a key wants text, the text is taken as it is
(`paths.dataset=1e5`). Types are strict: `true` is no number, `1` is no `true`. `extends: other.yaml` begins
with the content of another file, named relative to this one, and merges sections key by key; `conf/` has
examples. A key that *needs* another one would be ignored without it, and is refused there.

**Paths** are plain paths, `file:///` (percent-encoded or not), `hdfs://`, `s3a://` (or `s3://`, the same
place) or `gs://`. URIs must not carry credentials or a query, which would be stored with datasets and
models: give those in the environment (`AWS_*`) or in Spark's settings. Raw files may be globs (`*`, `?`,
`[a-c]`, `{a,b}`; a backslash takes a character's meaning away); what a command writes may hold no such
character. All `paths`, raw files, tables (`logs.table`, its `splits.paths`, `score.table`), event logs,
catalogs, `samples.frozen_from`, truth and baseline scores are places of their own: no output may be, hold or
lie in another output or an input, links and `..` resolved; inputs may share places. `samples.frozen_from` of
event logs is an output, which `--fit` writes. Only `evaluate.baseline_scores` may be `paths.scores`, so that
the config scores its own baseline.

<!-- Written by `make docs` from esmm_spark/contracts/config.py; `make lint` fails when it is out of date. -->
"""


def type_text(annotation: Any) -> str:
    """Returns a type as people write it: `int`, `"a" | "b"`, `list of FieldSpec`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return "null"
    if origin is None:
        return getattr(annotation, "__name__", str(annotation))
    name = getattr(origin, "__name__", str(origin))
    if name == "Literal":
        return ", ".join(f"`{value}`" for value in arguments)
    if name == "Annotated":
        return type_text(arguments[0])
    if name == "list":
        return f"list of {type_text(arguments[0])}"
    if name == "dict":
        return f"{type_text(arguments[0])} -> {type_text(arguments[1])}"
    return " or ".join(type_text(argument) for argument in arguments)


def limits_text(field: FieldInfo) -> str:
    """Returns the limits of a field, e.g. `>= 1, <= 64`, and what it needs, or nothing."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {getattr(item, name)}"
        for item in field.metadata
        for name, sign in signs.items()
        if getattr(item, name, None) is not None
    ]
    found += [f"needs `{item}`" for item in field.metadata if isinstance(item, Needs)]
    return ", ".join(found)


def default_text(field: FieldInfo) -> str:
    """Returns the default as YAML would have it, or `required`."""
    if field.is_required():
        return "**required**"
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined or default is None:
        return ""
    if isinstance(default, BaseModel):
        return "its keys' defaults"
    if isinstance(default, dict | list):
        default = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=10**9).strip()
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Returns the pydantic models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def section(title: str, model: type[BaseModel]) -> list[str]:
    """Returns the lines that describe one model, then those of the models inside it."""
    lines = [f"## {title}", "", (model.__doc__ or "").strip().splitlines()[0], ""]
    lines += ["| key | type | limits | default | |", "|---|---|---|---|---|"]
    inner: list[str] = []
    for name, field in model.model_fields.items():
        nested = models_in(field.annotation)
        is_shared = any(inner_model in SHARED for inner_model in nested)
        description = " ".join((field.description or "").split())
        if nested and not is_shared and not description:
            description = f"see `{title}.{name}` below"
        cells = [
            f"`{name}`",
            type_text(field.annotation),
            limits_text(field),
            default_text(field),
            description,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        is_list = get_origin(field.annotation) in (list, dict)
        for nested_model in dict.fromkeys(model for model in nested if model not in SHARED):
            inner += section(f"{title}.{name}{'[...]' if is_list else ''}", nested_model)
    return [*lines, "", *inner]


def reference() -> str:
    """Returns the whole document."""
    lines = [HEADER]
    for name, field in Config.model_fields.items():
        model = models_in(field.annotation)[0]
        if issubclass(model, RootModel):
            # A section of keys that people choose: each holds one of these.
            name, model = f"{name}.NAME", models_in(model.model_fields["root"].annotation)[0]
        elif get_origin(field.annotation) is list:
            name = f"{name}[...]"
        lines += section(name, model)
    for model in SHARED:
        lines += section(model.__name__, model)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Writes or checks the document."""
    text = reference()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        print(f"{TARGET} is out of date with esmm_spark/contracts/config.py: run make docs", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
