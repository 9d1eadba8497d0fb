import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esmm_spark.model.embedding.sharding import ShardedRows, num_local_rows


@given(st.integers(1, 500), st.integers(1, 9))
def test_the_ranks_own_every_row_exactly_once(num_rows: int, num_ranks: int) -> None:
    owned = [[row for row in range(num_rows) if row % num_ranks == rank] for rank in range(num_ranks)]
    assert [num_local_rows(num_rows, rank, num_ranks) for rank in range(num_ranks)] == [*map(len, owned)]


@pytest.mark.parametrize("shape", [(31, 3), (31,)])
@pytest.mark.parametrize("num_shards", [1, 2, 3, 5])
@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4])
def test_rows_of_any_number_of_shards_serve_any_number_of_ranks(
    num_shards: int, num_ranks: int, shape: tuple[int, ...]
) -> None:
    rows = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    sharded = ShardedRows([rows[shard::num_shards] for shard in range(num_shards)])

    for rank in range(num_ranks):
        np.testing.assert_array_equal(sharded.of_rank(rank, num_ranks), rows[rank::num_ranks])
    wanted = np.array([30, 0, 7, 7, 29, 1], np.int32)
    np.testing.assert_array_equal(sharded.gather(wanted), rows[wanted])
    assert sharded.num_rows == 31


def test_a_ranks_own_shard_is_no_copy() -> None:
    shards = [np.zeros((3, 2), np.float32), np.zeros((2, 2), np.float32)]
    assert ShardedRows(shards).of_rank(1, 2) is shards[1]


def test_gathering_in_chunks_misses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esmm_spark.model.embedding.sharding._CHUNK_ROWS", 4)
    rows = np.arange(100, dtype=np.float32)
    sharded = ShardedRows([rows[0::3], rows[1::3], rows[2::3]])
    np.testing.assert_array_equal(sharded.of_rank(1, 2), rows[1::2])
