"""The feature spec: offsets, digest, and what it refuses."""

from typing import Any

import pytest
from pydantic import ValidationError

from esmm_spark.contracts.errors import SpecMismatchError
from esmm_spark.contracts.features import FeatureSpec, TableSpec, describe_difference
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.manifest import require_same_spec


def spec(user: int = 10, item: int = 20, **field: Any) -> FeatureSpec:
    return FeatureSpec(
        tables={"user": TableSpec(num_buckets=user), "item": TableSpec(num_buckets=item)},
        fields=[
            FieldSpec(name="user", level="context"),
            FieldSpec(name="history", level="context", table="item", multi=True, **field),
            FieldSpec(name="item", level="impression"),
        ],
    )


def test_tables_lie_one_after_the_other_in_the_arena() -> None:
    assert spec().offsets == {"user": 0, "item": 10}
    assert spec().num_rows == 30


def test_fields_that_share_a_table_use_its_name() -> None:
    assert [field.table_name for field in spec().fields] == ["user", "item", "item"]


def test_fields_keep_their_order_by_level() -> None:
    assert [field.name for field in spec().context_fields] == ["user", "history"]
    assert [field.name for field in spec().impression_fields] == ["item"]


def test_rows_become_bigint_from_2_to_the_31_on() -> None:
    assert spec(user=2**31 - 21).row_type == "int"
    assert spec(user=2**31 - 20).row_type == "bigint"


def test_an_arena_whose_rows_do_not_fit_into_64_bits_is_refused() -> None:
    assert spec(user=2**63 - 21).num_rows == 2**63 - 1
    with pytest.raises(ValidationError, match="the tables have 9,223,372,036,854,775,808 buckets together"):
        spec(user=2**63 - 20)


def test_the_digest_changes_with_whatever_changes_rows_or_bags() -> None:
    digests = [spec(), spec(user=11), spec(min_count=2), spec(pooling="mean"), spec(weighted=True)]
    assert len({one.digest for one in digests}) == len(digests)
    assert spec().digest == spec().digest
    # The same tables in another order have other offsets.
    swapped = FeatureSpec(tables=dict(reversed(spec().tables.items())), fields=spec().fields)
    assert swapped.digest != spec().digest


def test_a_spec_without_sequences_has_the_digest_that_it_had_before_there_were_any() -> None:
    assert spec().digest == "4abe1011c8e16615"
    unpooled = [spec(pooling="none", max_length=length).digest for length in (5, 6)]
    assert len({spec().digest, *unpooled}) == 3


def test_fields_that_are_not_pooled_stand_apart() -> None:
    unpooled = spec(pooling="none", max_length=5)
    assert [field.name for field in unpooled.pooled_context_fields] == ["user"]
    assert [field.name for field in unpooled.sequence_fields] == ["history"]
    assert spec().sequence_fields == []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, "field f has pooling: none, but has no max_length: set how many of the newest values are kept"),
        ({"max_length": 0}, "greater than or equal to 1"),
        (
            {"max_length": 5, "multi": False},
            "field f has pooling: none, but holds one value: set multi: true",
        ),
        (
            {"max_length": 5, "level": "impression"},
            "pooling: none, but level: impression: only a context has values that are not pooled",
        ),
        ({"max_length": 5, "pooling": "mean"}, "field f is pooled by mean, but has max_length = 5, which is"),
    ],
)
def test_an_unpooled_field_that_does_not_add_up_is_refused(keys: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        FieldSpec(**{"name": "f", "level": "context", "multi": True, "pooling": "none", **keys})


@pytest.mark.parametrize(
    ("tables", "names", "expected"),
    [
        ({"a": 10}, ["a", "a"], r"fields \['a'\] are declared twice"),
        ({"a": 10}, ["a", "b"], r"fields use tables \['b'\]"),
        ({"a": 10, "b": 10}, ["a"], r"no field uses the tables \['b'\]"),
        ({"a": 1}, ["a"], "greater than or equal to 2"),
    ],
)
def test_a_spec_that_does_not_add_up_is_refused(
    tables: dict[str, int], names: list[str], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        FeatureSpec.model_validate(
            {
                "tables": {name: {"num_buckets": size} for name, size in tables.items()},
                "fields": [{"name": name, "level": "context"} for name in names],
            }
        )


def test_a_mismatch_names_both_and_what_differs() -> None:
    with pytest.raises(SpecMismatchError, match=r"the model .* dataset d .*they differ in fields history"):
        require_same_spec(spec(), "the model", spec(min_count=3), "dataset d")
    assert describe_difference(spec(), spec(user=11)) == "tables user"
    require_same_spec(spec(), "a", spec(), "b")
