"""Reads a config: a YAML file, what it extends, and `key=value` overrides.

`extends: other.yaml` begins with the content of another file, named relative to this one; sections are merged
key by key. `key=value` arguments override single keys by their dotted path: `train.batch_size=8192`,
`features.fields.0.min_count=2`. A value is read as YAML, but the value of a key that wants text is that text.

Overrides are applied by hand, not by OmegaConf (2.4.0), which knows no types before it merges:
`train.run_id=1e5` gives it 100000.0 and `a # b` gives `a`; an override without `=` is None, and any index
of a list `Cannot merge incompatible container types`, without the key. Its import takes 0.3 s.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, RootModel, ValidationError
from yaml.constructor import ConstructorError

from esmm_spark.contracts.config import Config
from esmm_spark.contracts.disjoint_paths import require_disjoint
from esmm_spark.contracts.errors import ConfigError

_EXTENDS = "extends"
_NULLS = ("", "~", "null", "Null", "NULL")
_MAX_SHOWN = 200


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Returns the validated config of the YAML file at `path` with `key=value` overrides applied.

    Raises:
        ConfigError: no such file, no UTF-8 or YAML, files that extend each other in a circle, an unknown key,
            a value out of range or of another type, an override without `=`, or paths that lie in each other.
    """
    content = _read(Path(path), ())
    for override in overrides:
        content = _overridden(content, override)
    try:
        config = Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_describe(error)}") from error
    require_disjoint(config)
    return config


def _read(path: Path, trail: tuple[Path, ...]) -> dict[str, Any]:
    """Returns the sections of a file over those of the one that it extends; `trail`: the files before it."""
    try:
        content = _yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"no config at {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}: "
            "save it as UTF-8"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds {type(content).__name__}, it must hold sections: {', '.join(Config.model_fields)}"
        )
    if _EXTENDS not in content:
        return content
    base = path.parent / str(content.pop(_EXTENDS))
    if base.resolve() in (path.resolve(), *trail):
        raise ConfigError(f"{path} extends {base}, which extends it in turn")
    return _merged(_read(base, (*trail, path.resolve())), content)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's loader, which takes the last of several values of one key, without a word; this one doesn't.

    libyaml reads ten times as fast, where PyYAML was built with it.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns a mapping. Raises YAMLError if one of its keys stands there twice."""
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and keys.count((key.tag, key.value)) > 1:
                problem = f"key {key.value} stands twice in one section"
                raise ConstructorError(None, None, problem, key.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


def _yaml(text: str) -> Any:
    """Returns what a YAML text holds."""
    return yaml.load(text, Loader=_Loader)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with the keys of `over`, dicts merged key by key.

    Example: {a: {x: 1, y: 2}} and {a: {y: 3}} give {a: {x: 1, y: 3}}.
    """
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _overridden(content: dict[str, Any], override: str) -> dict[str, Any]:
    """Returns `content` with one value replaced; what is not on the way to it is shared."""
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value, e.g. train.batch_size=8192")
    parts = key.split(".")
    try:
        value = _value(text, annotation_at(parts))
    except UnicodeEncodeError as error:
        raise ConfigError(f"override {override!r}: the value is not UTF-8") from error
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "it can't be read"
        raise ConfigError(f"override {override!r}: the value is not YAML: {problem}") from error
    try:
        changed: dict[str, Any] = _with_value(content, parts, 0, value)
    except ValueError as error:
        raise ConfigError(f"override {override!r}: {error}") from None
    return changed


def _with_value(section: Any, parts: Sequence[str], depth: int, value: Any) -> Any:
    """Returns a copy of `section`, the value at `parts[:depth]`, with `value` at `parts`."""
    if depth == len(parts):
        return value
    here, part = ".".join(parts[:depth]), parts[depth]
    if section is None:
        section = _default_list_at(parts[:depth])
    if isinstance(section, list):
        if not part.isdecimal() or int(part) >= len(section):
            raise ValueError(f"{here} is a list of {len(section)} items, from 0 on: it has no {part}")
        items = list(section)
        items[int(part)] = _with_value(items[int(part)], parts, depth + 1, value)
        return items
    if not isinstance(section, dict | None):
        raise ValueError(f"{here} is no section")
    # A section that isn't written out, or only its name, begins with nothing in it.
    items_by_key = section or {}
    return {**items_by_key, part: _with_value(items_by_key.get(part), parts, depth + 1, value)}


def _default_list_at(location: Sequence[str]) -> list[Any] | None:
    """Returns the default of a key that a config doesn't write out, if it is a list."""
    if not location:
        return None
    fields = getattr(annotation_at(location[:-1]), "model_fields", {})
    field = fields.get(location[-1])
    default = field.get_default(call_default_factory=True) if field else None
    return default if isinstance(default, list) else None


def _value(text: str, annotation: Any) -> Any:
    """Returns the value of an override: YAML, but the very text where text is wanted and it isn't quoted.

    YAML would read 1e5 or 2026-11-23 as something else, and take what follows ` #` for a comment.
    """
    text.encode("utf-8")
    stripped = text.strip()
    is_text = _takes_text(annotation)
    if is_text and stripped[:1] not in ("'", '"') and stripped not in _NULLS:
        return stripped
    value = _yaml(text)
    # YAML 1.1 reads 1e-3 as a string; people mean a number.
    if isinstance(value, str) and not is_text:
        with suppress(ValueError):
            value = float(value)
    return value


def _takes_text(annotation: Any) -> bool:
    """Returns whether a value of this type is text, or one of several texts, or null."""
    if get_origin(annotation) is Literal:
        return all(isinstance(value, str) for value in get_args(annotation))
    return annotation is str


def annotation_at(location: Sequence[int | str]) -> Any:
    """Returns the type of what stands at a place in the config, or None where nothing may.

    Example: `("features", "fields", "0", "name")` gives `str`.
    """
    annotation: Any = Config
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, RootModel):
            annotation = annotation.model_fields["root"].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(part))
            annotation = field.annotation if field else None
        elif get_origin(annotation) in (list, dict):
            annotation = get_args(annotation)[-1]
        else:
            return None
        annotation = _without_null(annotation)
    return annotation


def _without_null(annotation: Any) -> Any:
    """Returns `X` of `X | None` and of `Annotated[X, ...]`, else the annotation itself."""
    if get_origin(annotation) is Annotated:
        return _without_null(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return _without_null(parts[0]) if len(parts) == 1 else annotation
    return annotation


def _describe(error: ValidationError) -> str:
    """Returns the first problem as one line: key, value found, what is allowed."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        line = f"unknown key {key}: allowed here are {', '.join(_allowed_keys(first['loc'][:-1]))}"
    elif first["type"] == "missing":
        line = f"key {key} is missing"
    elif first["type"] == "value_error" and isinstance(first["input"], dict | list):
        # The message names what is wrong in it: a whole section says nothing more.
        line = f"{key}: {message}" if key else message
    else:
        line = f"{key} = {_shortened(repr(first['input']))}: {message}"
    more = len(problems) - 1
    return line + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    return list(getattr(annotation_at(location), "model_fields", {}))
