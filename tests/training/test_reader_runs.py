"""Runs that read with pyarrow alone."""

from pathlib import Path

import pytest

from esmm_spark.training.run import train
from tests.synthetic_examples import small_config
from tests.training.conftest import SETTINGS
from tests.training.runs import assert_same_to_the_bit, stop_at


def test_a_run_goes_on_in_the_middle_of_an_epoch_with_the_other_reader_to_the_same_bits(
    dataset: Path, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dataset").symlink_to(dataset)
    with monkeypatch.context() as patch:
        stop_at(7, patch)
        with pytest.raises(SystemExit):
            train(small_config(tmp_path, **SETTINGS, reader="petastorm"))
    assert train(small_config(tmp_path, **SETTINGS, reader="arrow")) is not None
    assert_same_to_the_bit(tmp_path / "model", uninterrupted)
