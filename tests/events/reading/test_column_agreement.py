"""Which columns of different logs can hold the same ids."""

from pathlib import Path

import pyarrow as pa
import pytest

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.events.reading.column_agreement import check_agreement
from esmm_spark.reading.column_types import parquet_type
from tests.events.small_logs import config


def test_ids_whose_types_can_not_be_made_equal_name_both_columns_and_types(tmp_path: Path) -> None:
    funnel = config(tmp_path).funnel

    def check(**users: pa.DataType) -> None:
        types = {}
        for log in ("impressions", "clicks", "conversions"):
            kinds = {
                "user_id": users.get(log, pa.int64()),
                "features.category": users.get(f"{log}_category", pa.string()),
            }
            types[log] = {name: parquet_type(kind, "") for name, kind in kinds.items()}
        check_agreement(funnel, types)

    for kind in (pa.uint8(), pa.float64(), pa.decimal128(9, 2), pa.large_string(), pa.binary(), pa.null()):
        check(clicks=kind)
    for kind in (pa.timestamp("us"), pa.bool_(), pa.date32()):
        with pytest.raises(ConfigError) as told:
            check(clicks=kind)
        assert str(told.value).startswith(
            "user_id: logs.events.impressions.user_id = 'user_id' is int64, logs.events.clicks.user_id = "
            f"'user_id' is {kind}: no value of the one can equal one of the other"
        )
    check(clicks_category=pa.int32())
    with pytest.raises(
        ConfigError, match=r"cross cross: .*features.category = 'category' is string, .*timestamp"
    ):
        check(clicks_category=pa.timestamp("us"))
