"""Rounding to bfloat16 as torch rounds."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from esmm_spark.model.fused.product_kernels import to_bfloat16
from esmm_spark.model.kernels.compilation import kernel


@kernel
def _round(x: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    for i in range(x.shape[0]):
        out[i] = to_bfloat16(x[i])


def test_numbers_are_rounded_as_torch_rounds_them() -> None:
    bits = np.random.default_rng(1).integers(0, 1 << 32, 100_000, dtype=np.uint64).astype(np.uint32)
    ties = np.arange(0x3F800000, 0x3F900000, 0x8000, dtype=np.uint32)
    special = np.array([0, np.inf, -np.inf, -0.0, 3.4e38, 1e-45], np.float32)
    x = np.concatenate([bits.view(np.float32), ties.view(np.float32), special])
    out = np.empty(len(x), np.uint16)
    _round(x, out)
    found = torch.from_numpy(out.view(np.int16)).view(torch.bfloat16).float()
    torch.testing.assert_close(found, torch.from_numpy(x).bfloat16().float(), rtol=0, atol=0, equal_nan=True)
