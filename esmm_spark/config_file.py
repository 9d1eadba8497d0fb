"""Reads a config: a YAML file, what it extends, and `key=value` overrides.

`extends: other.yaml` begins with the content of another file, named relative to this one; sections are merged
key by key. `key=value` arguments override single keys by their dotted path: `train.batch_size=8192`. A value
is read as YAML.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from esmm_spark.config import Config
from esmm_spark.errors import ConfigError

_EXTENDS = "extends"


def load_config(path: str, overrides: Sequence[str] = ()) -> Config:
    """Returns the validated config of the YAML file at `path` with `key=value` overrides applied.

    Raises:
        ConfigError: no such file, no UTF-8 or YAML, files that extend each other in a circle, an unknown key,
            a value out of range, or an override without `=`.
    """
    content = _read(Path(path), ())
    for override in overrides:
        _apply(content, override)
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_describe(error)}") from error


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


def _yaml(text: str) -> Any:
    """Returns what a YAML text holds; libyaml reads it ten times as fast, where PyYAML was built with it."""
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Returns `base` with the keys of `over`, dicts merged key by key.

    Example: {a: {x: 1, y: 2}} and {a: {y: 3}} give {a: {x: 1, y: 3}}.
    """
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value, e.g. train.batch_size=8192")
    try:
        value = _yaml(text)
    except (yaml.YAMLError, UnicodeEncodeError) as error:
        raise ConfigError(f"override {override!r}: the value is not YAML") from error
    # YAML 1.1 reads 1e-3 as a string; people mean a number.
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            pass
    *parents, last = key.split(".")
    section: Any = content
    for depth, parent in enumerate(parents):
        section = section.setdefault(parent, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise ConfigError(f"override {override!r}: {'.'.join(parents[: depth + 1])} is no section")
    section[last] = value


def _describe(error: ValidationError) -> str:
    """Returns the first problem as one line: key, value found, what is allowed."""
    problems = error.errors()
    first = problems[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        line = f"unknown key {key}: allowed here are {', '.join(_allowed_keys(first['loc'][:-1]))}"
    elif first["type"] == "missing":
        line = f"key {key} is missing"
    else:
        line = f"{key} = {first['input']!r}: {first['msg'].removeprefix('Value error, ')}"
    more = len(problems) - 1
    return line + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")


def _allowed_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for part in location:
        # A list's index or a dict's own key leads to the same model as the list or dict itself.
        if isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = _innermost_model(model.model_fields[part].annotation)
    return list(getattr(model, "model_fields", {}))


def _innermost_model(annotation: Any) -> Any:
    """Returns the pydantic model in `list[M]`, `dict[str, M]` or `M | None`, else the annotation itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        model = _innermost_model(argument)
        if isinstance(model, type) and issubclass(model, BaseModel):
            return model
    return annotation
