"""JSON records are read by one function, which holds what they say of themselves against what they are."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from esmm_spark.contracts.errors import InputError
from esmm_spark.contracts.features import FeatureSpec
from esmm_spark.files import seals
from esmm_spark.files.records import read_record

SPEC = FeatureSpec.model_validate(
    {"tables": {"t": {"num_buckets": 8}}, "fields": [{"name": "f", "level": "context", "table": "t"}]}
)


class Plain(BaseModel):
    """A record without a version."""

    number: int


class Versioned(BaseModel):
    """A record with a version and a feature spec."""

    format_version: int = 3
    feature_spec: FeatureSpec = SPEC
    feature_spec_digest: str = SPEC.digest


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(Plain(number=7).model_dump_json())
    (tmp_path / "b.json").write_text(Versioned().model_dump_json())
    assert read_record(str(tmp_path / "a.json"), Plain, "again") == Plain(number=7)
    assert read_record(str(tmp_path / "b.json"), Versioned, "again") == Versioned()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            Versioned(format_version=2).model_dump_json(),
            "has format version 2, this esmm_spark reads 3: train",
        ),
        (
            Versioned(feature_spec_digest="abc").model_dump_json(),
            f"says feature spec abc, what it holds has {SPEC.digest}: it is damaged or was changed, train",
        ),
        ("{", r"is not a x\.json of this version: the whole file: .*: train again"),
        ('{"format_version": []}', r"is not a x\.json of this version: format_version: .*: train again"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_record(str(tmp_path / "x.json"), Versioned, "train again")


def test_a_record_that_is_not_what_the_marker_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seals, "_PATIENCE_S", 0.0)
    (tmp_path / "x.json").write_text('{"number": 1}')
    seals.seal(str(tmp_path), (".json",))
    (tmp_path / "x.json").write_text('{"number": 2}')
    with pytest.raises(InputError, match=r"x\.json has another SHA-256"):
        read_record(str(tmp_path / "x.json"), Plain, "train again")
