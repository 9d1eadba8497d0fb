"""The feature spec: fields, the tables that their values are hashed into, the arena that holds all tables.

    feature field -> value -> bucket (of a table) -> row (of the arena)

Worked example: field "206" in table "category" of 1,000 buckets at offset 5,000. Its value "8316799" has
bucket 1 + pmod(xxhash64("category=8316799", seed 42), 999) and row 5,000 + bucket. Row 5,000, bucket 0, is
'rare'.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from esmm_spark.contracts.fields.field_spec import KIND_KEYS, FieldSpec, Level
from esmm_spark.contracts.section import Section

HASH_FUNCTION = "xxhash64"
HASH_SEED = 42


class TableSpec(Section):
    """One table of the arena: the buckets that the values of its fields share."""

    num_buckets: Annotated[int, Field(ge=2, description="Buckets of the table; bucket 0 holds rare values.")]


class FeatureSpec(Section):
    """All fields and tables. Two specs with the same `digest` turn the same log into the same rows."""

    tables: Annotated[
        dict[str, TableSpec],
        Field(min_length=1, description="Table name -> its size. Numbers and vectors need none."),
    ]
    fields: Annotated[
        list[FieldSpec], Field(min_length=1, description="The fields, in the order of the examples.")
    ]

    @model_validator(mode="before")
    @classmethod
    def _add_numbered_tables(cls, content: Any) -> Any:
        """Declares the tables of numbers and vectors, whose size follows from the field."""
        if not isinstance(content, dict) or not isinstance(content.get("fields"), list):
            return content
        if not isinstance(content.get("tables", {}), dict):
            return content
        tables, fields = dict(content.get("tables", {})), []
        for field in content["fields"]:
            # A wrong one stays as it is: its error names its place once the fields are validated.
            with suppress(ValidationError):
                field = FieldSpec.model_validate(field) if isinstance(field, dict) else field
            if isinstance(field, FieldSpec) and field.is_numbered and field.name not in tables:
                tables[field.name] = TableSpec(num_buckets=field.num_numbered_buckets)
            fields.append(field)
        return {**content, "tables": tables, "fields": fields}

    @model_validator(mode="after")
    def _check_numbered_tables(self) -> Self:
        for field in self.fields:
            if not field.is_numbered:
                continue
            found, needed = self.tables[field.name].num_buckets, field.num_numbered_buckets
            if found < needed:
                raise ValueError(
                    f"field {field.name} of kind {field.kind} needs {needed} buckets, and features.tables "
                    f"has {found}: leave its table out"
                )
            sharing = [o.name for o in self.fields if o.table_name == field.name and o.name != field.name]
            if sharing:
                raise ValueError(f"field {field.name} of kind {field.kind} shares its table with {sharing}")
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [field.name for field in self.fields]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"fields {repeated} are declared twice")
        missing = sorted({field.table_name for field in self.fields} - set(self.tables))
        if missing:
            raise ValueError(f"fields use tables {missing}, which `tables` does not declare")
        unused = sorted(set(self.tables) - {field.table_name for field in self.fields})
        if unused:
            raise ValueError(f"no field uses the tables {unused}")
        if self.num_rows >= 2**63:
            raise ValueError(
                f"the tables have {self.num_rows:,} buckets together, but rows are numbered in 64 bits, "
                "below 2^63: lower num_buckets"
            )
        return self

    def of_level(self, level: Level) -> list[FieldSpec]:
        """Returns the fields of one level in their order, which is the order of the bags in the examples."""
        return [field for field in self.fields if field.level == level]

    @property
    def context_fields(self) -> list[FieldSpec]:
        """The fields that a group's impressions share."""
        return self.of_level("context")

    @property
    def pooled_context_fields(self) -> list[FieldSpec]:
        """Those of `context_fields` whose values become one vector."""
        return [field for field in self.context_fields if field.is_pooled]

    @property
    def sequence_fields(self) -> list[FieldSpec]:
        """Those of `context_fields` whose values the network gets one by one, `pooling: none`."""
        return [field for field in self.context_fields if not field.is_pooled]

    @property
    def impression_fields(self) -> list[FieldSpec]:
        """The fields that each impression has for itself."""
        return self.of_level("impression")

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Table name -> its first row in the arena. Tables lie in the order of `tables`."""
        offsets, next_offset = {}, 0
        for name, table in self.tables.items():
            offsets[name] = next_offset
            next_offset += table.num_buckets
        return offsets

    @property
    def num_rows(self) -> int:
        """Rows of the arena: the sum of all tables' buckets."""
        return sum(table.num_buckets for table in self.tables.values())

    @property
    def row_type(self) -> Literal["int", "bigint"]:
        """The Spark SQL type of arena rows: `bigint` once the arena has 2^31 or more."""
        return "int" if self.num_rows < 2**31 else "bigint"

    @property
    def fitted_fields(self) -> list[FieldSpec]:
        """The fields whose boundaries, mean or scale come from the training split."""
        return [field for field in self.fields if field.is_fitted]

    @property
    def needs_vocabulary(self) -> bool:
        """Whether a field has `min_count` > 1, so that its frequent values must be known to hash it."""
        return any(field.min_count > 1 for field in self.fields)

    @cached_property
    def digest(self) -> str:
        """16 hex digits, equal for two specs only if they give the same arena rows and the same bags."""
        content = {"hash": [HASH_FUNCTION, HASH_SEED], **self.model_dump(mode="json")}
        for field in content["fields"]:
            # Specs of before there was a maximum keep their digests.
            if field["max_length"] is None:
                del field["max_length"]
            if field["kind"] in (None, "categorical"):
                # Nor did they know of kinds.
                for key in KIND_KEYS:
                    del field[key]
        # A dict's order decides the offsets, so the tables are hashed as a list of pairs.
        content["tables"] = [[name, table.num_buckets] for name, table in self.tables.items()]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def describe_difference(ours: FeatureSpec, theirs: FeatureSpec) -> str:
    """Returns in a few words where two feature specs differ, for the message of a SpecMismatchError."""

    def differing(what: str, a: Iterable[tuple[str, object]], b: Iterable[tuple[str, object]]) -> list[str]:
        first, second = dict(a), dict(b)
        names = sorted(n for n in first.keys() | second.keys() if first.get(n) != second.get(n))
        return [f"{what} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"] if names else []

    parts = differing("fields", [(f.name, f) for f in ours.fields], [(f.name, f) for f in theirs.fields])
    parts += differing("tables", ours.tables.items(), theirs.tables.items())
    return "; ".join(parts) or "the order of fields or tables"
