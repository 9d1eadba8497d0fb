"""Classes and functions of a user's own, named in the config as `package.module:Name`."""

import importlib
import traceback
from typing import Any

from esmm_spark.contracts.errors import ConfigError


def import_named(key: str, name: str, allowed: str) -> Any:
    """Returns what `name` names.

    Args:
        key: the config's, for messages, e.g. `model.network`.
        name: `package.module:Name`.
        allowed: what the key may hold, for messages.

    Raises:
        ConfigError: it is not of that form, or can't be imported.
    """
    module_name, separator, own_name = name.partition(":")
    if not (separator and module_name and own_name):
        raise ConfigError(f"{key} = {name!r} is unknown: {allowed}")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(f"{key} = {name!r}: can't import {module_name} ({error}): {allowed}") from error
    except Exception as error:
        raise ConfigError(f"{key} = {name!r}: can't import {module_name}: {failure(error)}") from error
    found = getattr(module, own_name, None)
    if found is None:
        raise ConfigError(f"{key} = {name!r}: {module_name} has no {own_name}: {allowed}")
    return found


def failure(error: Exception) -> str:
    """Returns an exception of other people's code in one line: class, message, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"
