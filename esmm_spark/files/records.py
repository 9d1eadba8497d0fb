"""JSON records, held against their folder's marker, schema, version and feature spec."""

import posixpath
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from esmm_spark.contracts.errors import InputError
from esmm_spark.files import seals

Record = TypeVar("Record", bound=BaseModel)


def read_record(uri: str, schema: type[Record], remedy: str) -> Record:
    """Returns the record in the JSON file at `uri`.

    A schema with a `format_version` has the one that is read as its default. One with a `feature_spec` has
    the digest that it was written with as `feature_spec_digest`.

    Args:
        uri: the file.
        schema: the record's model.
        remedy: what the user should do about a file that can't be read ("train again").

    Raises:
        InputError: no such file, not what its folder's marker says, not of the schema, of another version, or
            its feature spec has another digest.
    """
    content = seals.read_sealed(uri, remedy)
    try:
        record = schema.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError(
            f"{uri} is not a {posixpath.basename(uri)} of this version: {where}: {first['msg']}: {remedy}"
        ) from error
    if (version := schema.model_fields.get("format_version")) is not None:
        found = getattr(record, "format_version", None)
        if found != version.default:
            raise InputError(
                f"{uri} has format version {found}, this esmm_spark reads {version.default}: {remedy}"
            )
    if (spec := getattr(record, "feature_spec", None)) is not None:
        said = getattr(record, "feature_spec_digest", None)
        if said != spec.digest:
            raise InputError(
                f"{uri} says feature spec {said}, what it holds has {spec.digest}: it is damaged or was "
                f"changed, {remedy}"
            )
    return record
