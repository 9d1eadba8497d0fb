"""Large scratch arrays lie in files, where there is room for them."""

from pathlib import Path

import numpy as np
import pytest

from esmm_spark.evaluation.kernels import scratch
from tests.files.disks import small_disk


def test_a_large_array_on_a_disk_without_room_is_refused_before_anything_is_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 1024) as disk:
        monkeypatch.setenv("SPARK_LOCAL_DIRS", str(disk))
        small = scratch.empty(1000, np.int64, memory_bytes=0)
        small[:] = 7
        with pytest.raises(OSError, match="No space left on device"):
            scratch.empty(1 << 20, np.int64, memory_bytes=0)
        assert small.sum() == 7000
