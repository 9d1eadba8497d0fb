"""Fields of numbers and vectors: the tables that they get, what is refused, whose digest stays."""

from typing import Any

import pytest
from pydantic import ValidationError

from esmm_spark.contracts.errors import SpecMismatchError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.contracts.fields.field_spec import FieldSpec
from esmm_spark.contracts.fields.fitted import FittedNumber, require_same_fitted
from tests.contracts.test_features import spec


def numbered(tables: dict[str, Any] | None = None, **field: Any) -> FeatureSpec:
    fields = [{"name": "price", "level": "impression", "kind": "numeric", **field}]
    return FeatureSpec.model_validate({"tables": tables or {}, "fields": fields})


@pytest.mark.parametrize(
    ("field", "num_buckets"),
    [
        # 'rare', missing, scaled, four buckets.
        ({"buckets": [0, 1, 10]}, 7),
        ({"quantile": 50, "scaled": True}, 53),
        ({"transform": "log1p"}, 3),
        ({"kind": "vector", "size": 64}, 65),
    ],
)
def test_a_number_or_vector_has_a_table_of_the_size_that_it_needs(
    field: dict[str, Any], num_buckets: int
) -> None:
    made = numbered(**field)
    assert made.tables["price"].num_buckets == num_buckets
    assert FeatureSpec.model_validate(made.model_dump(mode="json")) == made


def test_a_number_is_scaled_where_it_has_no_buckets_or_says_so() -> None:
    keys: list[dict[str, Any]] = [{}, {"quantile": 2}, {"quantile": 2, "scaled": True}]
    fields = [numbered(**own).fields[0] for own in keys]
    assert [field.is_scaled for field in fields] == [True, False, True]
    assert [field.is_fitted for field in fields] == [True, True, True]
    assert not numbered(buckets=[1]).fields[0].is_fitted


def test_the_digest_changes_with_a_key_of_a_number_and_not_with_what_was_categorical_before() -> None:
    digests = [numbered(), numbered(clip=[0, 1]), numbered(quantile=3), numbered(buckets=[1, 2, 3])]
    assert len({made.digest for made in digests}) == len(digests)
    assert spec(kind="categorical").digest == spec().digest


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"kind": None, "buckets": [1]}, "has buckets, which is not of kind categorical: set kind: numeric"),
        ({"size": 3}, "has size, which is not of kind numeric: set kind: vector"),
        ({"kind": "vector"}, "is of kind vector, but has no size"),
        ({"multi": True}, "is of kind numeric, which has no multi: leave it out"),
        ({"min_count": 2}, "which has no min_count"),
        ({"buckets": [1], "quantile": 3}, "has buckets and quantile = 3: set one of them"),
        ({"buckets": [1, 1]}, r"has buckets \[1.0, 1.0\], which must ascend"),
        ({"scaled": False}, "neither scaled nor in buckets"),
        ({"buckets": [1], "transform": "log1p"}, "which is of a scaled vector: set scaled: true"),
        ({"clip": [1, 0]}, r"has clip \[1.0, 0.0\], whose first must be below its second"),
        ({"tables": {"price": {"num_buckets": 2}}}, "needs 3 buckets, and features.tables has 2"),
    ],
)
def test_a_number_that_does_not_add_up_is_refused(field: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        numbered(**field)


def test_a_table_of_a_number_is_its_own() -> None:
    number = FieldSpec(name="price", level="impression", kind="numeric")
    other = FieldSpec(name="item", level="impression", table="price")
    with pytest.raises(ValidationError, match=r"shares its table with \['item'\]"):
        FeatureSpec.model_validate({"tables": {}, "fields": [number, other]})


def test_other_boundaries_are_refused_in_one_line_that_names_both_and_the_field() -> None:
    ours, theirs = {"price": FittedNumber(mean=1)}, {"price": FittedNumber(mean=2)}
    with pytest.raises(SpecMismatchError, match=r"d has fitted boundaries .* m has .*in price\)") as told:
        require_same_fitted(ours, "d", theirs, "m")
    assert "\n" not in str(told.value)
    require_same_fitted(ours, "d", dict(ours), "m")
