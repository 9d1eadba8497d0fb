"""Where a rank computes, and whether it writes something for TensorBoard."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import fs

from esmm_spark.contracts.errors import ConfigError
from esmm_spark.files import filesystems
from esmm_spark.training import build
from esmm_spark.training.ranks.cluster import Cluster
from esmm_spark.training.run import train
from tests.synthetic_examples import small_config
from tests.training.conftest import SETTINGS
from tests.training.runs import curve


def set_devices(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


def test_auto_takes_a_gpu_for_each_rank_of_the_host_where_there_are_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ranks = [Cluster(rank=4 + local, num_ranks=8, local_rank=local, local_ranks=4) for local in range(4)]
    set_devices(monkeypatch, 4)
    assert [build._device("auto", rank) for rank in ranks] == [torch.device("cuda", n) for n in range(4)]
    assert [build._device("cuda", rank) for rank in ranks] == [torch.device("cuda", n) for n in range(4)]
    assert build._device("cpu", ranks[1]) == torch.device("cpu")
    set_devices(monkeypatch, 0)
    assert build._device("auto", ranks[1]) == torch.device("cpu")


def test_cuda_without_a_gpu_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_devices(monkeypatch, 0)
    with pytest.raises(ConfigError, match=r"train\.device = 'cuda', but torch finds no CUDA device: use"):
        build._device("cuda", Cluster(rank=0, num_ranks=1, local_rank=0, local_ranks=1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_on_a_gpu_learns_what_a_run_on_the_cpu_does(new_run: Callable[..., Path]) -> None:
    folder = new_run().parent
    losses = {}
    for device in ("cpu", "cuda"):
        train(small_config(folder, **SETTINGS, device=device, resume=False))
        losses[device] = curve(folder / "model")
    np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-3)


def test_tensorboard_logs_only_where_its_writer_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path, tensorboard=True)
    assert build._log_folder(config) == str(tmp_path / "model" / "tensorboard")
    assert build._log_folder(small_config(tmp_path, tensorboard=False)) is None
    far = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(filesystems, "filesystem_of", lambda uri: (far, "model"))
    assert build._log_folder(config) is None
